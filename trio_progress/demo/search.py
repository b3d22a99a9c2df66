"""The passages of some files that answer some queries: the work of one call of a worker thread."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import msgspec

from .corpus import read_lines
from .ranking import Statistics, bm25
from .text import Passage, passages, terms, words

if TYPE_CHECKING:
    from .questions import Query

KEPT_PER_SHARD = 40
"""Passages at most that one portion of files keeps for one query."""


class Hit(msgspec.Struct):
    """A passage that has enough of a query's terms."""

    path: str
    line: int
    end: int
    scope: str
    length: int
    """In words."""
    digest: str
    """Equal for passages of equal words."""
    counts: dict[str, dict[str, float]]
    """By the name of a query, how often its terms occur, weighted by place."""
    scores: dict[str, float] = {}
    """By the name of a query, once it was ranked."""


class Scan(msgspec.Struct):
    """The result of one portion of files."""

    hits: list[Hit]
    statistics: Statistics
    files: int = 0
    matching: int = 0
    """Passages that have enough terms of some query."""
    skipped: dict[str, int] = {}


class WantedTerms(dict[str, tuple[str, ...]]):
    """For each word those of its terms that are wanted, computed when the word is first met.

    Args:
        wanted: The terms.
        joined: Terms that stand for several of those.
    """

    def __init__(self, wanted: Iterable[str], joined: Mapping[str, Iterable[str]]) -> None:
        self._stand_for: dict[str, tuple[str, ...]] = {term: (term,) for term in wanted}
        for term, others in joined.items():
            self._stand_for[term] = tuple(other for other in others if other in self._stand_for)

    def __missing__(self, word: str) -> tuple[str, ...]:
        found = self[word] = tuple(
            dict.fromkeys(meant for term in terms(word) for meant in self._stand_for.get(term, ()))
        )
        return found


def scan(
    root: str,
    paths: Sequence[str],
    queries: Sequence[Query],
    joined: Mapping[str, Iterable[str]],
    check: Callable[[], None] = lambda: None,
    after_file: Callable[[], None] = lambda: None,
) -> Scan:
    """Reads files and finds the passages in them that have enough of the terms of a query.

    Args:
        root: The corpus.
        paths: The files.
        queries: Their names differ.
        joined: Words that stand for several of their terms.
        check: Called before each file and passage; raises where the result is no longer wanted.
        after_file: Called after each file.
    """
    wanted = WantedTerms((term for query in queries for term in query.terms), joined)
    result = Scan([], Statistics())
    skipped: Counter[str] = Counter()
    for path in paths:
        check()
        lines = read_lines(root, path)
        if isinstance(lines, str):
            skipped[lines] += 1
        else:
            result.files += 1
            if _worth_reading(lines, queries):
                _scan_file(path, lines, queries, wanted, result, check)
        after_file()
    result.skipped = dict(skipped)
    result.matching = len(result.hits)
    result.hits = _best(result.hits, queries, result.statistics)
    return result


def _worth_reading(lines: list[str], queries: Sequence[Query]) -> bool:
    """Whether a file may have the term that some query needs in any case: a text with a term holds its letters."""
    musts = [query.must for query in queries if query.must is not None]
    if len(musts) < len(queries):
        return True
    text = "\n".join(lines).lower()
    return any(must in text for must in musts)


def _scan_file(
    path: str, lines: list[str], queries: Sequence[Query], wanted: WantedTerms, result: Scan, check: Callable[[], None]
) -> None:
    in_path = Counter(term for word in words(str(PurePosixPath(path).with_suffix(""))) for term in wanted[word])
    statistics = result.statistics
    for passage in passages(path, lines):
        check()
        found: dict[str, Counter[str]] = {"path": in_path, "head": Counter(), "prose": Counter(), "code": Counter()}
        length = 0
        for line, kind in zip(passage.lines, passage.kinds, strict=True):
            inside = words(line)
            length += len(inside)
            for word in inside:
                for term in wanted[word]:
                    found[kind][term] += 1
        for word in words(passage.scope):
            for term in wanted[word]:
                found["head"][term] = max(found["head"][term], 1)
        statistics.passages += 1
        statistics.words += length
        in_text = {term for place in ("head", "prose", "code") for term in found[place]}
        present = in_text | in_path.keys()
        for term in present:
            statistics.having[term] = statistics.having.get(term, 0) + 1
        counts = {
            query.name: {
                term: sum(weight * found[place][term] for place, weight in query.weights.items())
                for term in query.terms
                if term in present
            }
            for query in queries
            # A passage that has its terms by its path alone does not speak of them.
            if len(present & query.terms.keys()) >= query.needed
            and query.terms.keys() & in_text
            and (query.must is None or query.must in present)
        }
        if counts:
            result.hits.append(Hit(path, passage.line, passage.end, passage.scope, length, _digest(passage), counts))


def _digest(passage: Passage) -> str:
    return blake2b("\0".join(words("\n".join(passage.lines))).encode(), digest_size=8).hexdigest()


def _best(hits: list[Hit], queries: Sequence[Query], statistics: Statistics) -> list[Hit]:
    """The hits that are among the best of at least one query, in the order of the files.

    Their scores come from the statistics of this portion alone, and will be replaced.
    """
    kept: set[int] = set()
    for query in queries:
        scores = rank(hits, query, statistics)
        kept.update(heapq.nlargest(KEPT_PER_SHARD, scores, key=lambda number: (scores[number], -number)))
        for number, score in scores.items():
            hits[number].scores[query.name] = score
    return [hits[number] for number in sorted(kept)]


def rank(hits: Sequence[Hit], query: Query, statistics: Statistics) -> dict[int, float]:
    """The scores of the hits that a query has found, by their number."""
    return {
        number: bm25(counts, hit.length, query.terms, statistics)
        for number, hit in enumerate(hits)
        if (counts := hit.counts.get(query.name)) is not None
    }


def fused(hit: Hit, queries: Sequence[Query]) -> float:
    """The score of a hit over several queries, from 0 to 1."""
    whole = sum(query.share for query in queries)
    return sum(query.share * hit.scores.get(query.name, 0.0) for query in queries) / whole


def best_first(hits: Sequence[Hit], queries: Sequence[Query], count: int) -> list[Hit]:
    """The best hits over several queries; of equals, the first in the corpus."""
    return sorted(hits, key=lambda hit: (-fused(hit, queries), hit.path, hit.line))[:count]
