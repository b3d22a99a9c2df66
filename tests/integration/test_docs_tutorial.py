"""The tutorial's runs, as it tells them: interrupted, gone on with, killed, lost, completed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.documents import ROOT, files
from trio_progress import SessionNotFoundError, Snapshot
from trio_progress.blocking import Client

pytestmark = pytest.mark.integration

PATIENCE = 60.0


@contextmanager
def running(folder: Path, program: str) -> Iterator[subprocess.Popen[str]]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, program],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def until(client: Client, true: Callable[[Snapshot], bool]) -> Snapshot:
    deadline = time.monotonic() + PATIENCE
    found = None
    while time.monotonic() < deadline:
        try:
            found = client.snapshot("crawl-1")
        except SessionNotFoundError:
            pass
        else:
            if true(found):
                return found
        time.sleep(0.05)
    raise AssertionError(f"not within {PATIENCE} s: {found}")


@pytest.mark.exhaustive
def test_the_run_of_the_tutorial_is_interrupted_killed_and_gone_on_with(tmp_path: Path) -> None:
    for name in ("crawl.py", "look.py"):
        (tmp_path / name).write_text(files("tutorial.md")[name], encoding="utf-8")
    with Client(f"sqlite:{tmp_path / 'crawl.db'}") as client, ExitStack() as stack:

        def run(program: str) -> subprocess.Popen[str]:
            return stack.enter_context(running(tmp_path, program))

        first = run("crawl.py")
        until(client, lambda found: found.phases[0].done > 5)
        first.send_signal(signal.SIGINT)
        first.wait(PATIENCE)
        left = until(client, lambda found: found.ended)
        assert (left.status, left.attempt) == ("interrupted", 1)

        second = run("crawl.py")
        until(client, lambda found: found.attempt == 2 and found.phases[0].done > left.phases[0].done + 5)
        early = run("crawl.py")
        _, said = early.communicate(timeout=PATIENCE)
        assert "SessionActiveError" in said
        second.kill()
        lost = until(client, lambda found: found.status == "lost" or found.liveness == "lost")
        assert lost.phases[0].done >= left.phases[0].done

        look = run("look.py")
        assert look.stdout is not None
        third = run("crawl.py")
        ended = until(client, lambda found: found.attempt == 3 and found.ended)
        assert third.wait(PATIENCE) == 0
        assert (ended.status, ended.result, ended.phases[0].done) == ("completed", {"pages": 200}, 200)

        again = run("crawl.py")
        _, said = again.communicate(timeout=PATIENCE)
        assert "SessionCompletedError" in said


def test_a_second_process_sees_the_run_to_its_end(tmp_path: Path) -> None:
    for name in ("crawl.py", "look.py"):
        text = files("tutorial.md")[name].replace("sleep(0.05)", "sleep(0.01)")
        (tmp_path / name).write_text(text, encoding="utf-8")
    with running(tmp_path, "look.py") as look:
        deadline = time.monotonic() + PATIENCE
        while not (tmp_path / "crawl.db").exists():  # Then it looks, and is not too late for a short run.
            assert time.monotonic() < deadline
            time.sleep(0.02)
        with running(tmp_path, "crawl.py") as crawl:
            seen, _ = look.communicate(timeout=PATIENCE)
            assert seen.splitlines()[-1] == "100% completed"
            assert "running" in seen
            assert crawl.wait(PATIENCE) == 0
