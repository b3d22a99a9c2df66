"""Our own scenarios under the explorer: hundreds of distinct schedules on every commit, a hundred at home."""

from __future__ import annotations

import logging

import pytest

from benchmarks._scenario_parts import Scenario
from benchmarks._scenarios import SCENARIOS
from tests.support import Cases
from trio_progress.testing import explore


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_what_a_session_promises_holds_under_every_schedule(
    scenario: Scenario, seed: int, cases: Cases, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "trio_progress")
    schedules = -(-cases(100, exhaustive=1000) // len(SCENARIOS))
    explored = explore(scenario, schedules=schedules, seed=seed)
    # By chance two may be the same; a scenario with few histories proves little.
    assert explored.distinct >= min(schedules - 1, schedules * 0.99)
