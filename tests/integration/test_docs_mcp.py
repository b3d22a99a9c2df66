"""The bridge to MCP as its page spells it out: the SDK's server and client, on Trio, over pipes."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from tests.documents import ROOT, files
from trio_progress import open_tracker

if TYPE_CHECKING:
    from mcp import Client

pytestmark = [
    pytest.mark.integration,
    pytest.mark.exhaustive,
    pytest.mark.skipif(importlib.util.find_spec("mcp") is None, reason="mcp is missing: install the extra `dev`"),
]

FILES = files("guides/bridges.md")
PATIENCE = 60.0

MORE = """
from orders_server import *

@server.tool()
async def look_twice(request: Context) -> str:
    tracker = request.request_context.lifespan_context
    async with trio.open_nursery() as nursery:
        nursery.start_soon(report, tracker, "twice", request)
        async with tracker.session("twice") as session:
            with session.phase("fetch", total=10) as fetch:
                fetch.advance(8)
                await trio.sleep(0.4)
                fetch.update(total=40)  # There is more than was thought: the bar goes back.
                for _ in range(4):
                    fetch.advance(8)
                    await trio.sleep(0.4)
            raise ValueError("too much")

trio.run(server.run_stdio_async)
"""


@asynccontextmanager
async def client_of(folder: Path) -> AsyncIterator[Client]:
    """A client of the page's server with one more tool, in which a warning is an error."""
    from mcp import Client
    from mcp.client.stdio import StdioServerParameters

    (folder / "orders_server.py").write_text(FILES["orders_server.py"], encoding="utf-8")
    (folder / "more.py").write_text(MORE, encoding="utf-8")
    command = StdioServerParameters(
        command=sys.executable,
        args=["-W", "error", "more.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    with trio.fail_after(PATIENCE):
        async with Client(command) as client:
            yield client


async def ended(folder: Path) -> list[str]:
    """The statuses of what the server has run, newest first."""
    async with open_tracker(f"sqlite:{folder / 'orders.db'}") as tracker:
        return [head.status for head in (await tracker.sessions()).sessions]


async def test_a_caller_is_told_the_newest_progress_that_only_grows_and_ends_whole(tmp_path: Path) -> None:
    reports: list[tuple[float, float | None, str | None]] = []

    async def take(progress: float, total: float | None, message: str | None) -> None:
        reports.append((progress, total, message))

    async with client_of(tmp_path) as client:
        result = await client.call_tool("import_orders", {"orders": 40}, progress_callback=take)
        silent = await client.call_tool("import_orders", {"orders": 1})
    assert (result.is_error, silent.is_error) == (False, False)
    told = [progress for progress, _, _ in reports]
    assert told == sorted(set(told))
    assert (told[-1], reports[-1][2]) == (1.0, "order 40")
    assert {total for _, total, _ in reports} == {1.0}
    # Two seconds of work: a report for each tenth of a second at most, not for each order and its message.
    assert 2 <= len(reports) < 30
    assert await ended(tmp_path) == ["completed", "completed"]


async def test_a_bar_that_goes_back_is_no_step_back_for_the_caller_and_an_error_is_the_tools(tmp_path: Path) -> None:
    told: list[float] = []

    async def take(progress: float, total: float | None, message: str | None) -> None:
        told.append(progress)

    async with client_of(tmp_path) as client:
        assert (await client.call_tool("look_twice", {}, progress_callback=take)).is_error
        assert not (await client.call_tool("import_orders", {"orders": 1})).is_error
    assert told == sorted(set(told))
    assert told[0] == 0.8
    assert 0.99 < told[-1] < 1
    assert await ended(tmp_path) == ["completed", "failed"]


async def test_a_cancelled_request_ends_the_session_and_its_reports_and_the_server_goes_on(tmp_path: Path) -> None:
    reports: list[float] = []
    begun = trio.Event()

    async def take(progress: float, total: float | None, message: str | None) -> None:
        reports.append(progress)
        begun.set()

    async with client_of(tmp_path) as client:
        async with trio.open_nursery() as nursery:

            async def call() -> None:
                await client.call_tool("import_orders", {"orders": 100_000}, progress_callback=take)

            nursery.start_soon(call)
            await begun.wait()
            nursery.cancel_scope.cancel()
        before = len(reports)
        assert not (await client.call_tool("import_orders", {"orders": 10})).is_error
        assert len(reports) == before
    assert await ended(tmp_path) == ["completed", "cancelled"]
