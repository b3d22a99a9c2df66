"""How a session ended is read from how its scope was left, and nothing of the body's is changed by that."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from tests.support import RecordingStore, core_of
from tests.unit.session.ended import end_of, ended
from trio_progress import (
    End,
    Pipeline,
    Session,
    SessionActiveError,
    SessionCancelledError,
    Snapshot,
    open_tracker,
)
from trio_progress.tracker import runtime_of

PIPELINE = Pipeline("research", {"search": 3, "analysis": 2, "report": 1})


async def leave_by(error: BaseException) -> tuple[BaseException | None, Snapshot]:
    store = RecordingStore()
    async with open_tracker(store) as tracker:
        try:
            async with tracker.session("a", PIPELINE) as session:
                with session.phase("search"):
                    await trio.sleep(1)
                    raise error
        except BaseException as caught:  # noqa: ASYNC103 - what is tested
            return caught, end_of(store)  # noqa: ASYNC104 - what is tested
    return None, end_of(store)


@pytest.mark.parametrize(
    ("error", "status", "phase"),
    [
        (ValueError("x"), "failed", "failed"),
        (StopAsyncIteration(), "failed", "failed"),
        (RuntimeError("y"), "failed", "failed"),
        (ExceptionGroup("g", [ValueError(), KeyError()]), "failed", "failed"),
        (trio.TooSlowError(), "timed_out", "failed"),
        (ExceptionGroup("g", [trio.TooSlowError(), trio.TooSlowError()]), "timed_out", "failed"),
        (ExceptionGroup("g", [trio.TooSlowError(), ValueError()]), "failed", "failed"),
        (KeyboardInterrupt(), "interrupted", "cancelled"),
        (SystemExit(3), "interrupted", "cancelled"),
        (BaseExceptionGroup("g", [KeyboardInterrupt()]), "interrupted", "cancelled"),
        (BaseExceptionGroup("g", [KeyboardInterrupt(), ValueError()]), "interrupted", "failed"),
        (GeneratorExit(), "cancelled", "cancelled"),
    ],
    ids=repr,
)
async def test_an_exception_leaves_as_itself_and_names_the_end(
    error: BaseException, status: str, phase: str, autojump_clock: trio.testing.MockClock
) -> None:
    caught, end = await leave_by(error)
    assert caught is error
    assert error.__cause__ is None
    assert end.status == status
    assert end.phase("search").status == phase


async def test_a_body_that_returns_has_completed_and_what_was_never_begun_is_skipped(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def body(session: Session) -> None:
        with session.phase("search"):
            pass
        session.advance_to("analysis")

    end, _ = await ended(body)
    assert (end.status, end.progress, end.error) == ("completed", 1.0, None)
    assert [phase.status for phase in end.phases] == ["completed", "completed", "skipped"]


async def test_a_deadline_around_the_session_is_timed_out(autojump_clock: trio.testing.MockClock) -> None:
    async def body(session: Session) -> None:
        await trio.sleep(10)

    end, _ = await ended(body, lambda: trio.move_on_after(1))
    assert end.status == "timed_out"
    assert end.error is not None


async def test_a_deadline_that_is_set_from_inside_is_timed_out(autojump_clock: trio.testing.MockClock) -> None:
    scope = trio.CancelScope()

    async def body(session: Session) -> None:
        scope.deadline = trio.current_time() + 1
        await trio.sleep(10)

    end, _ = await ended(body, lambda: scope)
    assert end.status == "timed_out"


async def test_the_reason_of_the_enclosing_scope_counts_not_that_of_an_inner_one(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def body(session: Session) -> None:
        with trio.CancelScope() as inner:  # noqa: ASYNC100 - the body has them
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def late() -> None:
                    with trio.CancelScope(shield=True):
                        await trio.sleep(0.999)
                    inner.cancel()
                    with trio.CancelScope(shield=True):
                        await trio.sleep(0.5)
                    await trio.lowlevel.checkpoint()

    end, _ = await ended(body, lambda: trio.move_on_after(1))
    assert end.status == "timed_out"


async def test_a_scope_that_is_cancelled_by_hand_is_cancelled(autojump_clock: trio.testing.MockClock) -> None:
    scope = trio.CancelScope()

    async def body(session: Session) -> None:
        scope.cancel()
        await trio.sleep(10)

    end, _ = await ended(body, lambda: scope)
    assert (end.status, end.error) == ("cancelled", None)


async def test_cancel_ends_the_block_quietly_and_tells_the_reason(autojump_clock: trio.testing.MockClock) -> None:
    async def body(session: Session) -> None:
        session.cancel("enough")
        await trio.sleep(10)
        raise AssertionError("not reached")

    end, session = await ended(body)
    assert session.status == end.status == "cancelled"
    assert end.error is not None
    assert (end.error.type, end.error.message) == ("Cancelled", "enough")


async def test_cancel_without_a_checkpoint_after_it_has_completed(autojump_clock: trio.testing.MockClock) -> None:
    async def body(session: Session) -> None:
        session.cancel("too late")

    end, _ = await ended(body)
    assert (end.status, end.progress, end.error) == ("completed", 1.0, None)


async def test_cancel_raises_where_that_was_asked_for(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker:
        with pytest.raises(SessionCancelledError, match="enough"):
            async with tracker.session("a", raise_on_cancel=True) as session:
                session.cancel("enough")
                await trio.sleep(1)


async def test_an_error_while_being_cancelled_has_failed(autojump_clock: trio.testing.MockClock) -> None:
    store = RecordingStore()
    async with open_tracker(store) as tracker:
        with trio.move_on_after(1), pytest.raises(ValueError, match="cleanup"):
            async with tracker.session("a"):
                try:
                    await trio.sleep(10)
                finally:
                    raise ValueError("cleanup")
    assert end_of(store).status == "failed"


async def test_what_is_stopped_politely_is_interrupted_also_where_its_clean_up_fails(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    store = RecordingStore()
    async with open_tracker(store) as tracker:
        with pytest.raises(trio.BrokenResourceError):
            async with tracker.session("a", PIPELINE, resume="interrupted") as session:
                session.save(7)
                core_of(tracker, "a").stop("received SIGTERM", interrupted=True)
                try:
                    await trio.sleep(10)
                finally:
                    raise trio.BrokenResourceError("the peer is gone")
        end = end_of(store)
        assert end.status == "interrupted"
        assert end.error is not None
        assert end.error.type == "BrokenResourceError"
        assert any("failed to clean up" in record.getMessage() for record in caplog.records)
        async with tracker.session("a", PIPELINE, resume="interrupted") as session:
            assert (session.attempt, session.saved) == (2, 7)


async def test_fail_wins_over_returning_and_shows_its_reason(autojump_clock: trio.testing.MockClock) -> None:
    async def body(session: Session) -> None:
        session.fail("no sources", {"tried": 3})
        session.set_result({"partial": True})

    end, _ = await ended(body)
    assert end.status == "failed"
    assert end.error is not None
    assert (end.error.message, end.error.details, end.result) == ("no sources", {"tried": 3}, {"partial": True})
    assert end.progress < 1


async def test_viewers_see_the_type_of_an_error_and_its_text_only_where_the_pipeline_gives_one(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    store = RecordingStore()
    telling = Pipeline("telling", {"x": 1}, error_text=lambda error: f"told: {type(error).__name__}")
    async with open_tracker(store) as tracker:
        for session_id, pipeline in (("a", PIPELINE), ("b", telling)):
            with pytest.raises(ValueError, match="key=s3cret"):
                async with tracker.session(session_id, pipeline):
                    raise ValueError("key=s3cret")
    quiet, told = end_of(store, "a").error, end_of(store, "b").error
    assert quiet is not None
    assert told is not None
    assert (quiet.type, quiet.message) == ("ValueError", None)
    assert told.message == "told: ValueError"
    assert "key=s3cret" in caplog.text


@pytest.mark.parametrize(("failing", "said"), [(1, "bad row"), (2, "Exceptions from Trio nursery (1 sub-exception)")])
async def test_the_text_of_the_one_error_in_a_group_is_that_of_the_error(
    failing: int, said: str, autojump_clock: trio.testing.MockClock
) -> None:
    store = RecordingStore()
    pipeline = Pipeline("telling", {"x": 1}, error_text=str)
    async with open_tracker(store) as tracker:
        with pytest.RaisesGroup(*[ValueError] * failing, flatten_subgroups=True):
            async with tracker.session("a", pipeline), trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                errors = [ValueError("bad row") for _ in range(failing)]
                raise errors[0] if failing == 1 else ExceptionGroup("several", errors)
    shown = end_of(store).error
    assert shown is not None
    assert (shown.type, shown.message) == ("ValueError", said)


@pytest.mark.parametrize("child", ["Persister", "Broadcaster", "Heartbeat"])
async def test_a_bug_in_a_child_cancels_the_body_and_is_raised_and_the_end_is_stored(
    child: str, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one place where a private name is patched: nothing else makes our own code fail."""

    async def crash(self: Any) -> None:
        try:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.5)
            self._watch.bug = ZeroDivisionError(child)
            raise self._watch.bug
        finally:
            for name in ("flushed",):
                if hasattr(self, name):
                    getattr(self, name).set()
            if hasattr(self, "_finish"):
                self._finish()

    monkeypatch.setattr(f"trio_progress.session.{child.lower()}.{child}.run", crash)
    store = RecordingStore()
    messages = []
    async with open_tracker(store) as tracker, trio.open_nursery() as nursery:

        async def follow() -> None:
            async with tracker.subscribe("a", wait=True) as subscription:
                messages.extend([message async for message in subscription])

        nursery.start_soon(follow)
        with pytest.RaisesGroup(pytest.RaisesExc(ZeroDivisionError, match=child)):
            async with tracker.session("a"):
                await trio.sleep(100)
                raise AssertionError("not reached")
        assert trio.current_time() < 20
        assert runtime_of(tracker).open == {}
    assert end_of(store).status == "failed"
    assert store.leases == {}
    assert isinstance(messages[-1], End)
    assert messages[-1].status == "failed"


@pytest.mark.parametrize("where", ["session.lifecycle.describe", "state.session.SessionState.end_phases"])
async def test_a_bug_in_the_end_itself_is_raised_and_keeps_nobody(
    where: str, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Patched as above."""

    def crash(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(f"trio_progress.{where}", crash)
    store = RecordingStore()
    async with open_tracker(store) as tracker:
        with pytest.RaisesGroup(ZeroDivisionError):
            async with tracker.session("a"):
                pass
        with pytest.RaisesGroup(ValueError, ZeroDivisionError):
            async with tracker.session("b"):
                raise ValueError
        assert trio.current_time() < 20
        assert runtime_of(tracker).open == {}
    if where == "session.lifecycle.describe":
        assert end_of(store).status == end_of(store, "b").status == "failed"


async def test_an_error_text_that_is_no_text_is_none(autojump_clock: trio.testing.MockClock) -> None:
    class Unprintable:
        def __str__(self) -> str:
            raise ZeroDivisionError

    store = RecordingStore()
    pipeline = Pipeline("told", {"a": 1}, error_text=lambda _: Unprintable())  # type: ignore[arg-type,return-value]
    async with open_tracker(store) as tracker:
        with pytest.raises(ValueError, match="mine"):
            async with tracker.session("a", pipeline):
                raise ValueError("mine")
    end = end_of(store)
    assert end.error is not None
    assert (end.status, end.error.type, end.error.message) == ("failed", "ValueError", None)


async def test_leaving_never_waits_for_an_interval(autojump_clock: trio.testing.MockClock) -> None:
    for tenth in range(40):
        async with open_tracker(RecordingStore(delay=0.001)) as tracker:
            async with tracker.session("a", PIPELINE) as session:
                with session.phase("search") as phase:
                    phase.advance()
                    await trio.sleep(tenth * 0.1)
                    phase.advance()
                begun = trio.current_time()
            assert trio.current_time() - begun < 0.01


async def test_one_id_is_open_once_in_a_process(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker(RecordingStore(delay=0.5)) as tracker, trio.open_nursery() as nursery:
        outcomes: list[str] = []

        async def one() -> None:
            try:
                async with tracker.session("a"):
                    await trio.sleep(1)
                outcomes.append("ran")
            except SessionActiveError:
                outcomes.append("refused")

        for _ in range(5):
            nursery.start_soon(one)
        await trio.sleep(3)
        assert sorted(outcomes) == ["ran", *["refused"] * 4]
