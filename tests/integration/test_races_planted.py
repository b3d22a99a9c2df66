"""What is planted into a copy of trio-progress turns a zero of the races' table into a number: the harness can see."""

from __future__ import annotations

import pytest

from benchmarks.races import plants
from tests.marks import as_often

pytestmark = pytest.mark.integration


EVERY_DAY = plants.PLANTS[-1:]
"""That each has its place is looked at with the unit tests."""

OFTEN = plants.PLANTS[::2]
"""Those of `--exhaustive`. The rest are for a release, with it."""


@pytest.mark.parametrize(
    "plant",
    as_often(plants.PLANTS, every_day=EVERY_DAY, exhaustive=OFTEN),
    ids=lambda plant: plant.name,
)
def test_what_is_planted_into_ours_is_seen(plant: plants.Plant) -> None:
    assert plants.figures(plant, seed=1, runs=30 if plant.figure.startswith("1") else 3)[plant.figure] > 0


@pytest.mark.exhaustive
def test_an_untouched_copy_shows_nothing_of_what_is_planted() -> None:
    found = plants.figures(None, seed=1, runs=5)
    assert {plant.figure: found[plant.figure] for plant in plants.PLANTS} == {p.figure: 0 for p in plants.PLANTS}
