"""Ranking, against sums made by hand and against what must always hold."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import TEXT
from trio_progress.demo.ranking import K1, B, Statistics, bm25, coverage, resemblance, select, shingles, span

STATISTICS = Statistics(passages=100, words=5000, having={"rare": 1, "common": 60, "everywhere": 100})


def test_a_score_is_the_one_of_the_formula() -> None:
    rare = math.log(1 + (100 - 1 + 0.5) / (1 + 0.5))
    common = math.log(1 + (100 - 60 + 0.5) / (60 + 0.5))
    assert STATISTICS.idf("rare") == pytest.approx(rare)
    length = 100  # twice the average
    damping = K1 * (1 - B + B * 2)
    score = rare * 3 * (K1 + 1) / (3 + damping) + 0.5 * common * 1 * (K1 + 1) / (1 + damping)
    perfect = (K1 + 1) * (rare + 0.5 * common)
    found = bm25({"rare": 3, "common": 1}, length, {"rare": 1.0, "common": 0.5}, STATISTICS)
    assert found == pytest.approx(score / perfect)


def test_rare_terms_count_more_and_no_term_counts_against_a_passage() -> None:
    query = {"rare": 1.0, "common": 1.0, "everywhere": 1.0}
    alone = {term: bm25({term: 1}, 50, query, STATISTICS) for term in query}
    assert alone["rare"] > alone["common"] > alone["everywhere"] > 0


def test_a_passage_shorter_than_the_average_gains_nothing_by_it() -> None:
    assert bm25({"rare": 1}, 2, {"rare": 1.0}, STATISTICS) == bm25({"rare": 1}, 50, {"rare": 1.0}, STATISTICS)
    assert bm25({"rare": 1}, 51, {"rare": 1.0}, STATISTICS) < bm25({"rare": 1}, 50, {"rare": 1.0}, STATISTICS)


COUNTS = st.dictionaries(st.sampled_from(["rare", "common", "everywhere", "other"]), st.floats(0, 1e6), max_size=4)


@given(COUNTS, st.integers(0, 10_000))
def test_a_score_is_from_0_to_1_and_more_of_a_term_never_lowers_it(counts: dict[str, float], length: int) -> None:
    query = {"rare": 1.0, "common": 2.0}
    score = bm25(counts, length, query, STATISTICS)
    assert 0 <= score <= 1
    more = counts | {"rare": counts.get("rare", 0) + 1}
    assert bm25(more, length, query, STATISTICS) >= score


def test_nothing_known_and_nothing_asked_is_no_error() -> None:
    assert bm25({}, 0, {}, Statistics()) == 0
    assert 0 < bm25({"a": 1}, 1, {"a": 1.0}, Statistics()) < 1
    assert coverage([], {}, Statistics()) == 0


def test_statistics_add_up() -> None:
    total = Statistics()
    total.add(Statistics(2, 20, {"a": 1}))
    total.add(Statistics(3, 30, {"a": 2, "b": 1}))
    assert total == Statistics(5, 50, {"a": 3, "b": 1})


def test_coverage_is_the_share_of_the_query_by_worth() -> None:
    query = {"rare": 1.0, "common": 1.0}
    rare, common = STATISTICS.idf("rare"), STATISTICS.idf("common")
    assert coverage(["rare", "rare", "other"], query, STATISTICS) == pytest.approx(rare / (rare + common))
    assert coverage(query, query, STATISTICS) == 1


@given(st.dictionaries(st.text(TEXT), st.integers(0, 100), min_size=1, max_size=12))
def test_all_of_a_query_is_exactly_1_in_whatever_order_it_is_met(having: dict[str, int]) -> None:
    query = dict.fromkeys(having, 1.0)
    assert coverage(set(query), query, Statistics(100, 1000, having)) == 1


def test_the_span_is_the_shortest_stretch_with_all_terms() -> None:
    assert span({"a": [0, 10], "b": [3, 12], "c": [11]}) == 3
    assert span({"a": [7]}) == 1
    assert span({}) == 0


@given(st.dictionaries(st.sampled_from("abc"), st.sets(st.integers(0, 30), min_size=1).map(sorted), min_size=1))
def test_the_span_is_that_of_trying_every_stretch(positions: dict[str, list[int]]) -> None:
    tried = min(
        last - first + 1
        for first in range(31)
        for last in range(first, 31)
        if all(any(first <= place <= last for place in places) for places in positions.values())
    )
    assert span(positions) == tried


def test_resemblance_is_the_share_of_common_shingles() -> None:
    one = shingles(["the", "quick", "brown", "fox", "jumps"])
    other = shingles(["the", "quick", "brown", "fox", "sleeps"])
    assert len(one) == 2
    assert resemblance(one, other) == pytest.approx(1 / 3)
    assert resemblance(one, one) == 1
    assert resemblance(frozenset(), frozenset()) == 1
    assert shingles(["few"]) == {("few",)}


def test_selecting_prefers_what_is_new_over_a_copy_of_the_best() -> None:
    scores = {"best": 1.0, "copy of best": 0.99, "other": 0.8}

    def alike(one: str, other: str) -> float:
        return 0.9 if "best" in one and "best" in other else 0.0

    assert select(list(scores), 2, scores.__getitem__, alike) == ["best", "other"]
    assert select(list(scores), 3, scores.__getitem__, alike) == ["best", "other", "copy of best"]
    assert select(list(scores), 3, scores.__getitem__, alike, too_alike=0.9) == ["best", "other"]
    assert select([], 3, scores.__getitem__, alike) == []


def test_of_equals_the_first_is_selected() -> None:
    assert select(["a", "b", "c"], 2, lambda item: 1.0, lambda one, other: 0.0) == ["a", "b"]
