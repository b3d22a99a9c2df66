"""What one call of a worker thread finds in some files."""

from __future__ import annotations

from pathlib import Path

import pytest

from trio_progress.demo import search
from trio_progress.demo.questions import Query, classify, follow_up, plan
from trio_progress.demo.ranking import Statistics
from trio_progress.demo.search import Hit, best_first, fused, rank, scan

WEIGHTS = {"head": 4.0, "prose": 2.0, "code": 1.0, "path": 3.0}

SOURCE = '''\
def cancel(task):
    """Cancels the task."""
    task.stop()


def other():
    pass
'''


def query(name: str, *terms: str, needed: int = 1) -> Query:
    return Query(name, name, dict.fromkeys(terms, 1.0), WEIGHTS, 1.0, needed)


def test_a_hit_has_its_terms_counted_by_where_they_stand(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(SOURCE)
    result = scan(str(tmp_path), ["tasks.py"], [query("q", "cancel", "task")], {})
    (hit,) = result.hits
    assert (hit.path, hit.line, hit.end, hit.scope, hit.length) == ("tasks.py", 1, 3, "cancel", 8)
    # cancel: in the head line and in prose; task: in the path, the head line, in prose and in code.
    assert hit.counts == {"q": {"cancel": 4.0 + 2.0, "task": 3.0 + 4.0 + 2.0 + 1.0}}
    assert (result.files, result.matching, result.skipped) == (1, 1, {})
    assert result.statistics == Statistics(2, 11, {"cancel": 1, "task": 2})


def test_a_passage_needs_as_many_terms_as_the_query_says_and_one_beside_its_path(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(SOURCE)
    assert scan(str(tmp_path), ["tasks.py"], [query("q", "cancel", "json", needed=2)], {}).hits == []
    (hit,) = scan(str(tmp_path), ["tasks.py"], [query("q", "task")], {}).hits
    assert hit.line == 1  # other() stands in tasks.py too, but does not speak of any task


def test_two_words_written_as_one_count_for_both(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a ZipFile or zipfiles\n")
    question = classify("zip file")
    (hit,) = scan(str(tmp_path), ["a.txt"], plan(question, [])[:1], question.joined).hits
    assert hit.counts["all"] == {"zip": 4.0, "fil": 4.0}


def test_following_up_reads_no_file_without_the_name(tmp_path: Path) -> None:
    (tmp_path / "with.py").write_text("raise CancelledError\n\ndef f():\n    cancel\n")
    (tmp_path / "without.py").write_text("cancel the task\n")
    followed = follow_up(classify("cancel a task"), "CancelledError")
    result = scan(str(tmp_path), ["with.py", "without.py"], [followed], {})
    assert [(hit.path, hit.line) for hit in result.hits] == [("with.py", 1)]
    assert (result.files, result.statistics.passages) == (2, 2)


def test_what_is_no_text_is_counted_by_why(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"\0")
    (tmp_path / "b.txt").write_bytes(b"\xff")
    checks: list[str] = []
    result = scan(
        str(tmp_path),
        ["a.bin", "b.txt", "gone.txt"],
        [query("q", "x")],
        {},
        lambda: checks.append("asked"),
        lambda: checks.append("counted"),
    )
    assert result.skipped == {"binary": 1, "undecodable": 1, "unreadable": 1}
    assert result.files == 0
    assert checks == ["asked", "counted"] * 3


def test_a_scan_that_is_no_longer_wanted_stops_within_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("def f():\n    x\n\n" * 100)
    asked = 0

    def check() -> None:
        nonlocal asked
        asked += 1
        if asked == 10:
            raise RuntimeError("unwanted")

    with pytest.raises(RuntimeError, match="unwanted"):
        scan(str(tmp_path), ["a.py"], [query("q", "x")], {}, check)
    assert asked == 10


def test_of_many_hits_in_one_portion_the_best_go_on_in_the_order_of_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "KEPT_PER_SHARD", 2)
    (tmp_path / "a.py").write_text("".join(f"def f{number}():\n    {'x ' * number}\n\n" for number in (1, 9, 5, 8)))
    result = scan(str(tmp_path), ["a.py"], [query("q", "x")], {})
    assert result.matching == 4
    assert [hit.scope for hit in result.hits] == ["f9", "f8"]


def test_equal_passages_have_equal_digests_whatever_their_blanks(tmp_path: Path) -> None:
    for name, text in (("a.txt", "the  same x\n"), ("b.txt", "the same\nx"), ("c.txt", "another x")):
        (tmp_path / name).write_text(text)
    hits = scan(str(tmp_path), ["a.txt", "b.txt", "c.txt"], [query("q", "x")], {}).hits
    digests = [hit.digest for hit in hits]
    assert digests[0] == digests[1] != digests[2]


def test_ranking_scores_only_what_a_query_has_found_and_ties_go_by_place() -> None:
    hits = [
        Hit(path, line, line, "", 10, f"{path}{line}", counts)
        for path, line, counts in (
            ("b", 1, {"one": {"x": 1.0}}),
            ("a", 9, {"one": {"x": 1.0}}),
            ("a", 2, {"one": {"x": 1.0}, "two": {"y": 3.0}}),
            ("c", 1, {"two": {"y": 1.0}}),
        )
    ]
    queries = [query("one", "x"), query("two", "y")]
    statistics = Statistics(100, 1000, {"x": 3, "y": 2})
    for one in queries:
        for number, score in rank(hits, one, statistics).items():
            hits[number].scores[one.name] = score
    assert [sorted(hit.scores) for hit in hits] == [["one"], ["one"], ["one", "two"], ["two"]]
    assert all(0 < fused(hit, queries) < 1 for hit in hits)
    assert [(hit.path, hit.line) for hit in best_first(hits, queries, 10)] == [("a", 2), ("a", 9), ("b", 1), ("c", 1)]
    assert len(best_first(hits, queries, 2)) == 2
