"""Our own scenarios under the explorer: two thousand distinct schedules on every commit."""

from __future__ import annotations

import logging

import pytest

from benchmarks._scenarios import SCENARIOS, Scenario
from trio_progress.testing import explore

SCHEDULES = -(-2000 // len(SCENARIOS))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_what_a_session_promises_holds_under_every_schedule(
    scenario: Scenario, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "trio_progress")
    explored = explore(scenario, schedules=SCHEDULES, seed=seed)
    # By chance two may be the same; a scenario with few histories proves little.
    assert explored.distinct >= SCHEDULES * 0.99
