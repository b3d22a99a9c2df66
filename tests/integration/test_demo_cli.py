"""The demo as a process: over the standard library that runs it, interrupted, stopped, and with its output gone."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trio_progress.demo.corpus import read_lines, standard_library

pytestmark = pytest.mark.integration

DEMO = [sys.executable, "-m", "trio_progress", "demo"]


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([*DEMO, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.exhaustive
def test_the_default_question_is_answered_from_the_standard_library_with_citations_that_stand() -> None:
    done = subprocess.run(DEMO, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "Task.cancel" in done.stdout
    quoted = re.split(r"^\d+\. (?=\S+:\d)", done.stdout, flags=re.MULTILINE)
    places = 0
    for quote in quoted[1:]:
        place, *body = quote.rstrip("\n").splitlines()
        path = place.split(":")[0]
        lines = read_lines(standard_library(), path)
        assert not isinstance(lines, str)
        for line in body:
            match = re.fullmatch(r" +(\d+) \| ?(.*)", line)
            if match is not None:
                assert lines[int(match[1]) - 1].expandtabs(4).rstrip() == match[2].rstrip()
                places += 1
    assert places > 10
    for path, first, last in re.findall(r"^    -- (\S+?):(\d+)(?:-(\d+))?", done.stdout, flags=re.MULTILINE):
        lines = read_lines(standard_library(), path)
        assert 1 <= int(first) <= int(last or first) <= len(lines)


def a_moment() -> float:
    """How long an interpreter takes to begin and end just now: three hundredths of a second where nothing else runs."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.monotonic() - began


@pytest.mark.parametrize(
    ("number", "code", "says"), [(signal.SIGINT, 130, "Interrupted"), (signal.SIGTERM, 143, "Stopped by SIGTERM")]
)
def test_a_signal_leaves_within_a_second_and_says_how_it_stood(number: signal.Signals, code: int, says: str) -> None:
    took = 0.0
    for _ in range(3):  # What waits for a second does so each time; what waits for a processor does not.
        process = start()
        assert process.stderr is not None
        for line in process.stderr:
            if "%" in line:
                break
        began = time.monotonic()
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        took = time.monotonic() - began
        assert process.returncode == code, err
        assert out == ""
        assert "Traceback" not in err
        *_, stood, hint = err.splitlines()
        place = r"phase \d of 8 \(.+\): \d+% done, \d+ sources found so far\."
        assert re.fullmatch(f"{says} (during|after) {place}", stood)
        assert re.fullmatch(r"Go on with: trio-progress demo --resume demo-[0-9a-f]{6}", hint)
        if took < 1 + 10 * a_moment():
            return
    raise AssertionError(f"it took {took:.1f} s to leave")


def test_an_answer_that_nobody_takes_is_no_error_to_look_at(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("A task that is cancelled.\n")
    process = start("--corpus", str(tmp_path), "cancel a task")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    assert process.wait(timeout=60) == 128 + signal.SIGPIPE
    assert "Traceback" not in err
    assert "Exception ignored" not in err
    process.stderr.close()


def test_a_hostile_corpus_sends_nothing_to_the_terminal_but_text(tmp_path: Path) -> None:
    (tmp_path / "a\x1b[2J\nb.txt").write_text("Cancel the \x1b]0;owned\x07task\x1b[31m \u202eevil.\n\x9b2J task\n")
    done = subprocess.run(
        [*DEMO, "--corpus", str(tmp_path), "cancel \x1b[31mthe task"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "task" in done.stdout
    assert all(line.isprintable() for line in (done.stdout + done.stderr).split("\n"))


def test_a_terminal_that_knows_few_characters_gets_the_answer_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("A task, grüßend — 文字.\n")
    done = subprocess.run(
        [*DEMO, "--corpus", str(tmp_path), "the task"],
        capture_output=True,
        timeout=60,
        check=False,
        env={
            "PYTHONIOENCODING": "ascii",
            "PATH": "",
            "PYTHONPATH": ":".join(sys.path),
            "XDG_STATE_HOME": str(tmp_path / "state"),
        },
    )
    assert done.returncode == 0, done.stderr
    assert b"gr??end ? ??." in done.stdout
