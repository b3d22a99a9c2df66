"""Bad input to everything that opens, finds or follows a session: it raises at the call, and nothing has changed."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import trio
import trio.testing

from tests.support import RecordingStore
from trio_progress import (
    Limits,
    PhaseError,
    PhaseSpec,
    Pipeline,
    ProgressTracker,
    Session,
    SessionClosedError,
    open_progress,
    open_tracker,
)

PIPELINE = Pipeline("research", {"search": 3, "analysis": 2, "report": 1})

NOT_TEXT: list[Any] = [5, b"x", [], object()]
NOT_LABELS: list[Any] = [
    "user",
    ["user"],
    5,
    {"user": 1},
    {"user": None},
    {1: "x"},
    {"": "x"},
    {"a\n": "x"},
    {"a": "x" * 300},
    {str(number): "" for number in range(33)},
]

SYNC: list[tuple[str, Callable[[ProgressTracker, Any], object], list[Any]]] = [
    ("session pipeline", lambda t, v: t.session("b", v), ["", "\n", b"research", {"a": 1}, 5]),
    ("session title", lambda t, v: t.session("b", title=v), [*NOT_TEXT, "x" * 201]),
    ("session labels", lambda t, v: t.session("b", labels=v), NOT_LABELS),
    ("session resume", lambda t, v: t.session("b", resume=v), ["", "yes", None, True, []]),
    ("watch_all labels", lambda t, v: t.watch_all(v), NOT_LABELS),
    ("subscribe since", lambda t, v: t.subscribe("a", since=v), [5, b"1.2.3", ["1.2.3"]]),
    ("subscribe max_hz", lambda t, v: t.subscribe("a", max_hz=v), [0, -1, math.nan, math.inf, "5", [5]]),
]

ASYNC: list[tuple[str, Callable[[ProgressTracker, Any], Awaitable[object]], list[Any]]] = [
    ("declare pipeline", lambda t, v: t.declare("b", v), ["", b"research", {"a": 1}]),
    ("declare title", lambda t, v: t.declare("b", title=v), [*NOT_TEXT, "x" * 201]),
    ("declare labels", lambda t, v: t.declare("b", labels=v), NOT_LABELS),
    ("cancel reason", lambda t, v: t.cancel("a", v), NOT_TEXT),
]


@pytest.mark.parametrize(("name", "call", "values"), SYNC, ids=[name for name, _, _ in SYNC])
async def test_bad_input_to_the_tracker_raises_at_the_call(
    name: str,
    call: Callable[[ProgressTracker, Any], object],
    values: list[Any],
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = RecordingStore()
    async with open_tracker(store) as tracker, tracker.session("a", PIPELINE) as session:
        before = (session.snapshot(), tracker.statistics(), len(store.tries))
        for value in values:
            with pytest.raises((ValueError, TypeError)) as caught:
                call(tracker, value)
            assert len(str(caught.value)) > 10
        assert (session.snapshot(), tracker.statistics(), len(store.tries)) == before


@pytest.mark.parametrize(("name", "call", "values"), ASYNC, ids=[name for name, _, _ in ASYNC])
async def test_bad_input_to_what_waits_raises_before_anything_is_done(
    name: str,
    call: Callable[[ProgressTracker, Any], Awaitable[object]],
    values: list[Any],
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = RecordingStore()
    async with open_tracker(store) as tracker, tracker.session("a", PIPELINE) as session:
        before = (session.snapshot(), tracker.statistics(), len(store.tries))
        for value in values:
            with pytest.raises((ValueError, TypeError)):
                await call(tracker, value)
        assert (session.snapshot(), tracker.statistics(), len(store.tries)) == before
        assert [listed.id for listed in await tracker.sessions()] == ["a"]
    assert session.status == "completed"


HALF: list[tuple[str, Callable[[Session], object]]] = [
    ("update", lambda s: s.phases["search"].update(done=5, total=-1, message="good")),
    ("update message", lambda s: s.phases["search"].update(done=5, total=7, message=5)),  # type: ignore[arg-type]
    ("phase set", lambda s: s.phases["search"].set(good=1, bad=object())),
    ("set", lambda s: s.set(good=1, bad=math.nan)),
    ("session update", lambda s: s.update(message="good", title=5)),  # type: ignore[arg-type]
    ("enter", lambda s: s.phase("analysis", total=5, title="good", unit=5).__enter__()),  # type: ignore[arg-type]
    ("enter with a weight", lambda s: s.phase("analysis", total=5, weight=2).__enter__()),
    ("hand over", lambda s: s.advance_to("report", total=-1)),
    ("hand over title", lambda s: s.advance_to("report", total=1, title=b"x")),  # type: ignore[arg-type]
    ("child", lambda s: s.phases["search"].phase("site", total=3, weight=-1).__enter__()),
    ("skip reason", lambda s: s.skip_phase("report", 5)),  # type: ignore[arg-type]
    ("fail", lambda s: s.fail("good", details=[1])),  # type: ignore[arg-type]
    ("cancel", lambda s: s.cancel(5)),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("name", "call"), HALF, ids=[name for name, _ in HALF])
async def test_a_call_of_which_one_value_is_bad_does_nothing_of_the_rest(
    name: str, call: Callable[[Session], object], autojump_clock: trio.testing.MockClock
) -> None:
    async with open_tracker() as tracker, tracker.session("a", PIPELINE) as session:
        with session.phase("search", total=9) as phase:
            phase.advance(2)
            before = session.snapshot()
            with pytest.raises((ValueError, TypeError, PhaseError)):
                call(session)
            assert session.snapshot() is before
            await trio.sleep(1)
    assert session.status == "completed"


@pytest.mark.parametrize(
    "setting",
    ["persist_interval", "broadcast_interval", "heartbeat_interval", "lost_after", "retention", "stall_after"],
)
@pytest.mark.parametrize("bad", [0, -1, math.nan, -math.inf, "1", None, [1]])
async def test_each_interval_is_a_number_above_zero(
    setting: str, bad: Any, autojump_clock: trio.testing.MockClock
) -> None:
    with pytest.raises((ValueError, TypeError), match=setting):
        async with open_tracker(**{setting: bad}):
            pass


async def test_a_session_must_be_heard_of_more_often_than_it_takes_to_be_lost(
    autojump_clock: trio.testing.MockClock, exhaustive: bool
) -> None:
    with pytest.raises(ValueError, match=r"lost_after \(10 s\) must be above heartbeat_interval \(10 s\)"):
        async with open_tracker(heartbeat_interval=10, lost_after=10):
            pass
    async with open_tracker(heartbeat_interval=1, lost_after=1.5, stall_after=math.inf) as tracker:
        async with tracker.session("a") as session:
            await trio.sleep(1000 if exhaustive else 200)
            snapshot = session.snapshot()
            assert (snapshot.liveness, snapshot.stall_after) == ("ok", None)


async def test_a_pipeline_where_a_name_or_an_id_goes_is_told_where_it_goes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    opening: Any = open_progress
    for title in (None, "with a title"):
        with pytest.raises(TypeError, match=r"name must be a str.*tracker\.session\(pipeline=\.\.\.\)"):
            opening(PIPELINE, title=title, display=False)
    async with open_tracker() as tracker:
        session: Any = tracker.session
        with pytest.raises(TypeError, match=r"the id comes first, or none: tracker\.session\(pipeline="):
            session(PIPELINE)


@pytest.mark.parametrize("status", ["runing", ["running"], ("running", "lost"), {"running"}, 5, ""])
async def test_a_list_is_asked_for_one_status(status: Any, autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker:
        with pytest.raises(ValueError, match="status must be one of"):
            await tracker.sessions(status=status)


HINTS: list[tuple[str, Callable[[ProgressTracker], Any], str]] = [
    ("session", lambda tracker: tracker.session("b"), "async with tracker.session"),
    ("watch", lambda tracker: tracker.watch("a"), "use `async with`"),
    ("watch_all", lambda tracker: tracker.watch_all(), "use `async with`"),
    ("subscribe", lambda tracker: tracker.subscribe("a"), "use `async with`"),
]


@pytest.mark.parametrize(("name", "make", "hint"), HINTS, ids=[name for name, _, _ in HINTS])
async def test_with_where_async_with_is_needed_gives_a_hint(
    name: str, make: Callable[[ProgressTracker], Any], hint: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_tracker() as tracker, tracker.session("a"):
        with pytest.raises(TypeError, match=hint):
            with make(tracker):
                pass
        assert tracker.statistics().sessions_open == 1


async def test_async_with_where_with_is_needed_gives_a_hint_and_enters_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_tracker() as tracker, tracker.session("a") as session:
        scopes: list[Any] = [session.phase("x"), session.advance_to("y"), session.phases["y"].phase("child")]
        before = session.snapshot()
        for scope in scopes:
            with pytest.raises(TypeError, match="use `with`, not `async with`"):
                async with scope:
                    pass
        assert session.snapshot() is before
        with pytest.raises(PhaseError, match=r"has not begun: enter it by `with session.phase\('x'\)"):
            session.phase("x").advance()  # type: ignore[attr-defined]
        assert session.snapshot() is before


async def test_a_scope_is_entered_once(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker:
        scope: AbstractAsyncContextManager[Session] = tracker.session("a")
        async with scope as session:
            phase = session.phase("x")
            with phase:
                pass
            with pytest.raises(PhaseError, match="entered by this scope already"):
                with phase:
                    pass
        with pytest.raises(SessionClosedError, match=r"call `tracker.session\(\)` again"):
            async with scope:
                pass


async def test_what_is_said_before_entering_is_checked_again_when_it_is_entered(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_tracker(limits=Limits(phases=2)) as tracker, tracker.session("a") as session:
        first, second = session.phase("x"), session.phase("x")
        with first:
            with pytest.raises(PhaseError, match="open already"):
                with second:
                    pass
            with session.phase("y"):
                with pytest.raises(PhaseError, match="limit 'phases'"):
                    with session.phase("z"):
                        pass
        assert {phase.name: phase.status for phase in session.snapshot().phases} == {"x": "completed", "y": "completed"}


async def test_without_strict_a_bad_phase_still_gives_one_to_work_with(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker(strict=False) as tracker, tracker.session("a", PIPELINE) as session:
        before = session.snapshot()
        with session.phase("unknown", total=3) as phase:
            phase.advance()
            with phase.phase("child") as child:
                child.update(done=1)
            assert list(phase.track("ab")) == ["a", "b"]
            phase.from_thread().advance()
        session.advance_to("unknown").advance()
        session.phases["unknown"].advance()
        scope = session.phase("search")
        assert session.snapshot() is before
        with scope:
            pass
        with scope:
            pass
        await session.flush()
    assert session.status == "completed"
    assert tracker.statistics().refused == 4


@pytest.mark.parametrize("strict", [True, False])
async def test_whether_there_is_a_phase_can_be_asked(strict: bool, autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker(strict=strict) as tracker, tracker.session("a", PIPELINE) as session:
        assert "search" in session.phases
        assert "unknown" not in session.phases
        assert 1 not in session.phases  # type: ignore[comparison-overlap]
        assert session.phases.get("unknown") is None
        assert session.phases.get("unknown", session.phases["search"]) is session.phases.get("search")
    assert tracker.statistics().refused == 0


async def test_without_strict_what_comes_after_the_end_is_dropped(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker(strict=False) as tracker:
        async with tracker.session("a", PIPELINE) as session:
            pass
        before = session.snapshot()
        with session.phase("search"):
            pass
        session.advance_to("report")
        session.skip_phase("analysis")
        session.save(1)
        session.set_result(1)
        session.fail("late")
        session.cancel()
        assert session.snapshot() is before
        assert tracker.statistics().refused == 7


@pytest.mark.parametrize(
    "make",
    [
        lambda bad: PhaseSpec("a", weight=bad),
        lambda bad: PhaseSpec("a", total=-1 if bad is None else bad),
        lambda bad: Pipeline("p", {"a": bad}),
    ],
)
@pytest.mark.parametrize("bad", [-1, math.nan, math.inf, "1", None, [1], 2**53])
def test_no_weight_and_no_total_of_a_pipeline_is_bad(make: Callable[[Any], object], bad: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        make(bad)


@pytest.mark.parametrize("bad", [5, b"x", "x" * 201, []])
def test_no_title_unit_or_alias_of_a_pipeline_is_bad(bad: Any) -> None:
    for given in ({"title": bad}, {"unit": bad}, {"aliases": (bad,)}):
        with pytest.raises((ValueError, TypeError)):
            PhaseSpec("a", **given)
    for not_phases in (5, [5], [None], {5: 1}):
        with pytest.raises((ValueError, TypeError)):
            Pipeline("p", not_phases)  # type: ignore[arg-type]


async def test_signals_to_be_interrupted_on_are_signals(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker:
        with pytest.raises(ValueError, match="at least one signal"):
            tracker.interrupt_on()
        for bad in ("SIGTERM", 9999, None):
            with pytest.raises((ValueError, TypeError)):
                tracker.interrupt_on(bad)  # type: ignore[arg-type]
