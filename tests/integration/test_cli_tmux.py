"""The command line in a real terminal: tables that fit, a live display of another process, a question that is asked."""

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

from trio_progress import Pipeline
from trio_progress.blocking import Client
from trio_progress.terminal.cells import cells

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is missing: install the package tmux"),
]

ROOT = Path(__file__).parents[2]
WORKER = [sys.executable, str(Path(__file__).with_name("session_worker.py"))]


class Terminal:
    """A terminal with a shell in it, in a tmux server of its own."""

    def __init__(self, name: str) -> None:
        self._tmux = ["tmux", "-L", name, "-f", os.devnull]

    def __call__(self, *arguments: str) -> str:
        done = subprocess.run([*self._tmux, *arguments], check=True, capture_output=True, text=True, timeout=60)
        return done.stdout

    def types(self, line: str) -> None:
        self("send-keys", "-t", "t", line, "Enter")

    def screen(self, *options: str) -> list[str]:
        return self("capture-pane", "-p", *options, "-t", "t").splitlines()

    def until(self, what: Callable[[list[str]], bool]) -> list[str]:
        lines: list[str] = []
        for _ in range(600):
            lines = self.screen()
            if what(lines):
                return lines
            time.sleep(0.1)
        raise AssertionError("never seen; the screen is:\n" + "\n".join(lines))


@pytest.fixture
def store(tmp_path: Path) -> str:
    url = f"sqlite:{tmp_path / 'progress.db'}"
    with Client(url) as client:
        client.declare("r-1", Pipeline("research", {"search": 3, "report": 1}), title="One", labels={"user": "u1"})
        client.declare("r-2", title="A title of many words, \x1b[31mred\x1b[2J and 文字 in it", labels={"user": "u2"})
        client.cancel("r-2")
    return url


@pytest.fixture
def terminal(store: str, tmp_path: Path) -> Iterator[Terminal]:
    # A server of its own: one of the same name may still be ending, and takes nobody any more.
    tmux = Terminal(f"trio-progress-{uuid.uuid4().hex[:12]}")
    program = tmp_path / "trio-progress"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m trio_progress "$@"\n')
    program.chmod(0o755)
    environment = {
        "TERM": "xterm-256color",
        "LANG": "C.UTF-8",
        "PYTHONUTF8": "1",
        "PYTHONPATH": str(ROOT),
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "TRIO_PROGRESS_STORE": store,
        "PS1": "$ ",
    }
    settings = " ".join(f"{name}={shlex.quote(value)}" for name, value in environment.items())
    # Set here, for the shell that tmux begins with has a PATH of its own. A width that the environment dictates
    # (readline puts one there) is not asked of the terminal any more.
    shell = f"env -u COLUMNS -u LINES -u NO_COLOR {settings} sh"
    tmux("new-session", "-d", "-s", "t", "-x", "120", "-y", "40", shell)
    yield tmux
    tmux("kill-server")


@pytest.mark.parametrize("width", [60, 120])
def test_a_list_and_a_session_fit_the_terminal(terminal: Terminal, width: int) -> None:
    terminal("resize-window", "-t", "t", "-x", str(width), "-y", "40")
    terminal.types("clear; trio-progress ls; echo code $?")
    lines = terminal.until(lambda lines: "code 0" in lines)
    table = [line for line in lines if line.startswith(("ID ", "r-"))]
    assert len(table) == 3, lines
    assert [" ".join(line.split()[:3]) for line in table] == ["ID STATUS DONE", "r-2 cancelled 0", "r-1 queued 0"]
    assert "A title of" in table[1]
    assert ("TOOK" in table[0], "文字 in it" in table[1]) == (False, width == 120)
    assert all(cells(line) <= width for line in table)
    assert not any("[31m" in line for line in lines)
    coloured = terminal.screen("-e")
    assert any("\x1b[33mcancelled" in line for line in coloured), coloured
    terminal.types("clear; trio-progress show r-1; echo shown $?")  # What was there before still stands for a moment.
    lines = terminal.until(lambda lines: "shown 0" in lines)
    assert any(line.startswith("r-1  queued  0 %") for line in lines)
    assert any("· search" in line and "0 %" in line for line in lines)


def test_a_session_of_another_process_is_shown_live_and_a_ctrl_c_gives_the_terminal_back(
    terminal: Terminal, store: str
) -> None:
    terminal.types("clear; trio-progress watch r-42; echo code $?")
    terminal.until(lambda lines: any("waiting for session 'r-42'" in line for line in lines))
    with subprocess.Popen([*WORKER, store, "r-42", "hang"], env=os.environ | {"PYTHONPATH": str(ROOT)}) as owner:
        try:

            def live(lines: list[str]) -> bool:
                return any("Counting" in line and "running" in line for line in lines) and any(
                    "step.done" in line for line in lines
                )

            lines = terminal.until(live)
            assert any("count" in line and "/1,000 steps" in line for line in lines)
            terminal("send-keys", "-t", "t", "C-c")
            terminal.until(lambda lines: "code 130" in lines)
            assert terminal("display-message", "-p", "-t", "t", "#{cursor_flag}").strip() == "1", "the cursor is hidden"
            assert not any("Traceback" in line for line in terminal.screen())
            assert owner.poll() is None
            terminal.types("clear; trio-progress cancel r-42; trio-progress watch r-42; echo code $?")
            lines = terminal.until(lambda lines: "code 10" in lines)
            assert any("Counting" in line and "cancelled" in line for line in lines)
        finally:
            owner.kill()


def test_removing_by_label_asks_and_takes_no_for_an_answer(terminal: Terminal, store: str) -> None:
    terminal.types("clear; trio-progress rm --label user=u1; echo code $?")
    terminal.until(lambda lines: any(line.startswith("Remove 1 session? [y/N]") for line in lines))
    terminal.types("n")
    terminal.until(lambda lines: "code 1" in lines)
    terminal.types("clear")
    terminal.until(lambda lines: "code 1" not in lines)
    terminal.types("trio-progress rm --label user=u1; echo code $?")
    terminal.until(lambda lines: any(line.startswith("Remove 1 session? [y/N]") for line in lines))
    terminal.types("y")
    terminal.until(lambda lines: "code 0" in lines)
    with Client(store) as client:
        assert [one.id for one in client.sessions()] == ["r-2"]
