"""Leaving the tracker, a polite stop and Ctrl-C end its sessions."""

from __future__ import annotations

import signal

import pytest
import trio
import trio.testing

from tests.support import RecordingStore
from tests.unit.session.ended import end_of
from trio_progress import (
    Pipeline,
    SessionClosedError,
    open_tracker,
)

PIPELINE = Pipeline("research", {"search": 3, "analysis": 2, "report": 1})


async def test_leaving_the_tracker_ends_sessions_of_other_nurseries(autojump_clock: trio.testing.MockClock) -> None:
    store = RecordingStore(delay=0.05)
    async with trio.open_nursery() as outside:
        async with open_tracker(store) as tracker:

            async def job() -> None:
                async with tracker.session("a") as session:
                    session.increment("n")
                    await trio.sleep(100)

            outside.start_soon(job)
            await trio.sleep(1)
        left = trio.current_time()
        assert end_of(store).status == "cancelled"
        with pytest.raises(SessionClosedError):
            async with tracker.session("b"):
                pass
    assert left < 2
    assert end_of(store).counters == {"n": 1}


async def test_a_session_that_will_not_end_does_not_keep_the_tracker(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with trio.open_nursery() as outside:
        async with open_tracker() as tracker:

            async def stubborn() -> None:
                async with tracker.session("a"):
                    with trio.CancelScope(shield=True):
                        await trio.sleep(100)

            outside.start_soon(stubborn)
            await trio.sleep(1)
        assert trio.current_time() < 15
    assert "these sessions do not end: 'a'" in caplog.text
    assert trio.current_time() < 120


def test_a_polite_stop_interrupts_all_sessions_and_ends_quietly() -> None:
    store = RecordingStore()
    reached: list[str] = []

    async def main() -> int | None:
        async with trio.open_nursery() as outside:
            async with open_tracker(store) as tracker:
                tracker.interrupt_on(signal.SIGTERM)

                async def job() -> None:
                    async with tracker.session("b"):
                        await trio.sleep_forever()

                outside.start_soon(job)
                async with tracker.session("a", PIPELINE) as session:
                    session.save({"page": 7})
                    session.advance_to("search")
                    signal.raise_signal(signal.SIGTERM)
                    await trio.sleep_forever()
                reached.append("after the session")
            reached.append("after the tracker")
        return tracker.interrupted_by

    assert trio.run(main) == signal.SIGTERM
    assert reached == ["after the tracker"]
    assert (end_of(store, "a").status, end_of(store, "b").status) == ("interrupted", "interrupted")
    assert store.leases == {}
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize("checkpoints", [0, 1, 2])
def test_a_tracker_that_is_left_at_once_or_as_the_signal_comes_ends_quietly(checkpoints: int) -> None:
    async def main(signalled: bool) -> int | None:
        async with open_tracker() as tracker:
            tracker.interrupt_on(signal.SIGTERM)
            for _ in range(checkpoints):
                await trio.lowlevel.checkpoint()
            if signalled:
                signal.raise_signal(signal.SIGTERM)
        return tracker.interrupted_by

    strays: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: strays.append(number))
    try:
        assert trio.run(main, False) is None
        assert strays == []
        heard = trio.run(main, True)
    finally:
        signal.signal(signal.SIGTERM, before)
    # Either the tracker has it, or it was over and whoever handles it else: never both, never nobody.
    assert [heard or 0, *strays] in ([signal.SIGTERM], [0, signal.SIGTERM])


def test_a_ctrl_c_interrupts_sessions_in_child_tasks_too() -> None:
    store = RecordingStore()

    async def main() -> None:
        async with open_tracker(store) as tracker, trio.open_nursery() as nursery:

            async def job() -> None:
                async with tracker.session("a"):
                    await trio.sleep_forever()

            nursery.start_soon(job)
            await trio.testing.wait_all_tasks_blocked()
            signal.raise_signal(signal.SIGINT)
            await trio.sleep_forever()

    with pytest.RaisesGroup(KeyboardInterrupt):
        trio.run(main)
    assert end_of(store).status == "interrupted"


async def test_the_body_of_the_tracker_leaves_as_itself(autojump_clock: trio.testing.MockClock) -> None:
    error = KeyError("mine")
    with pytest.raises(KeyError) as caught:
        async with open_tracker():
            raise error
    assert caught.value is error
    with trio.move_on_after(1) as scope:
        async with open_tracker() as tracker:
            async with tracker.session("a"):
                await trio.sleep(5)
    assert scope.cancelled_caught
