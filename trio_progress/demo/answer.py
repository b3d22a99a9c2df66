"""The answer: sentences and passages quoted from the sources, each with its place, and whether the file has it there.

Nothing in an answer is made up: it is composed of quotes, so that reading the files again can check it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

import msgspec

from ..terminal.printable import printable
from .corpus import read_lines
from .ranking import Statistics, coverage, resemblance, select, shingles
from .search import WantedTerms
from .text import LineKind, Passage, words

if TYPE_CHECKING:
    from .questions import Kind, Question
    from .sources import Source

MAX_QUOTES = 4
MAX_STATEMENTS = 3
SHORT_SENTENCE = 12
"""Words; a sentence of fewer is quoted together with the next."""
MAX_SENTENCE = 400
"""Characters of a sentence that is quoted."""
QUOTED_LINES = 14
MAX_LINE = 160
"""Characters of a line that are quoted."""

_LINE_WORTH: dict[LineKind, float] = {"head": 2.0, "prose": 1.5, "code": 1.0}
_OPENING = re.compile(r"(?:[rRuUbB]{0,2}(?:\"\"\"|''')|#+:?|//+|/\*+|\*+/?|--|;;+|%+)")
_CLOSING = ('"""', "'''", "*/")
_SENTENCE_END = re.compile(r"[.!?][\"')\]]*(?=\s+[\"'(\[`*]*[A-Z])|[.!?:][\"')\]]*$")
_REASONS = re.compile(
    r"\b(?:because|since|so that|in order to|otherwise|to avoid|to prevent|to ensure|reason|hence)\b", re.IGNORECASE
)
_DEFINES = re.compile(r"^(?:an?|the)\b|\b(?:is|are) (?:an?|the|used)\b|\brepresents?\b|\bmeans\b", re.IGNORECASE)


class Statement(msgspec.Struct):
    """A sentence in the prose of a file, on the lines from `line` to `end`."""

    path: str
    line: int
    end: int
    text: str
    scope: str = ""


class Quote(msgspec.Struct):
    """Lines of a file, from `line` on; of a very long one, its beginning."""

    path: str
    line: int
    lines: list[str]
    scope: str
    score: float

    @property
    def end(self) -> int:
        """The number of the last line."""
        return self.line + len(self.lines) - 1


class Answer(msgspec.Struct):
    """What the corpus says about a question."""

    question: str
    statements: list[Statement]
    quotes: list[Quote]
    checked: int = 0
    """Citations that the files have at their places."""
    refuted: int = 0
    """Citations that they have not, and that were taken out."""


def compose(
    question: Question, sources: Sequence[Source], texts: Sequence[Passage], statistics: Statistics, aims: Sequence[str]
) -> Answer:
    """Chooses what to quote.

    Args:
        question: The question.
        sources: The best sources, best first.
        texts: The passage of each.
        statistics: Of the whole corpus.
        aims: The terms of the question that are not its subjects: a sentence should speak of them.
    """
    wanted = WantedTerms(question.terms, question.joined)
    runs = [shingles(words("\n".join(text.lines))) for text in texts]

    def likeness(one: int, other: int) -> float:
        first, second = sources[one], sources[other]
        if (first.path, first.scope) == (second.path, second.scope):
            return 0.8
        same_file = 0.15 if first.path == second.path else 0.0
        return max(same_file, resemblance(runs[one], runs[other]))

    best = sources[0].score if sources else 1.0
    good = [number for number, source in enumerate(sources) if source.score >= 0.5 * best]
    chosen = select(good, MAX_QUOTES, lambda number: sources[number].score / best, likeness)
    quotes = [_quote(sources[number], texts[number], wanted, statistics) for number in chosen]
    return Answer(question.text, _statements(question, aims, sources, texts, wanted, statistics), quotes)


def _quote(source: Source, text: Passage, wanted: WantedTerms, statistics: Statistics) -> Quote:
    """The lines of a passage with the most terms; its first ones, where they have nearly as many."""
    worth = [
        _LINE_WORTH[kind] * sum(statistics.idf(term) for word in words(line) for term in wanted[word])
        for line, kind in zip(text.lines, text.kinds, strict=True)
    ]
    length = min(QUOTED_LINES, len(text.lines))
    sums = [sum(worth[start : start + length]) for start in range(len(text.lines) - length + 1)]
    start = max(range(len(sums)), key=lambda place: (sums[place], -place))
    if "head" in text.kinds[:4] and sums[0] >= 0.6 * sums[start]:
        start = 0
    end = start + length
    while end - 1 > start and not text.lines[end - 1].strip():
        end -= 1
    while start < end - 1 and not text.lines[start].strip():
        start += 1
    lines = [_clipped(line) for line in text.lines[start:end]]
    return Quote(source.path, text.line + start, lines, source.scope, source.score)


def _clipped(line: str) -> str:
    return line if len(line) <= MAX_LINE else line[: MAX_LINE - 1] + "…"


def sentences(text: Passage) -> Iterator[Statement]:
    """The sentences in the prose of a passage, without comment signs; the path is left empty."""
    block: list[tuple[int, str]] = []
    for offset, (line, kind) in enumerate(zip(text.lines, text.kinds, strict=True)):
        bare = _bare(line) if kind == "prose" else ""
        if bare:
            block.append((text.line + offset, bare))
        if block and (not bare or line.rstrip().endswith(_CLOSING)):
            yield from _split(block)
            block = []
    yield from _split(block)


def _bare(line: str) -> str:
    """A line of prose without what makes it a comment or a docstring."""
    text = line.strip()
    opening = _OPENING.match(text)
    if opening is not None:
        text = text[opening.end() :]
    for closing in _CLOSING:
        text = text.removesuffix(closing)
    return text.strip()


def _split(block: Sequence[tuple[int, str]]) -> Iterator[Statement]:
    """The sentences of numbered, consecutive lines; words after the last full stop are not one."""
    whole = " ".join(line for _, line in block)
    starts: list[int] = []
    place = 0
    for _, line in block:
        starts.append(place)
        place += len(line) + 1
    begin = 0
    for match in _SENTENCE_END.finditer(whole):
        end = match.end()
        first, last = (block[bisect_right(starts, place) - 1][0] for place in (begin, end - 1))
        yield Statement("", first, last, whole[begin:end])
        begin = end
        while begin < len(whole) and whole[begin] == " ":
            begin += 1


def _statements(
    question: Question,
    aims: Sequence[str],
    sources: Sequence[Source],
    texts: Sequence[Passage],
    wanted: WantedTerms,
    statistics: Statistics,
) -> list[Statement]:
    query = {term: 1.0 if term in aims else 0.7 for term in question.terms}
    offered: list[tuple[float, Statement]] = []
    for source, text in zip(sources, texts, strict=True):
        around = {term for word in words(f"{source.path} {source.scope}") for term in wanted[word]}
        found = list(sentences(text))
        first = found[0].line if found and "head" in text.kinds else 0
        for sentence in _extended(found):
            if not _readable(sentence.text):
                continue
            present = {term for word in words(sentence.text) for term in wanted[word]}
            if not present:
                continue
            alone = coverage(present, query, statistics)
            with_place = coverage(present | around, query, statistics)
            score = source.score * (0.65 * with_place + 0.35 * alone) * _manner(question.kind, sentence.text)
            if sentence.line == first:
                # The first sentence of a definition is its purpose: the better its name, the more it answers.
                score *= 1 + 0.15 * source.worth["naming"]
            sentence.path, sentence.scope = source.path, source.scope
            offered.append((score, sentence))
    offered.sort(key=lambda item: (-item[0], item[1].path, item[1].line))
    del offered[40:]
    if not offered:
        return []
    best = offered[0][0]
    runs = {id(item): frozenset(words(item[1].text.lower())) for item in offered}
    chosen = select(
        [item for item in offered if item[0] >= 0.55 * best],
        MAX_STATEMENTS,
        lambda item: item[0] / best,
        lambda one, other: _alike(one[1], other[1], runs[id(one)], runs[id(other)]),
        too_alike=0.5,
    )
    return [statement for _, statement in chosen]


def _alike(one: Statement, other: Statement, its_words: frozenset[str], others_words: frozenset[str]) -> float:
    """How alike two statements are, from 0 to 1; 1 for those that share a line."""
    if one.path == other.path and one.line <= other.end and other.line <= one.end:
        return 1.0
    return resemblance(its_words, others_words)


def _extended(found: Sequence[Statement]) -> Iterator[Statement]:
    """The sentences, a short one together with the next, which explains it."""
    for number, sentence in enumerate(found):
        after = found[number + 1] if number + 1 < len(found) else None
        if (
            after is not None
            and len(sentence.text.split()) < SHORT_SENTENCE <= len(after.text.split()) + SHORT_SENTENCE // 2
            and after.line - sentence.end <= 2
            and _readable(after.text)
        ):
            yield msgspec.structs.replace(sentence, end=after.end, text=f"{sentence.text} {after.text}")
        else:
            yield sentence


def _readable(sentence: str) -> bool:
    """Whether this reads as a sentence, not as an example, a table or a list."""
    return (
        len(sentence) <= MAX_SENTENCE
        and 4 <= len(sentence.split()) <= 45
        and sentence[0].isalpha()
        and not any(sign in sentence for sign in ("  ", " : ", ">>>"))
        and sum(character.isalpha() or character == " " for character in sentence) >= 0.8 * len(sentence)
    )


def _manner(kind: Kind, sentence: str) -> float:
    """The weight of a sentence by its wording: an answer to that kind of question, or a remark."""
    factor = 1.0
    if kind == "reason" and _REASONS.search(sentence):
        factor = 1.4
    elif kind == "definition" and _DEFINES.search(sentence):
        factor = 1.3
    if not sentence[0].isupper() or len(sentence.split()) < SHORT_SENTENCE // 2:
        factor *= 0.85
    return factor


def stands(root: str, citation: Quote | Statement) -> bool:
    """Whether a file has what is quoted from it, at those very lines; reads the file again."""
    lines = read_lines(root, citation.path)
    if isinstance(lines, str):
        return False
    there = lines[citation.line - 1 : citation.end]
    if isinstance(citation, Quote):
        return [_clipped(line) for line in there] == citation.lines
    # Some put two spaces after a full stop: the width of gaps is not quoted.
    prose = " ".join(word for line in there for word in _bare(line).split())
    return " ".join(citation.text.split()) in prose


def render(answer: Answer, title: str) -> str:
    """The answer as text that is safe to show in a terminal; `title` names the corpus."""
    out = [printable(answer.question), ""]
    if not answer.quotes and not answer.statements:
        return f"{out[0]}\n\nNothing in {printable(title)} speaks of that.\n"
    for statement in answer.statements:
        lines = wrap(printable(statement.text), 96, break_long_words=False, break_on_hyphens=False)
        out += [f"  {line}" for line in lines]
        out.append(f"    -- {_place(statement.path, statement.line, statement.end)}{_of(statement.scope)}")
        out.append("")
    for number, quote in enumerate(answer.quotes, 1):
        out.append(f"{number}. {_place(quote.path, quote.line, quote.end)}{_of(quote.scope)}")
        width = len(str(quote.end))
        for offset, line in enumerate(quote.lines):
            out.append(f"   {quote.line + offset:>{width}} | {printable(line.expandtabs(4))}".rstrip())
        out.append("")
    return "\n".join(out).rstrip("\n") + "\n"


def _place(path: str, line: int, end: int) -> str:
    place = f"{printable(path)}:{line}"
    return place if end == line else f"{place}-{end}"


def _of(scope: str) -> str:
    return f"  ({printable(scope)})" if scope else ""
