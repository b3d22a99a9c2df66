"""The programs of the guide "Many processes", as it prints them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.documents import ROOT, files
from trio_progress.blocking import Client

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="there are no POSIX locks"),
]


def ran(folder: Path, program: str, *arguments: str) -> tuple[str, str]:
    """What the program said, and showed."""
    (folder / program).write_text(files("guides/many-processes.md")[program], encoding="utf-8")
    done = subprocess.run(
        [sys.executable, program, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_a_plain_script_shows_what_its_pool_counts(tmp_path: Path) -> None:
    said, shown = ran(tmp_path, "primes.py")
    assert said == "completed 8000 1007\n"
    assert "| primes | 100 % | completed" in shown
    assert "Traceback" not in shown


@pytest.mark.exhaustive
def test_the_results_of_a_pool_are_counted_as_they_come(tmp_path: Path) -> None:
    assert ran(tmp_path, "results.py") == ("completed 8 16\n", "")


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_a_job_follows_its_parts_and_one_whose_worker_is_killed_is_gone_on_with_by_another(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:{tmp_path / 'job.db'}"
    if kind == "redis":
        url = f"{request.getfixturevalue('redis_url')}?prefix=test:{uuid.uuid4().hex[:12]}"
    text = files("guides/many-processes.md")["shards.py"]
    text = text.replace("sleep(0.01)", "sleep(0.05)")  # Slow enough to be killed in the middle.
    text = text.replace("open_tracker(url)", "open_tracker(url, lost_after=4, heartbeat_interval=1)")
    (tmp_path / "shards.py").write_text(text, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "shards.py", url, *arguments]
        return subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)

    with start() as job, ExitStack() as stack:
        stack.callback(job.kill)
        assert job.stdout is not None
        assert job.stdout.readline() == "declared\n"
        worker = stack.enter_context(start("work"))
        stack.callback(worker.kill)
        with Client(url) as client:
            while not (taken := [one for one in client.sessions(parent="job-1") if one.phase("load").done >= 5]):
                time.sleep(0.05)
            worker.kill()
            for _ in range(2):
                stack.callback(stack.enter_context(start("work")).kill)
            said, _ = job.communicate(timeout=120)
            ended = client.sessions(status="completed", parent="job-1")
    assert said == "completed 3 1.0\n"
    attempts = {one.id: one.attempt for one in ended}
    assert set(attempts) == {f"job-1.{number}" for number in range(3)}
    assert attempts[taken[0].id] > 1


@pytest.mark.exhaustive  # trio-parallel is installed for these only.
def test_workers_of_trio_parallel_count_the_bytes_of_their_files(tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    for number in range(6):
        (texts / f"{number}.txt").write_text("a line\n" * 100 * number, encoding="utf-8")
    said, shown = ran(tmp_path, "lines.py", "texts")
    assert said == "completed 1500 True\n"
    assert "| lines | 100 % | completed" in shown
