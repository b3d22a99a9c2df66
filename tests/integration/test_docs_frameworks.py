"""The guide to other frameworks: FastAPI on asyncio beside a Trio worker, a Django view, a Celery task, as they are."""

from __future__ import annotations

import importlib.util
import json
import os
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

from tests.documents import ROOT, files
from tests.support import free_port

pytestmark = [pytest.mark.integration, pytest.mark.exhaustive]

FILES = files("guides/other-frameworks.md")
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


def needs(framework: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(framework) is None
    return pytest.mark.skipif(missing, reason=f"{framework} is missing: install the extra `dev`")


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


@needs("uvicorn")
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
        assert ask(f"{job}/state")["phases"][0]["done"] == 20


DJANGO = """
import django
from django.conf import settings
from django.http import Http404
from django.test import RequestFactory
settings.configure()
django.setup()
import views
request = RequestFactory().get("/")
request.user = "ada"
import json
job = json.loads(views.begin(request).content)["id"]
print(views.progress(request, job).content.decode())
for user, name in (("eve", job), ("ada", "nothing"), ("ada", "no id")):
    request.user = user
    try:
        views.progress(request, name)
    except Http404:
        print("404")
"""

CELERY = """
from tasks import report
print(report.apply(args=[7], task_id="report-7").get())
from trio_progress.blocking import Client
with Client("sqlite:progress.db") as client:
    snapshot = client.snapshot("report-7")
    print(snapshot.status, snapshot.result, snapshot.pipeline)
"""


def said_by(folder: Path, program: str) -> list[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@needs("django")
def test_a_django_view_declares_and_shows_what_is_the_users(tmp_path: Path) -> None:
    (tmp_path / "views.py").write_text(FILES["views.py"], encoding="utf-8")
    shown, *refused = said_by(tmp_path, DJANGO)
    assert json.loads(shown) == {"status": "queued", "progress": 0.0, "result": None}
    assert refused == ["404"] * 3


@needs("celery")
def test_a_celery_task_is_a_session_of_its_id(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(FILES["tasks.py"], encoding="utf-8")
    assert said_by(tmp_path, CELERY) == ["7", "completed {'rows': 7} report"]
