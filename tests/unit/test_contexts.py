"""What is to be entered by `async with`, used otherwise, unentered, or where Trio does not run."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import trio
import trio.testing

from trio_progress import connect, current_session, open_display, open_progress, open_server, open_tracker
from trio_progress.blocking import Client
from trio_progress.contexts import BodyError

OPENINGS: dict[str, Callable[[], Any]] = {
    "open_tracker": open_tracker,
    "open_progress": lambda: open_progress("import", display=False),
    "connect": lambda: connect("ws://127.0.0.1:1", "a"),
    "open_server": lambda: open_server(None, 0),  # type: ignore[arg-type]
    "open_display": lambda: open_display(None),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", OPENINGS)
async def test_an_opening_that_is_used_otherwise_names_the_right_use(name: str) -> None:
    opening = OPENINGS[name]()
    uses: list[Callable[[], Any]] = [opening.__enter__, opening.__aiter__, opening.__await__]
    for use in uses:
        with pytest.raises(TypeError, match=rf"use `async with {name}\(.*\) as \w+`"):
            use()
    with pytest.raises(TypeError, match="async with"):
        with opening:
            pass
    with pytest.raises(TypeError, match="async with"):
        await opening


@pytest.mark.parametrize("name", ["session", "declare", "snapshot", "phase"])
def test_an_opening_that_was_not_entered_says_so(name: str) -> None:
    opening = open_tracker()
    with pytest.raises(AttributeError, match=rf"has not been entered, .* and `tracker\.{name}` in its block"):
        getattr(opening, name)
    assert not hasattr(opening, "_runtime")
    assert "async with open_tracker() as tracker" in repr(opening)


@pytest.mark.parametrize("name", OPENINGS)
def test_under_asyncio_it_says_what_to_do(name: str) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"what runs here is asyncio.*trio\.run\(main\).*asyncio\.to_thread"):
            async with OPENINGS[name]():
                pass

    asyncio.run(main())


@pytest.mark.parametrize("name", OPENINGS)
def test_without_any_event_loop_it_says_what_to_do(name: str) -> None:
    entering = OPENINGS[name]().__aenter__()
    with pytest.raises(RuntimeError, match=r"call it within trio\.run\(main\)"):
        entering.send(None)


def test_in_a_notebook_it_says_what_to_do_there(monkeypatch: pytest.MonkeyPatch) -> None:
    async def cell() -> None:
        with pytest.raises(RuntimeError, match=r"open_tracker\(\) needs Trio.*`%autoawait trio` in a cell of its own"):
            await open_tracker().__aenter__()

    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    asyncio.run(cell())


def test_work_that_is_followed_can_run_beside_asyncio_as_the_error_says() -> None:
    async def work() -> str:
        async with open_tracker() as tracker, tracker.session("a") as session:
            with session.phase("x") as phase:
                phase.advance()
        return session.status

    async def main() -> str:
        return await asyncio.to_thread(trio.run, work)

    assert asyncio.run(main()) == "completed"


def test_the_null_session_can_be_flushed_under_asyncio() -> None:
    asyncio.run(current_session().flush())


async def test_sessions_and_streams_that_are_used_otherwise_name_the_right_use(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_tracker() as tracker:
        things: list[Any] = [tracker.session("a"), tracker.watch("a"), tracker.watch_all(), tracker.subscribe("a")]
        for thing in things:
            with pytest.raises(TypeError, match="async with"):
                thing.__enter__()
            with pytest.raises(TypeError, match="async with"):
                await thing
        for stream, call in zip(things[1:], ("watch", "watch_all", "subscribe"), strict=True):
            with pytest.raises(RuntimeError, match=rf"enter it first: `async with tracker\.{call}\("):
                await anext(stream)
        with pytest.raises(AttributeError, match=r"session 'a' has not begun.*async with tracker\.session"):
            things[0].phase("x")


async def test_the_blocking_client_is_no_async_one(tmp_path: Any) -> None:
    client: Any = Client(f"sqlite:{tmp_path}/p.db")
    try:
        with pytest.raises(TypeError, match=r"use `with Client\(...\)`"):
            async with client:
                pass
    finally:
        client.close()


async def test_what_leaves_a_body_leaves_the_nursery_around_it_as_itself() -> None:
    raised, body = ValueError("mine"), BodyError()
    with pytest.raises(ValueError, match="mine") as caught:
        async with trio.open_nursery(strict_exception_groups=True) as nursery:
            nursery.start_soon(trio.sleep_forever)
            with body:
                raise raised
            assert body.error is raised
            nursery.cancel_scope.cancel()
        body.reraise()
    assert caught.value is raised
    assert body.error is None
    body.reraise()
