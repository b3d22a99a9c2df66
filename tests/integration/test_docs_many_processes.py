"""The programs of the guide "Many processes", as it prints them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
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
def test_a_job_follows_its_parts_and_one_that_is_killed_is_gone_on_with(tmp_path: Path) -> None:
    text = files("guides/many-processes.md")["shards.py"]
    text = text.replace("sleep(0.01)", "sleep(0.05)")  # Slow enough to be killed in the middle.
    text = text.replace("open_tracker(url)", "open_tracker(url, lost_after=4, heartbeat_interval=1)")
    (tmp_path / "shards.py").write_text(text, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "shards.py", "sqlite:job.db", *arguments]
        return subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)

    with start() as job, ExitStack() as stack:
        stack.callback(job.kill)
        assert job.stdout is not None
        assert job.stdout.readline() == "declared\n"
        workers = [stack.enter_context(start(str(number))) for number in range(3)]
        with Client(f"sqlite:{tmp_path / 'job.db'}") as client:
            while client.snapshot("job-1.2").phase("load").done < 5:
                time.sleep(0.05)
            workers[2].kill()
            while (status := client.snapshot("job-1.2").status) != "lost":
                assert status == "running"
                time.sleep(0.2)
        again = stack.enter_context(start("2"))
        assert [worker.wait(60) for worker in (*workers[:2], again)] == [0, 0, 0]
        said, _ = job.communicate(timeout=60)
    assert said == "completed 3 1.0\n"


@pytest.mark.exhaustive  # trio-parallel is installed for these only.
def test_workers_of_trio_parallel_count_the_bytes_of_their_files(tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    for number in range(6):
        (texts / f"{number}.txt").write_text("a line\n" * 100 * number, encoding="utf-8")
    said, shown = ran(tmp_path, "lines.py", "texts")
    assert said == "completed 1500 True\n"
    assert "| lines | 100 % | completed" in shown
