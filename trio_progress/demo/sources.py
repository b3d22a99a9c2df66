"""Sources: hits that were read again and scored, which repeat others, and the names that they lead to."""

from __future__ import annotations

import builtins
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from .corpus import read_lines
from .ranking import Statistics, coverage, resemblance, shingles, span
from .search import Hit, WantedTerms
from .text import LineKind, Passage, parts, passages, stem, terms, words

if TYPE_CHECKING:
    from .questions import Question

ALIKE = 0.7
"""From this resemblance on, one of two passages is a duplicate."""
LEADS = 3
"""Names at most that are followed up in one round."""

# The weight of each property of a source; together 1.
_WORTH = {"relevance": 0.35, "coverage": 0.2, "naming": 0.2, "nearness": 0.1, "prose": 0.1, "followed": 0.05}

_COMPOUND = re.compile(r"_?[A-Za-z]+(?:_[a-z0-9]+)+|[A-Z]?[a-z][a-z0-9]+(?:[A-Z][a-z0-9]+)+")
_LONGEST_NAME = 60
_NAMES = 30


class Source(msgspec.Struct):
    """A passage that may answer the question."""

    path: str
    line: int
    end: int
    scope: str
    score: float
    """From 0 to 1."""
    worth: dict[str, float]
    """The properties that make the score, each from 0 to 1."""
    terms: list[str]
    """The terms of the question that its path or its text has."""
    digest: str
    found_by: str
    """The query that it answers best."""
    names: dict[str, int]
    """Its most frequent compound names, and how often each occurs."""

    @property
    def key(self) -> tuple[str, int]:
        """Its place: no two sources begin at the same one."""
        return (self.path, self.line)

    def follow(self, score: float) -> None:
        """Takes in how well it answers a query that other sources led to, from 0 to 1."""
        gain = max(0.0, score - self.worth["followed"])
        self.worth["followed"] += gain
        self.score += _WORTH["followed"] * gain


class Reader:
    """Reads passages of a corpus again, and keeps those of the file that it read last."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._path: str | None = None
        self._passages: dict[int, Passage] = {}

    def passage(self, path: str, line: int) -> Passage | None:
        """The passage that begins at a line; None where none does (any more)."""
        if path != self._path:
            lines = read_lines(self._root, path)
            self._path = path
            self._passages = {} if isinstance(lines, str) else {found.line: found for found in passages(path, lines)}
        return self._passages.get(line)


def judge(
    hit: Hit, relevance: float, passage: Passage, question: Question, statistics: Statistics, aims: Sequence[str]
) -> Source:
    """Scores a passage as a source.

    Args:
        hit: How it was found.
        relevance: How well it answers the queries, from 0 to 1.
        passage: The text.
        question: The question.
        statistics: Of the whole corpus.
        aims: The terms of the question that are not its subjects.
    """
    wanted = WantedTerms(question.terms, question.joined)
    positions: dict[str, list[int]] = {}
    text = words("\n".join(passage.lines))
    for position, word in enumerate(text):
        for term in wanted[word]:
            positions.setdefault(term, []).append(position)
    around = {term for word in words(f"{hit.path} {hit.scope}") for term in wanted[word]}
    query = dict.fromkeys(question.terms, 1.0)
    present = positions.keys() | around
    worth = {
        "relevance": relevance,
        "coverage": coverage(present, query, statistics),
        "naming": _naming(hit.scope, wanted, question, aims),
        "nearness": min(1.0, 2 * len(positions) / span(positions)) * len(positions) / len(query) if positions else 0.0,
        "prose": _prose(passage.kinds),
        "followed": 0.0,
    }
    return Source(
        path=hit.path,
        line=hit.line,
        end=passage.end,
        scope=hit.scope,
        score=sum(_WORTH[name] * value for name, value in worth.items()),
        worth=worth,
        terms=[term for term in question.terms if term in present],
        digest=hit.digest,
        found_by=max(sorted(hit.scores), key=lambda name: hit.scores[name], default=""),
        names=_names(text),
    )


def _names(text: Sequence[str]) -> dict[str, int]:
    names = Counter(word for word in text if len(word) <= _LONGEST_NAME and _COMPOUND.fullmatch(word))
    return dict(names.most_common(_NAMES))


def _naming(scope: str, wanted: WantedTerms, question: Question, aims: Sequence[str]) -> float:
    """How well a passage's name agrees with the aims: the harmonic mean of precision and recall.

    A little less where only the stems agree.
    """
    names = words(scope)
    named = [name for name in names if wanted[name]]
    met = {term for name in named for term in wanted[name]} & set(aims)
    if not met:
        return 0.0
    # A compound counts by the parts that are asked for: `cancel_all_tasks` has 2/3 of its own in "cancel tasks".
    precision = sum(len(wanted[name]) / max(len(terms(name)) - 1, len(wanted[name])) for name in named) / len(names)
    recall = len(met) / len(aims)
    asked = {word.lower() for word in question.written.values()}
    spelled = {piece.lower() for name in named for piece in parts(name) if stem(piece) in met}
    exact = spelled <= asked
    return 2 * precision * recall / (precision + recall) * (1.0 if exact else 0.85)


def _prose(kinds: Sequence[LineKind]) -> float:
    """How much of a passage is explanation: a definition with its docstring has all of it."""
    share = min(1.0, kinds.count("prose") / 4)
    return share if "head" in kinds or len(kinds) == kinds.count("prose") else share / 2


def without_duplicates(sources: Sequence[Source], texts: Sequence[Sequence[str]]) -> tuple[list[int], int]:
    """Which sources to keep, best first, and how many nearly repeat a better one; `texts` has the words of each."""
    order = sorted(range(len(sources)), key=lambda number: sort_key(sources[number]))
    runs = [shingles(text) for text in texts]
    kept: list[int] = []
    for number in order:
        if all(
            sources[number].digest != sources[other].digest and resemblance(runs[number], runs[other]) < ALIKE
            for other in kept
        ):
            kept.append(number)
    return kept, len(sources) - len(kept)


def sort_key(source: Source) -> tuple[float, str, int]:
    """Best first; of equals, the first in the corpus."""
    return (-source.score, source.path, source.line)


def leads(question: Question, sources: Sequence[Source], followed: Sequence[str]) -> list[str]:
    """The names to look up next: those that the best sources have and the question has not, except Python's own.

    Names with terms of the question count for more ("CancelledError" in a question about cancelling). Those in
    `followed` were looked up before.
    """
    asked = set(question.terms)
    known = {name.strip("_").lower() for name in followed}
    weight: Counter[str] = Counter()
    spelled: dict[str, str] = {}
    for source in sources:
        for name, count in source.names.items():
            own, *pieces = terms(name)
            if own in asked or own in known or hasattr(builtins, name):
                continue
            related = len(asked.intersection(pieces))
            weight[own] += source.score * min(count, 3) * (1 + 2 * related)  # type: ignore[assignment]
            spelled.setdefault(own, name)
    best = sorted(weight.items(), key=lambda item: (-item[1], item[0]))
    return [spelled[own] for own, _ in best[:LEADS]]
