"""How well passages answer a query: pure functions over term counts.

1. Passages are scored by BM25 as in S. Robertson and H. Zaragoza, "The Probabilistic Relevance Framework: BM25
   and Beyond", Foundations and Trends in Information Retrieval 3(4), 2009, section 3.4; the inverse document
   frequency has 1 added within the logarithm, so that a term that most passages have still counts for, not against.
2. A term weighs more in a title than in prose, and more in prose than in code. The counts are weighted and summed
   *before* they saturate (BM25F: S. Robertson, H. Zaragoza and M. Taylor, "Simple BM25 Extension to Multiple Weighted
   Fields", CIKM 2004).
3. Scores of different queries are divided by the score of a perfect passage, and summed (CombSUM: E. Fox and J. Shaw,
   "Combination of Multiple Searches", TREC-2, 1994).
4. Near duplicates are found by the resemblance of their shingles (A. Broder, "On the Resemblance and Containment of
   Documents", SEQUENCES 1997).
5. An answer is made of passages that are relevant *and* new (maximal marginal relevance: J. Carbonell and
   J. Goldstein, SIGIR 1998).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

import msgspec

K1 = 1.2
"""How soon more of the same term stops counting."""
B = 0.75
"""How much a long passage loses; 0: nothing, 1: in proportion to its length."""

T = TypeVar("T")


class Statistics(msgspec.Struct):
    """Of all passages: their number, their words together, and for each term how many passages have it."""

    passages: int = 0
    words: int = 0
    having: dict[str, int] = {}

    def add(self, other: Statistics) -> None:
        """Adds the passages of `other`."""
        self.passages += other.passages
        self.words += other.words
        for term, count in other.having.items():
            self.having[term] = self.having.get(term, 0) + count

    def idf(self, term: str) -> float:
        """How rare a term is: above 0, and the higher the fewer passages have it."""
        having = self.having.get(term, 0)
        return math.log1p((max(self.passages, having) - having + 0.5) / (having + 0.5))


def bm25(counts: Mapping[str, float], length: int, query: Mapping[str, float], statistics: Statistics) -> float:
    """The score of one passage for one query, from 0 to less than 1.

    Args:
        counts: How often each term of the query is in the passage, weighted by place.
        length: Words of the passage.
        query: The query's terms and their weights.
        statistics: Of all passages that are compared.
    """
    average = statistics.words / statistics.passages if statistics.passages else 1.0
    damping = K1 * (1 - B + B * max(length / average if average else 1.0, 1.0))
    score = perfect = 0.0
    for term, weight in query.items():
        worth = weight * statistics.idf(term)
        perfect += worth * (K1 + 1)
        count = counts.get(term, 0.0)
        if count > 0:
            score += worth * count * (K1 + 1) / (count + damping)
    return score / perfect if perfect else 0.0


def coverage(present: Collection[str], query: Mapping[str, float], statistics: Statistics) -> float:
    """The share of a query's terms that a passage has, from 0 to 1; rare terms are a larger share."""
    worth = {term: weight * statistics.idf(term) for term, weight in query.items()}
    whole = sum(worth.values())
    # In the query's order: a set's order differs from process to process, and so would the last digit.
    return sum(part for term, part in worth.items() if term in present) / whole if whole else 0.0


def span(positions: Mapping[str, Sequence[int]]) -> int:
    """Words of the shortest stretch that has all terms, given the ascending positions of each; 0 without terms."""
    places = sorted((place, term) for term, found in positions.items() for place in found)
    latest: dict[str, int] = {}
    best = 0
    for place, term in places:
        latest[term] = place
        if len(latest) == len(positions):
            length = place - min(latest.values()) + 1
            best = length if not best else min(best, length)
    return best


def shingles(words: Sequence[str], width: int = 4) -> frozenset[tuple[str, ...]]:
    """All runs of `width` consecutive words; one of all words where there are fewer."""
    if len(words) <= width:
        return frozenset({tuple(words)})
    return frozenset(tuple(words[start : start + width]) for start in range(len(words) - width + 1))


def resemblance(one: frozenset[T], other: frozenset[T]) -> float:
    """How much two sets have in common, from 0 to 1 (the Jaccard index)."""
    union = len(one | other)
    return len(one & other) / union if union else 1.0


def select(
    items: Sequence[T],
    count: int,
    score: Callable[[T], float],
    likeness: Callable[[T, T], float],
    trade: float = 0.7,
    too_alike: float = 1.0,
) -> list[T]:
    """Up to `count` items, each the one with the best score less its likeness to those chosen before.

    Args:
        items: The candidates; of equals, the first is chosen.
        count: How many at most.
        score: How good an item is, from 0 to 1.
        likeness: How alike two items are, from 0 to 1.
        trade: The weight of the score; likeness has the rest to 1.
        too_alike: From this likeness to a chosen one on, an item is never chosen.
    """
    left = [(item, 0.0) for item in items]
    chosen: list[T] = []
    while left and len(chosen) < count:
        best, _ = max(left, key=lambda known: trade * score(known[0]) - (1 - trade) * known[1])
        chosen.append(best)
        left = [(item, max(alike, likeness(item, best))) for item, alike in left if item is not best]
        left = [known for known in left if known[1] < too_alike]
    return chosen
