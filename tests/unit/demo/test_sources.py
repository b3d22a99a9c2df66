"""Hits judged as sources, duplicates, and what to look up next."""

from __future__ import annotations

from pathlib import Path

import pytest

from trio_progress.demo.questions import classify
from trio_progress.demo.ranking import Statistics
from trio_progress.demo.search import Hit
from trio_progress.demo.sources import Reader, Source, judge, leads, sort_key, without_duplicates
from trio_progress.demo.text import Passage, passages, split_lines

STATISTICS = Statistics(1000, 50_000, {"cancel": 30, "task": 60, "asyncio": 100})
QUESTION = classify("How does asyncio cancel a task?")
AIMS = ["cancel", "task"]


def source(path: str = "a.py", line: int = 1, score: float = 0.5, **given: object) -> Source:
    values: dict[str, object] = {
        "end": line,
        "scope": "",
        "worth": {"followed": 0.0},
        "terms": [],
        "digest": f"{path}:{line}",
        "found_by": "all",
        "names": {},
    }
    return Source(path=path, line=line, score=score, **(values | given))  # type: ignore[arg-type]


def judged(text: str, path: str = "asyncio/tasks.py", number: int = 0) -> Source:
    passage: Passage = list(passages(path, split_lines(text)))[number]
    hit = Hit(path, passage.line, passage.end, passage.scope, 10, "d", {}, {"all": 0.4, "named": 0.7})
    return judge(hit, 0.8, passage, QUESTION, STATISTICS, AIMS)


DEFINITION = '''\
class Task:
    """A task."""

    def cancel(self):
        """Cancel the task.

        Some day.
        """
'''


def test_a_definition_of_what_is_asked_that_explains_itself_is_worth_the_most() -> None:
    found = judged(DEFINITION, number=1)
    assert found.scope == "Task.cancel"
    assert found.worth == {
        "relevance": 0.8,
        "coverage": 1.0,  # asyncio by its path
        "naming": 1.0,
        "nearness": pytest.approx(2 / 3),
        "prose": 1.0,
        "followed": 0.0,
    }
    assert found.terms == ["asyncio", "cancel", "task"]
    assert found.found_by == "named"
    assert 0.8 < found.score < 1


def test_the_less_a_name_is_what_is_asked_the_less_it_counts() -> None:
    names = ["cancel_task", "cancelling_task", "cancel", "cancel_all_tasks_now", "stop"]
    worth = [judged(f"def {name}():\n    cancel task\n").worth["naming"] for name in names]
    assert worth == sorted(worth, reverse=True)
    assert worth[0] == 1.0
    assert worth[-1] == 0.0
    assert len(set(worth)) == len(worth)


def test_a_passage_that_only_uses_what_is_asked_is_worth_less() -> None:
    assert judged("x = cancel(1, 2, 3, 4, 5, 6, task)\n").score < judged(DEFINITION, number=1).score


def test_following_raises_a_score_once_for_the_best_match() -> None:
    found = source(score=0.5)
    found.follow(0.6)
    once = found.score
    assert once > 0.5
    found.follow(0.4)
    assert found.score == once
    found.follow(1.0)
    assert found.score > once
    assert found.worth["followed"] == 1.0


def test_of_passages_that_say_the_same_the_best_is_kept() -> None:
    sources = [source("b.py", score=0.5), source("a.py", score=0.9), source("c.py", score=0.8)]
    sources.append(source("d.py", score=0.7, digest="a.py:1"))
    common = [f"word{number}" for number in range(40)]
    texts = [[*common, "x"], [*common, "y"], ["quite", "another", "text", "of", "words"], ["d"]]
    kept, repeated = without_duplicates(sources, texts)
    assert [sources[number].path for number in kept] == ["a.py", "c.py"]
    assert repeated == 2


def test_sources_sort_best_first_and_ties_by_place() -> None:
    sources = [source("b", 1, 0.5), source("a", 2, 0.5), source("a", 1, 0.5), source("z", 1, 0.6)]
    assert [found.key for found in sorted(sources, key=sort_key)] == [("z", 1), ("a", 1), ("a", 2), ("b", 1)]


def test_leads_are_names_the_sources_speak_of_and_those_made_of_what_is_asked_count_for_more() -> None:
    sources = [
        source(score=0.9, names={"CancelledError": 1, "call_soon": 2, "ValueError": 9, "create_loop": 1}),
        source(score=0.8, names={"_must_cancel": 2, "call_soon": 2}),
    ]
    assert leads(QUESTION, sources, []) == ["_must_cancel", "call_soon", "CancelledError"]
    assert leads(QUESTION, sources, ["_must_cancel", "CancelledError"]) == ["call_soon", "create_loop"]
    assert leads(QUESTION, [], []) == []


def test_reading_again_gives_the_passage_or_tells_that_it_is_gone(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(DEFINITION)
    reader = Reader(str(tmp_path))
    found = reader.passage("a.py", 4)
    assert found is not None
    assert found.scope == "Task.cancel"
    assert reader.passage("a.py", 5) is None
    assert reader.passage("gone.py", 1) is None
