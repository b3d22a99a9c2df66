"""The example of a company in docs/: a FastAPI front, Trio workers, a gateway and a page, as they stand there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is missing: install the extra `test`")

from playwright.sync_api import BrowserContext, expect

from tests.browser.page import CHROMIUM
from tests.documents import ROOT, files
from tests.support import free_port

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is missing: install the package chromium"),
]

FILES = files("guides/front-workers-gateway.md")

PATIENCE = 60.0

RECORD = """() => {
  window.shown = [];
  const progress = document.querySelector("progress");
  new MutationObserver(() => shown.push(progress.value)).observe(progress, { attributes: true });
}"""


@contextmanager
def running(command: list[str], folder: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / f"log-{uuid.uuid4()}").open("w+b") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            yield process
        except BaseException:
            log.seek(0)
            print(command, log.read().decode())
            raise
        finally:
            process.kill()
            process.wait()


def until(condition: Callable[[], Any]) -> Any:
    """The first thing that is said which is something."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def ask(url: str, token: str | None = None, method: str = "GET") -> Any:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    with urllib.request.urlopen(
        urllib.request.Request(url, headers=headers, method=method), timeout=PATIENCE
    ) as answer:
        return json.loads(answer.read())


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE):
            return True
    except (URLError, ConnectionError):
        return False


@pytest.mark.exhaustive
def test_the_example_of_a_company_works_as_it_stands_in_the_docs(
    redis_url: str, browser_context: BrowserContext, tmp_path: Path
) -> None:
    assert list(FILES) == ["jobs.py", "front.py", "worker.py", "page.html"]
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    front, gateway = (f"http://127.0.0.1:{free_port()}/" for _ in range(2))
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "STORE": f"{redis_url}?prefix=test:{uuid.uuid4().hex[:12]}",
        "TRIO_PROGRESS_SECRET": "a secret of the tests that is long enough".replace(" ", "-"),
        "GATEWAY": gateway,
    }
    port = {url: url.rstrip("/").rpartition(":")[2] for url in (front, gateway)}
    slow = FILES["worker.py"].replace("sleep(0.05)  # the work", "sleep(0.5)")
    (tmp_path / "slow.py").write_text(slow, encoding="utf-8")
    with ExitStack() as stack:

        def run(*command: str) -> subprocess.Popen[bytes]:
            return stack.enter_context(running([sys.executable, *command], tmp_path, environment))

        run("-m", "uvicorn", "front:app", "--port", port[front])
        serve = ["-m", "trio_progress", "serve", "--port", port[gateway], "--store", environment["STORE"]]
        run(*serve, "--origins", front[:-1])
        worker = run("slow.py")
        until(lambda: answers(front) and answers(f"{gateway}readyz"))
        page = browser_context.new_page()
        stack.callback(page.close)
        page.goto(front)
        said = page.locator("output")

        page.get_by_label("Question").fill("Why?")
        page.get_by_role("button", name="Ask").click()
        expect(said).to_have_text("running, open", timeout=PATIENCE * 1000)
        page.get_by_role("button", name="Cancel").click()
        expect(said).to_have_text("cancelled, open", timeout=PATIENCE * 1000)

        # A worker is rolled: another one goes on with what it had to leave.
        token = ask(f"{front}token")["token"]
        job = ask(f"{front}research?question=And+the+button%3F", method="POST")["id"]

        def state() -> Any:
            return ask(f"{gateway}sessions/{job}", token)

        until(lambda: state()["status"] == "running")
        time.sleep(0.8)  # A page or two.
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(PATIENCE) == 0
        left = state()
        assert left["status"] == "interrupted"
        assert 0 < left["phases"][0]["done"] < 20
        run("worker.py")

        # The newer one has to wait for it.
        page.evaluate(RECORD)
        page.get_by_label("Question").fill("Who invented the zip?")
        page.get_by_role("button", name="Ask").click()
        expect(said).to_have_text("Who invented the zip? Nobody knows.", timeout=PATIENCE * 1000)
        shown = page.evaluate("shown")
        assert shown == sorted(shown)
        assert shown[-1] == 1.0
        assert [value for value in shown if 0 < value < 1]
        ended = state()
        assert (ended["status"], ended["attempt"], ended["phases"][0]["done"]) == ("completed", 2, 20)
        assert [phase["attempt"] for phase in ended["phases"]] == [2, 1]
