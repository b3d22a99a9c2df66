"""Bugs that are planted into a copy of the package: each is found by the explorer, in our own scenarios."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks._mutants import LEAVING, MUTANTS, Mutant, hunt, plant
from benchmarks._scenarios import one_session_left
from tests.marks import as_often
from trio_progress.testing import exhaust

pytestmark = pytest.mark.integration

BUDGET = 1500
"""Schedules a scenario; the shyest of them took 400 where it was measured."""

QUICK = 1
"""A seed under which those of every day took at most 40. With `--exhaustive` or `--seed` it is another each time."""

EVERY_DAY = MUTANTS[::24]
"""Some of each kind: what is explored by them is the explorer. A third is for `--exhaustive`, and all for a release."""

OFTEN = (*MUTANTS[::3], MUTANTS[-1])


def test_there_are_enough_of_them_and_each_has_its_place(tmp_path: Path) -> None:
    assert len(MUTANTS) >= 12
    for number, mutant in enumerate(MUTANTS):
        copy = tmp_path / str(number) / mutant.file
        copy.parent.mkdir(parents=True)
        shutil.copy(Path(__file__).parents[2] / "trio_progress" / mutant.file, copy)
        plant(tmp_path / str(number), mutant)


@pytest.mark.parametrize(
    "mutant",
    as_often(MUTANTS, every_day=EVERY_DAY, exhaustive=OFTEN),
    ids=[mutant.name.partition(":")[0] for mutant in MUTANTS],
)
def test_a_planted_bug_is_found(
    mutant: Mutant,
    seed: int,
    exhaustive: bool,
    pytestconfig: pytest.Config,
    record_property: Callable[[str, object], None],
) -> None:
    found = hunt(mutant, BUDGET, seed if exhaustive or pytestconfig.getoption("--seed") is not None else QUICK)
    record_property("schedules", found.schedules)
    assert found.scenario is not None, f"{mutant.name} was not found in {found.schedules} schedules"


@pytest.mark.parametrize(
    "begins",
    as_often(LEAVING, exhaustive=LEAVING[:1]),
)
def test_a_bug_in_a_session_s_leaving_is_found_by_all_orders_with_one_deviation(begins: str) -> None:
    (mutant,) = [mutant for mutant in MUTANTS if mutant.name.startswith(begins)]
    found = hunt(mutant, 1000, 0, exhaust=True)
    assert found.scenario is not None, f"{mutant.name} was not found in {found.schedules} orders"


@pytest.mark.exhaustive
def test_a_session_s_leaving_passes_in_all_orders_with_one_deviation() -> None:
    assert exhaust(one_session_left, deviations=1).complete


def test_a_bug_whose_place_is_gone_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text("nothing of it\n")
    with pytest.raises(LookupError, match="plant it anew"):
        plant(tmp_path, Mutant("a bug", "x.py", "its place", "another", ()))
