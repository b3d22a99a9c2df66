"""Our own scenarios under the explorer: two thousand distinct schedules on every commit, a hundred at home."""

from __future__ import annotations

import logging

import pytest

from benchmarks._scenario_parts import Scenario
from benchmarks._scenarios import SCENARIOS
from trio_progress.testing import explore


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_what_a_session_promises_holds_under_every_schedule(
    scenario: Scenario, seed: int, exhaustive: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "trio_progress")
    schedules = -(-(1000 if exhaustive else 100) // len(SCENARIOS))
    explored = explore(scenario, schedules=schedules, seed=seed)
    # By chance two may be the same; a scenario with few histories proves little.
    assert explored.distinct >= min(schedules - 1, schedules * 0.99)
