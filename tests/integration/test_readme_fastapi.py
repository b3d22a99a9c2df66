"""README's FastAPI app on asyncio beside a Trio worker, one file between them: as they stand there."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

import pytest

from tests.support import free_port

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
FILES = dict(
    re.findall(
        r"^<!-- file: (\S+) -->\n```\w+\n(.*?)^```$",
        (ROOT / "README.md").read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
)
PATIENCE = 60.0


@contextmanager
def running(folder: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, *command], cwd=folder, env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def ask(url: str, method: str = "GET") -> Any:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=PATIENCE) as answer:
            return json.loads(answer.read())
    except HTTPError as error:
        return error.code
    except (URLError, ConnectionError):
        return None


def until(url: str, **wanted: object) -> Any:
    """What the app says once it says that."""
    deadline = time.monotonic() + PATIENCE
    while not isinstance(said := ask(url), dict) or not wanted.items() <= said.items():
        assert time.monotonic() < deadline, said
        time.sleep(0.02)
    return said


def test_an_app_on_asyncio_declares_and_shows_what_a_trio_worker_does(tmp_path: Path) -> None:
    for name in ("app.py", "importer.py"):
        (tmp_path / name).write_text(FILES[name], encoding="utf-8")
    port = free_port()
    jobs = f"http://127.0.0.1:{port}/imports"
    with ExitStack() as stack:
        stack.enter_context(running(tmp_path, "-m", "uvicorn", "app:app", "--port", str(port), "--log-level", "error"))
        until(f"http://127.0.0.1:{port}/openapi.json")
        assert (ask(f"{jobs}/nothing"), ask(f"{jobs}/no%20id")) == (404, 404)
        job = f"{jobs}/{ask(jobs, method='POST')['id']}"
        assert ask(job) == {"status": "queued", "progress": 0.0, "result": None}

        # A worker that is stopped leaves what it does to the next one.
        first = stack.enter_context(running(tmp_path, "importer.py"))
        until(job, status="running")
        first.send_signal(signal.SIGTERM)
        assert first.wait(PATIENCE) == 0
        left = ask(job)
        assert left["status"] == "interrupted"
        assert left["progress"] < 1
        stack.enter_context(running(tmp_path, "importer.py"))
        assert until(job, status="completed", progress=1.0)["result"] == {"rows": 20}
