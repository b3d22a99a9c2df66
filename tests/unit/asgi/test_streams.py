"""The ASGI app's streams: what a client is sent that reads, reads slowly, goes away, or sends too much."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from tests.asgi_calls import Call, ask, calling, scope_of
from tests.doors import SECRET, bearer
from trio_progress import ProgressTracker, asgi, open_tracker
from trio_progress.server import issue_token

PATHS = {"events": "/sessions/r-1/events", "list as events": "/events", "websocket": "/ws"}


@pytest.fixture
async def tracker() -> AsyncIterator[ProgressTracker]:
    async with open_tracker() as tracker:
        yield tracker


def stream(what: str, *, reads: bool = True) -> Call:
    kind = "websocket" if what == "websocket" else "http"
    return Call(scope_of(PATHS[what], kind=kind), reads=reads)


async def begun(call: Call) -> None:
    """Waits until it is sent updates."""
    if call.scope["type"] == "websocket":
        call.say(type="subscribe", session="r-1")
        await call.of("snapshot")
    else:
        await call.until(lambda: b'"id":"r-1"' in call.body)


@pytest.mark.parametrize("what", PATHS)
async def test_a_client_is_sent_what_changes_and_the_end(
    autojump_clock: trio.testing.MockClock, tracker: ProgressTracker, what: str
) -> None:
    app = asgi.app(tracker, auth=None)
    call = stream(what)
    async with calling(app, call):
        async with tracker.session("r-1") as session:
            await begun(call)
            session.set(x=1)
            await trio.sleep(5)
        await trio.sleep(5)
        said = call.body.decode() + "".join(event.get("text", "") for event in call.sent)
        assert '"x":1' in said
        assert '"status":"completed"' in said
        assert call.over == (what == "events")


@pytest.mark.parametrize("what", PATHS)
async def test_who_goes_away_leaves_nothing_behind(
    autojump_clock: trio.testing.MockClock, tracker: ProgressTracker, what: str
) -> None:
    app = asgi.app(tracker, auth=None)
    async with tracker.session("r-1") as session:
        call = stream(what)
        async with calling(app, call):
            await begun(call)
            call.leave()
            session.set(x=1)
            await trio.sleep(1)
            assert call.returned
        assert tracker.statistics().subscribers == 0


@pytest.mark.parametrize("what", PATHS)
async def test_a_server_that_stops_cancels_it_and_nothing_is_left(
    autojump_clock: trio.testing.MockClock, tracker: ProgressTracker, what: str
) -> None:
    app = asgi.app(tracker, auth=None)
    async with tracker.session("r-1"):
        call = stream(what)
        async with calling(app, call):
            await begun(call)
        assert not call.returned
        await trio.sleep(1)
        assert tracker.statistics().subscribers == 0


@pytest.mark.parametrize("what", PATHS)
async def test_who_does_not_read_is_dropped_in_time_and_the_others_notice_nothing(
    autojump_clock: trio.testing.MockClock, tracker: ProgressTracker, what: str
) -> None:
    app = asgi.app(tracker, auth=None, write_timeout=7.0)
    async with tracker.session("r-1") as session, calling(app, stream("websocket")) as other:
        await begun(other)
        call = stream(what)
        async with calling(app, call):
            await begun(call)
            call.reads = False
            began = trio.current_time()
            with trio.fail_after(60):
                while not call.returned:
                    session.increment("n")
                    await trio.sleep(0.5)
            assert trio.current_time() - began <= 7.0 + 1.5
        assert tracker.statistics().subscribers_dropped == 1
        assert other.messages[-1]["head"]["counters"]["n"] >= 10


@pytest.mark.parametrize("what", PATHS)
async def test_where_a_server_shields_its_writes_who_does_not_read_is_let_go_all_the_same(
    autojump_clock: trio.testing.MockClock, tracker: ProgressTracker, what: str
) -> None:
    app = asgi.app(tracker, auth=None, write_timeout=7.0)
    async with tracker.session("r-1") as session, calling(app, stream(what)) as call:
        await begun(call)
        call.reads, call.shielded = False, True
        session.set(n=1)
        await trio.sleep(20)
        assert not call.returned
        assert (tracker.statistics().subscribers, tracker.statistics().subscribers_dropped) == (0, 1)
        call.read_on()
        await trio.sleep(1)
        assert call.returned


async def test_who_does_not_read_an_answer_is_dropped_in_time(
    autojump_clock: trio.testing.MockClock, tracker: ProgressTracker
) -> None:
    app = asgi.app(tracker, auth=None, write_timeout=7.0)
    call, began = Call(scope_of("/"), reads=False), trio.current_time()
    call.tell("http.request")
    await app(call.scope, call.receive, call.send)
    assert trio.current_time() - began == pytest.approx(7.0)


@pytest.mark.parametrize(
    ("given", "code"),
    [(["é" * 32_769], 1009), (['{"type":"ping"}'] * 6, 4013), (["{}"], 4501), ([b"{}"], 1003)],
    ids=["too large", "too many", "nothing of the protocol", "not text"],
)
async def test_what_a_client_sends_is_bounded(
    autojump_clock: trio.testing.MockClock, tracker: ProgressTracker, given: list[str | bytes], code: int
) -> None:
    app = asgi.app(tracker, auth=None, message_burst=5, message_rate=1)
    async with calling(app, stream("websocket")) as call:
        for one in given:
            call.tell("websocket.receive", **({"text": one} if isinstance(one, str) else {"bytes": one}))
        await call.until(lambda: call.over)
        assert call.closed is not None
        assert call.closed[0] == code


async def test_a_token_comes_with_the_first_message_and_expires(
    autojump_clock: trio.testing.MockClock, tracker: ProgressTracker
) -> None:
    app = asgi.app(tracker, auth=SECRET, auth_timeout=4.0)
    began = trio.current_time()
    async with calling(app, stream("websocket")) as silent:
        await silent.until(lambda: silent.over)
        assert silent.closed is not None
        assert silent.closed[0] == 4500
        assert trio.current_time() - began == pytest.approx(4.0)
    async with tracker.session("r-1"), calling(app, stream("websocket")) as call:
        call.say(type="auth", token=issue_token(SECRET, everything=True, ttl=3600))
        await begun(call)
        call.say(type="ping")
        await call.of("pong")
    late = Call(scope_of("/ws", kind="websocket", subprotocols=["trio-progress.v1", "bearer.eA"]))
    async with calling(app, late):
        await late.until(lambda: late.over)
        assert late.closed is not None
        assert late.closed[0] == 4500
    token = {name.lower(): value for name, value in bearer(SECRET).items()}
    assert (await ask(app, "/metrics", headers=token)).status == 200
    assert (await ask(app, "/metrics")).status == 401


async def test_a_tracker_that_is_left_ends_the_streams_and_later_requests_are_refused(
    autojump_clock: trio.testing.MockClock,
) -> None:
    calls = [stream(what) for what in PATHS]
    async with trio.open_nursery() as nursery:
        async with open_tracker() as tracker:
            app = asgi.app(tracker, auth=None)
            async with tracker.session("r-1"):
                for call in calls:
                    call.tell("http.request" if call.scope["type"] == "http" else "websocket.connect")
                    nursery.start_soon(app, call.scope, call.receive, call.send)
                    await begun(call)
        await calls[0].until(lambda: calls[0].over)
        await calls[1].until(lambda: calls[1].over)
        assert (await ask(app, "/sessions")).status == 503
        calls[2].leave()
