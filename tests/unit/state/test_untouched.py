"""Declared phases that nobody has touched: one node for all sessions of the pipeline, until a session needs its own."""

from __future__ import annotations

import trio
import trio.testing

from tests.support import QuietHost
from trio_progress import PhaseSnapshot, ProgressTracker, open_tracker
from trio_progress.protocol.clock import Clock
from trio_progress.protocol.messages import Update
from trio_progress.state.estimate import Estimate
from trio_progress.state.fraction import by_weights, parts_of
from trio_progress.state.pipeline import PhaseSpec, Pipeline
from trio_progress.state.reading import phase_values
from trio_progress.state.session import SessionState
from trio_progress.tracker import runtime_of

PIPELINE = Pipeline("research", {"fetch": 3, "load": 1, "sum": 1})


def state_of(tracker: ProgressTracker, session_id: str) -> SessionState:
    core = runtime_of(tracker).open[session_id].core
    assert core is not None
    return core.state


async def test_sessions_share_what_neither_has_touched_and_nothing_else(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with (
        open_tracker() as tracker,
        tracker.session("a", PIPELINE) as one,
        tracker.session("b", PIPELINE) as other,
    ):
        a, b = state_of(tracker, "a").root, state_of(tracker, "b").root
        assert a.children is b.children
        with one.phase("load", total=2) as phase:
            phase.advance()
        assert list(a.children) == list(b.children) == ["fetch", "load", "sum"]
        assert a.children["fetch"] is b.children["fetch"]
        assert a.children["load"] is not b.children["load"]
        assert (one.phases["load"].status, other.phases["load"].status) == ("completed", "pending")
        assert (other.phases["load"].total, other.phases["load"].path) == (None, ("load",))


async def test_those_that_nobody_touched_are_skipped_when_the_session_completes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_tracker() as tracker:
        async with tracker.session("a", PIPELINE) as session:
            with session.phase("fetch"):
                pass
            before = session.snapshot()
        stored = await tracker.snapshot("a")
        assert [phase.status for phase in before.phases] == ["completed", "pending", "pending"]
        assert [(phase.status, phase.fraction) for phase in stored.phases[1:]] == [("skipped", 1.0)] * 2
        assert [session.phases[name].status for name in ("load", "sum")] == ["skipped"] * 2
        async with tracker.session("b", PIPELINE) as later:
            assert {phase.status for phase in later.phases.values()} == {"pending"}


async def test_a_subscriber_is_sent_that_they_were_skipped(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker, tracker.subscribe("a", wait=True) as messages:
        async with tracker.session("a", PIPELINE):
            assert [type(await anext(messages)).__name__ for _ in range(2)] == ["Subscribed", "Snapshot"]
        update = await anext(messages)
        assert isinstance(update, Update)
        assert [(phase.name, phase.status) for phase in update.phases] == [
            ("fetch", "skipped"),
            ("load", "skipped"),
            ("sum", "skipped"),
        ]


async def test_each_session_is_told_what_is_expected_of_them(autojump_clock: trio.testing.MockClock) -> None:
    known = Pipeline("known", {"fetch": 3, "load": 1}, usual={"fetch": 12.0, "load": 4.0})
    async with open_tracker() as tracker, tracker.session("a", known) as session:
        expected = [phase.expected for phase in session.snapshot().phases]
        assert [one.seconds for one in expected if one is not None] == [12, 4]
        assert all(node.shared for node in state_of(tracker, "a").root.children.values())
        with session.phase("fetch"):
            await trio.sleep(3)
            later = session.snapshot().phases
            assert [phase.expected for phase in later] == expected
        async with tracker.session("b", PIPELINE) as other:
            assert [phase.expected for phase in other.snapshot().phases] == [None] * 3


def test_what_is_shown_of_a_phase_that_was_passed_over_is_all_that_it_has_to_say() -> None:
    specs = [
        PhaseSpec("plain"),
        PhaseSpec("counted", weight=3, title="Counted", unit="pages", total=7, stall_after=9),
        PhaseSpec("told"),
        PhaseSpec("expected", total=4),
    ]
    pipeline = Pipeline("passed", specs, usual={"expected": 5.0})
    state = SessionState("a", host=QuietHost(), clock=Clock(), pipeline=pipeline)
    state.begin(1)
    state.use_history(None)
    state.skip_phase("told", "nothing to do")
    state.end("completed")
    shown = state.snapshot().phases
    assert [phase.message for phase in shown] == [None, None, "nothing to do", None]
    assert all(phase.expected is not None and phase.ended_at is not None for phase in shown)
    for phase in shown:
        node = state.get(phase.name)
        assert node is not None
        assert phase == PhaseSnapshot(**phase_values(node), phases=())


def test_of_a_run_that_nobody_has_touched_it_is_estimated_what_its_parts_come_to() -> None:
    state = SessionState("a", host=QuietHost(), clock=Clock(), pipeline=PIPELINE)
    state.begin(1)
    parts = parts_of(state.root.children.values(), state.published, state.estimator.courses)
    assert by_weights(parts) == (0.0, None)
    assert state.estimate() == Estimate(0.0, None, None)
    state.enter(state.root, "fetch", total=2).advance()
    state.publish()
    assert state.estimate().progress == 0.3
