"""The corpus of races that others have found: each that needs no installation is found, and what mended it passes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.races_found import ENTRIES
from benchmarks.races_found.entry import Entry, Scenario
from benchmarks.races_found.environments import requirements
from benchmarks.races_found.guarded import GUARDED
from benchmarks.races_found.hunting import alarms, hunt, preemptions
from benchmarks.races_found.listing import table
from trio_progress.testing.running import run_schedule

HERE = [entry for entry in ENTRIES if not entry.packages and not entry.mended_packages]

SEED = 17
"""So that what a test costs is known; the command draws on many."""

WITHIN = 500


def named(entry: Entry) -> str:
    return entry.name


def test_there_are_enough_and_each_cites_an_issue_of_its_own() -> None:
    assert len({entry.issue for entry in ENTRIES}) >= 30
    assert len({entry.name for entry in ENTRIES}) == len(ENTRIES)
    for entry in ENTRIES:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+#\d+", entry.issue), entry.name
        assert entry.text.endswith(".")
        assert entry.affected
        assert entry.mended
        assert not entry.mended_packages or entry.packages, f"{entry.name}: its affected version is installed too"
        assert entry.faulty is not entry.right or entry.packages != entry.mended_packages, entry.name


@pytest.mark.parametrize("entry", HERE, ids=named)
def test_it_is_found_and_what_mended_it_passes(entry: Entry) -> None:
    runs = (run_schedule(entry.faulty, (), SEED + number) for number in range(WITHIN))
    assert any(run.error is not None for run in runs), f"{entry.name} was not found in {WITHIN} schedules"
    assert alarms(entry.right, 20, SEED).errors == []


@pytest.mark.release
@pytest.mark.parametrize("entry", HERE, ids=named)
def test_it_is_found_from_several_seeds_and_becomes_small(entry: Entry) -> None:
    came = hunt(entry.faulty, 3, 3)
    assert None not in came.first
    assert came.small(entry.least) >= 2
    assert alarms(entry.right, 300).errors == []


@pytest.mark.parametrize("scenario", GUARDED, ids=lambda scenario: scenario.__name__)
def test_no_guard_of_a_second_or_more_fires(scenario: Scenario) -> None:
    assert alarms(scenario, 40, SEED).errors == []


def test_a_hunt_counts_each_base_seed_and_goes_on_until_it_has_found_something() -> None:
    rare = {SEED + 30}  # with the first base seed; with the second one nothing

    async def scenario() -> None:
        import random

        drawn.append(random.random())
        assert len(drawn) - 1 not in failing

    drawn: list[float] = []
    failing = {number - SEED for number in rare}
    came = hunt(scenario, 2, 20)
    assert came.first == [31, None]
    assert (came.schedules, came.failed) == (20, 0)
    assert came.median > 31


def test_a_failure_that_its_seed_does_not_repeat_has_nothing_left_to_count() -> None:
    async def passes() -> None:
        pass

    assert preemptions(passes, SEED) is None


def test_an_environment_has_what_is_named_and_trio_as_it_is_here_unless_that_is_named() -> None:
    assert requirements(("httpcore==1.0.9",))[0] == "httpcore==1.0.9"
    assert sum(text.startswith("trio==") for text in requirements(("httpcore==1.0.9",))) == 1
    assert [text for text in requirements(("trio==0.31.0",)) if text.startswith("trio")] == ["trio==0.31.0"]


def test_the_page_lists_them_as_they_are() -> None:
    page = (Path(__file__).parents[3] / "docs" / "races-found.md").read_text(encoding="utf-8")
    assert table() in page, "python -m benchmarks.races_found.listing prints the table that belongs there"
