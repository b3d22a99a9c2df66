"""The live display in a real terminal: drawn, resized, interrupted."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is missing: install the package tmux"),
]

SCRIPT = """
import trio
from trio_progress import open_progress

async def main():
    async with open_progress("crawl of many sites") as session:
        with session.phase("all", total=200) as everything:
            for number in range(200):
                scope = everything.phase(f"site-{number}", total=10, unit="pages")
                scope.__enter__().advance(number % 9)
                if number < 150:
                    scope.__exit__(None, None, None)
            print("printed meanwhile", flush=True)
            for number in range(600):
                everything.advance(1 / 6)
                session.emit("page.read", {"n": number, "by": "\\x1b[31mred"})
                await trio.sleep(0.1)

trio.run(main)
"""


LOGGING = """
import logging
import trio
from trio_progress import open_progress

logging.basicConfig(format="%(message)s")  # a handler that holds standard error before there is a display

async def main():
    async with open_progress("logs much") as session:
        with session.phase("fetch", total=40) as phase:
            for number in range(40):
                await trio.sleep(0.05)
                phase.advance()
                if number % 5 == 0:
                    logging.warning("line %d of the log", number)
    logging.warning("the last line of the log")

trio.run(main)
"""


class Terminal:
    """A terminal of its own, in a tmux server of its own."""

    def __init__(self, name: str) -> None:
        self._tmux = ["tmux", "-L", name, "-f", os.devnull]

    def __call__(self, *arguments: str) -> str:
        done = subprocess.run([*self._tmux, *arguments], check=True, capture_output=True, text=True, timeout=60)
        return done.stdout

    def screen(self) -> list[str]:
        return self("capture-pane", "-p", "-t", "t").splitlines()

    def until(self, what: Callable[[list[str]], bool]) -> list[str]:
        lines: list[str] = []
        for _ in range(600):
            lines = self.screen()
            if what(lines):
                return lines
            time.sleep(0.1)
        raise AssertionError("never seen; the screen is:\n" + "\n".join(lines))


@pytest.fixture
def terminal(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Terminal]:
    script = tmp_path / "script.py"
    script.write_text(getattr(request, "param", SCRIPT), encoding="utf-8")
    # A server of its own: one of the same name may still be ending, and takes nobody any more.
    tmux = Terminal(f"trio-progress-{uuid.uuid4().hex[:12]}")
    environment = ["-e", "TERM=xterm-256color", "-e", "NO_COLOR=", "-e", "LANG=C.UTF-8", "-e", "PYTHONUTF8=1"]
    package = Path(__file__).parents[2]
    run = f"cd {shlex.quote(str(package))} && {shlex.quote(sys.executable)} {shlex.quote(str(script))}"
    command = f"trap : INT; {run}; sleep 60"
    tmux(
        "new-session",
        "-d",
        "-s",
        "t",
        "-x",
        "110",
        "-y",
        "30",
        *environment,
        # A width that the environment dictates (readline puts one there) is not asked of the terminal any more.
        f"env -u COLUMNS -u LINES PYTHONPATH=. sh -c {shlex.quote(command)}",
    )
    yield tmux
    tmux("kill-server")


def test_the_display_survives_being_resized_and_interrupted(terminal: Terminal) -> None:
    def drawn(lines: list[str]) -> bool:
        return any("page.read" in line for line in lines) and any("150 completed" in line for line in lines)

    lines = terminal.until(drawn)
    assert sum("crawl of many sites" in line for line in lines) == 1
    assert any("printed meanwhile" in line for line in lines)
    assert any(line.strip().startswith("+") and "running" in line for line in lines)
    assert not any("[31m" in line for line in lines)
    for width, height in ((50, 12), (140, 40), (80, 24)):
        terminal("resize-window", "-t", "t", "-x", str(width), "-y", str(height))
        time.sleep(0.6)

        def redrawn(lines: list[str]) -> bool:
            return sum("crawl of many" in line for line in lines) == 1 and any("site-15" in line for line in lines)

        lines = terminal.until(redrawn)
        assert all(len(line) <= width for line in lines)
    terminal("send-keys", "-t", "t", "C-c")
    terminal.until(lambda lines: any("KeyboardInterrupt" in line for line in lines))
    history = terminal("capture-pane", "-p", "-S", "-300", "-t", "t").splitlines()
    assert any("crawl of many" in line and "interrupted" in line for line in history)
    assert terminal("display-message", "-p", "-t", "t", "#{cursor_flag}").strip() == "1", "the cursor is hidden"


@pytest.mark.parametrize("terminal", [LOGGING], indirect=True)
def test_what_is_logged_meanwhile_stands_above_the_display_and_is_kept(terminal: Terminal) -> None:
    terminal.until(lambda lines: any("the last line of the log" in line for line in lines))
    history = terminal("capture-pane", "-p", "-S", "-300", "-t", "t").splitlines()
    told = [line.rstrip() for line in history if "of the log" in line]
    assert told == [*(f"line {number} of the log" for number in range(0, 40, 5)), "the last line of the log"]
    assert sum("logs much" in line for line in history) == 1
