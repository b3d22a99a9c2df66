"""The ASGI app in real apps on a real Hypercorn: those of its guide, mounted, and with a browser."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError

import pytest
import trio

from tests.documents import ROOT, files
from tests.doors import ask, open_hypercorn, talk
from tests.support import PATIENCE, free_port
from trio_progress import asgi, open_tracker

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

pytestmark = [pytest.mark.integration, pytest.mark.exhaustive]

FILES = files("guides/asgi.md")


@pytest.fixture
def guides_app(tmp_path: Path) -> Iterator[int]:
    """The FastAPI app of the guide, by Hypercorn's own command; its port."""
    (tmp_path / "app.py").write_text(FILES["app.py"], encoding="utf-8")
    port = free_port()
    command = [sys.executable, "-m", "hypercorn", "--worker-class", "trio", "--bind", f"127.0.0.1:{port}", "app:app"]
    process = subprocess.Popen(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)})
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/openapi.json", timeout=PATIENCE):
                    break
            except (URLError, ConnectionError):
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield port
        process.terminate()
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()


async def test_the_app_of_the_guide_shows_what_it_runs(guides_app: int) -> None:
    assert (await ask(guides_app, "POST", "/imports/i-1")).json == {"page": "/progress/#/i-1"}
    moved = await ask(guides_app, "GET", "/progress")
    assert (moved.status, moved.headers["location"].rpartition("/progress")[2]) == (307, "/")
    assert b'src="static/' in (await ask(guides_app, "GET", "/progress/")).body
    assert (await ask(guides_app, "GET", "/progress/sessions/i-1")).json["status"] == "running"
    async with talk(guides_app, path="/progress/ws") as client:
        await client.say(type="subscribe", session="i-1", close=True)
        assert (await client.closed())[0] == 1000
    assert client.seen[-1]["status"] == "completed"
    events = (await ask(guides_app, "GET", "/progress/sessions/i-1/events")).body
    assert b'"type":"end"' in events


def test_its_page_is_live_in_a_browser(guides_app: int, browser_context: BrowserContext) -> None:
    from playwright.sync_api import expect

    page = browser_context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("requestfailed", lambda request: problems.append(request.url))
    page.goto(f"http://127.0.0.1:{guides_app}/progress/")
    request = urllib.request.Request(f"http://127.0.0.1:{guides_app}/imports/i-2", method="POST")
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        address = json.load(answer)["page"]
    expect(page.get_by_role("link", name="i-2").first).to_be_visible(timeout=PATIENCE * 1000)
    page.goto(f"http://127.0.0.1:{guides_app}{address}")
    expect(page.get_by_text("Completed", exact=False).first).to_be_visible(timeout=PATIENCE * 1000)
    page.close()
    assert problems == []


async def test_it_is_mounted_beside_quart_on_trio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mounted.py").write_text(FILES["mounted.py"], encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    named: Any = importlib.import_module("mounted")
    monkeypatch.delitem(sys.modules, "mounted")
    async with open_tracker() as tracker, open_hypercorn(named.mounted(tracker)) as server:
        async with tracker.session("r-1"):
            assert (await ask(server.port, "GET", "/hello")).body == b"hello"
            assert (await ask(server.port, "GET", "/progress")).headers["location"] == "/progress/"
            assert (await ask(server.port, "GET", "/progress/sessions/r-1")).json["status"] == "running"
            async with talk(server.port, path="/progress/ws") as client:
                await client.say(type="subscribe", session="r-1")
                assert (await client.until("snapshot"))["session"] == "r-1"


async def test_who_does_not_read_is_let_go_and_the_others_notice_nothing() -> None:
    """Hypercorn cannot be got out of a write: the connection stays until the client closes it, and costs no more."""
    async with open_tracker(broadcast_interval=0.01) as tracker:
        async with open_hypercorn(asgi.app(tracker, auth=None, write_timeout=0.5)) as server:
            async with tracker.session("r-1") as session:
                stuck = await trio.open_tcp_stream("127.0.0.1", server.port)
                stuck.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
                async with stuck, talk(server.port) as client:
                    await stuck.send_all(b"GET /sessions/r-1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    await client.say(type="subscribe", session="r-1", max_hz=5)
                    await client.until("snapshot")
                    with trio.fail_after(PATIENCE):
                        while tracker.statistics().subscribers > 1 or len(client.seen) < 5:
                            session.set(text="x" * 16_000, n=len(client.seen))
                            with trio.move_on_after(0.02):
                                await client.next()
                assert tracker.statistics().subscribers_dropped == 1
