"""A client of the protocol without a network: the real server, in virtual time, under any schedule."""

from __future__ import annotations

import msgspec
import pytest
import trio

from trio_progress import ProgressTracker, Snapshot, open_tracker
from trio_progress.protocol.messages import End, ErrorMessage, Listed, Pong, Subscribed, Update
from trio_progress.server.transport import SocketlessTransport
from trio_progress.testing import MemoryClient, RefusedError, cancel_everywhere, explore, jitter, memory_client

SECRET = "a-shared-secret-of-thirty-two-characters"


async def work(tracker: ProgressTracker, session_id: str = "a", steps: int = 5, pause: float = 0.3) -> None:
    async with tracker.session(session_id) as session:
        with session.phase("search", total=steps) as phase:
            for n in range(steps):
                session.emit("found", {"n": n})
                phase.advance()
                await trio.sleep(pause)


async def followed(client: MemoryClient, session_id: str = "a") -> tuple[Snapshot, End, list[object]]:
    """The state as the client has merged it, the end, and the data of the events."""
    view: Snapshot | None = None
    events: list[object] = []
    async for message in client:
        if isinstance(message, Snapshot):
            view = message
        elif isinstance(message, Update):
            assert view is not None
            view = message.apply(view)
        elif isinstance(message, End):
            assert view is not None
            return view, message, events
        elif not isinstance(message, (Subscribed, ErrorMessage)) and hasattr(message, "data"):
            events.append(message.data)
    raise AssertionError(f"closed before the end: {client.closed}")


async def test_what_it_is_told_merges_to_the_state_that_the_session_ended_on(autojump_clock: trio.abc.Clock) -> None:
    async with open_tracker() as tracker, trio.open_nursery() as nursery:
        async with memory_client(tracker) as client:
            await client.subscribe("a", wait=True)
            nursery.start_soon(work, tracker)
            view, end, events = await followed(client)
        assert end.status == "completed"
        assert events == [{"n": n} for n in range(5)]
        kept = await tracker.snapshot("a")
        assert (view.seq, view.phases, view.status) == (kept.seq, kept.phases, "completed")


async def test_it_lists_cancels_and_asks_for_a_sign_of_life(autojump_clock: trio.abc.Clock) -> None:
    async with open_tracker() as tracker, trio.open_nursery() as nursery:
        async with memory_client(tracker) as client:
            await client.ping("there?")
            assert await client.receive() == Pong(data="there?")
            nursery.start_soon(work, tracker, "a", 1000)
            await client.subscribe("*")
            while not isinstance(listed := await client.receive(), Listed) or listed.session != "a":
                pass
            await client.cancel("a", "enough")
            await client.cancel("b")
            while not isinstance(refused := await client.receive(), ErrorMessage):
                pass
            assert (refused.code, refused.session) == ("not_found", "b")
        assert (await tracker.wait_ended("a")).status == "cancelled"


async def test_who_does_not_read_is_dropped_at_the_deadline_and_holds_up_nobody(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with open_tracker() as tracker, trio.open_nursery() as nursery:
        async with (
            memory_client(tracker, write_timeout=3.0) as stalled,
            memory_client(tracker, write_timeout=3.0) as other,
        ):
            await stalled.subscribe("a", wait=True)
            await other.subscribe("a", wait=True)
            begun = trio.current_time()
            nursery.start_soon(work, tracker, "a", 40)
            _, end, _ = await followed(other)
            assert end.status == "completed"
            assert trio.current_time() - begun == pytest.approx(40 * 0.3, abs=0.5)
            assert tracker.statistics().subscribers_dropped == 1
            with pytest.raises(trio.EndOfChannel):
                for _ in range(20):
                    await stalled.receive()


async def test_who_vanishes_is_forgotten(autojump_clock: trio.abc.Clock) -> None:
    async with open_tracker() as tracker, trio.open_nursery() as nursery:
        async with memory_client(tracker) as client:
            nursery.start_soon(work, tracker, "a", 20)
            await client.subscribe("a", wait=True)
            await client.receive()
            assert tracker.statistics().subscribers == 1
            client.vanish()
            await trio.sleep(1)
            assert tracker.statistics().subscribers == 0
            with pytest.raises(trio.BrokenResourceError):
                await client.ping()


async def test_it_is_asked_who_it_is_as_any_other(autojump_clock: trio.abc.Clock) -> None:
    async with open_tracker() as tracker:
        async with memory_client(tracker, auth=SECRET, token=SECRET) as client:
            await client.ping()
            assert isinstance(await client.receive(), Pong)
        with pytest.raises(RefusedError, match="the token is not valid") as caught:
            async with memory_client(tracker, auth=SECRET, token="another"):
                raise AssertionError("it was let in")
        assert caught.value.status == 401
        async with memory_client(tracker, auth=SECRET) as client:
            await client.auth("another")
            with pytest.raises(trio.EndOfChannel):
                await client.receive()
            assert client.closed is not None
            assert client.closed.code == 4500
        with pytest.raises(RefusedError, match="origin"):
            async with memory_client(tracker, headers=[("Origin", "https://elsewhere.example")]):
                raise AssertionError("it was let in")


async def test_what_is_no_request_closes_as_from_a_socket(autojump_clock: trio.abc.Clock) -> None:
    async with open_tracker() as tracker, memory_client(tracker) as client:
        await client.send('{"type": "subscribe", "session": "../etc"}')
        with pytest.raises(trio.EndOfChannel):
            await client.receive()
        assert client.closed is not None
        assert client.closed.code == 4501
        assert "session" in (client.closed.reason or "")


async def test_the_bodys_own_exception_leaves_as_itself(autojump_clock: trio.abc.Clock) -> None:
    async with open_tracker() as tracker:
        with pytest.raises(KeyError):
            async with memory_client(tracker):
                raise KeyError("mine")
        with pytest.raises(TypeError, match="ProgressTracker"):
            async with memory_client("tracker"):  # type: ignore[arg-type]
                pass
        with pytest.raises(ValueError, match="write_timeout"):
            async with memory_client(tracker, write_timeout=-1):
                pass


def test_whatever_the_schedule_a_client_that_comes_back_ends_on_the_sessions_state(exhaustive: bool) -> None:
    async def scenario() -> None:
        async with open_tracker() as tracker, trio.open_nursery() as nursery:
            nursery.start_soon(work, tracker, "a", 4, 0.1)
            since: str | None = None
            view: Snapshot | None = None
            for stay in (2, 3, 1000):
                async with memory_client(tracker) as client:
                    await client.subscribe("a", since=since, wait=True)
                    for _ in range(stay):
                        message = await client.receive()
                        if isinstance(message, Snapshot):
                            view = message
                        elif isinstance(message, Update):
                            assert view is not None
                            view = message.apply(view)
                        elif isinstance(message, End):
                            break
                        since = getattr(message, "resume", since)
                    await jitter(0.2)
                    client.vanish()
            kept = await tracker.snapshot("a")
            assert view is not None
            assert msgspec.structs.replace(view, resume="", heartbeat_at=kept.heartbeat_at) == msgspec.structs.replace(
                kept, resume=""
            )

    schedules = 40 if exhaustive else 8
    assert explore(scenario, schedules=schedules, seed=1).distinct > schedules - 5


@pytest.mark.exhaustive
def test_a_cancel_at_any_step_leaves_nothing_of_it(exhaustive: bool) -> None:
    async def scenario() -> None:
        async with open_tracker() as tracker, trio.open_nursery() as nursery:
            nursery.start_soon(work, tracker, "a", 2 if exhaustive else 1, 0.1)
            async with memory_client(tracker) as client:
                await client.subscribe("a", wait=True)
                await followed(client)

    assert cancel_everywhere(scenario, seed=1).steps > 20


def test_a_transport_without_a_socket_says_what_it_lacks() -> None:
    with pytest.raises(TypeError, match="abstract"):
        SocketlessTransport()  # type: ignore[abstract]
