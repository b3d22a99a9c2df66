"""The counter in the process that made it: bad input, threads, signal handlers, jobs, and a file that is not right."""

from __future__ import annotations

import logging
import math
import os
import pickle
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trio_progress import NullCounter, ProcessCounter
from trio_progress.counting import inherit
from trio_progress.counting.files import close_file, make_file, open_file, remove_file
from trio_progress.counting.layout import FILE_SIZE
from trio_progress.counting.reading import Reader

pytestmark = pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="there are no POSIX locks")

BAD_NUMBERS: list[Any] = [math.nan, math.inf, -1, 2**53, "3", None, []]


@pytest.fixture
def path() -> Iterator[str]:
    made, _ = make_file(strict=True)
    yield made
    close_file(made)
    remove_file(made)


def reader(path: str) -> Reader:
    slots = open_file(path)
    assert slots is not None
    return Reader(slots.layout)


def test_the_file_is_this_users_alone_and_takes_up_its_room(path: str) -> None:
    found, folder = Path(path).stat(), Path(path).parent.stat()
    assert (stat.S_IMODE(found.st_mode), stat.S_IMODE(folder.st_mode)) == (0o600, 0o700)
    assert found.st_size == FILE_SIZE
    assert found.st_blocks * 512 >= FILE_SIZE


def test_all_that_counts_adds_up(path: str) -> None:
    counter, reads = ProcessCounter(path), reader(path)
    for _ in range(3):
        counter.advance()
    counter.advance(4)
    counter.advance(True)
    counter.skip(5)
    counter.extend(2.5)
    counter.increment("found", 6)
    counter.increment("found", -1)
    counter.increment("lost")
    came = reads.read()
    assert (came.advanced, came.skipped, came.extended, came.counters) == (8, 5, 2.5, {"found": 5, "lost": 1})
    assert not reads.read()


def test_copies_by_pickle_count_in_the_same_file(path: str) -> None:
    counter, reads = ProcessCounter(path), reader(path)
    counter.advance()
    pickle.loads(pickle.dumps(counter)).advance(2)
    assert reads.read().advanced == 3


@pytest.mark.parametrize("value", BAD_NUMBERS, ids=repr)
@pytest.mark.parametrize("call", ["advance", "skip", "extend"])
def test_bad_input_is_an_error_at_the_call_and_changes_nothing(call: str, value: object, path: str) -> None:
    counter, reads = ProcessCounter(path), reader(path)
    counter.advance()
    with pytest.raises((ValueError, TypeError)):
        getattr(counter, call)(value)
    assert reads.read().advanced == 1


def test_update_sets_message_and_total_and_refuses_done(path: str) -> None:
    counter, reads = ProcessCounter(path), reader(path)
    counter.update(message="one", total=9)
    counter.update(message="two")
    assert reads.read().given == {"message": "two", "total": 9}
    counter.update(total=None)
    counter.update(message="ü" * 400)
    given = reads.read().given
    assert (given["total"], len(given["message"].encode())) == (None, 575)
    assert given["message"].endswith("ü…")
    with pytest.raises(TypeError, match=r"advance\(\), whose counts add up"):
        counter.update(done=3)
    for bad in ({"total": -1}, {"message": 7}, {"total": math.nan}):
        with pytest.raises((ValueError, TypeError)):
            counter.update(**bad)
    assert not reads.read()


def test_more_names_of_counters_than_there_is_room_for_are_refused(path: str) -> None:
    counter, reads = ProcessCounter(path), reader(path)
    for number in range(13):
        counter.increment(f"n{number}", number)
    with pytest.raises(ValueError, match="at most 13 counters"):
        counter.increment("one more")
    for bad in ("", "a\nb", 7, "x" * 300):
        with pytest.raises((ValueError, TypeError)):
            counter.increment(bad)  # type: ignore[arg-type]
    assert reads.read().counters == {f"n{number}": number for number in range(1, 13)}


def test_a_session_that_is_not_strict_logs_one_of_each_kind(caplog: pytest.LogCaptureFixture) -> None:
    path, slots = make_file(strict=False)
    try:
        with caplog.at_level(logging.WARNING, "trio_progress"):
            for _ in range(3):
                ProcessCounter(path).advance(-1)
                ProcessCounter(path).increment("n", math.nan)
        assert [record.event for record in caplog.records].count("call_dropped") <= 1  # type: ignore[attr-defined]
        assert not Reader(slots.layout).read()
    finally:
        close_file(path)
        remove_file(path)


def test_threads_lose_nothing_and_those_that_have_ended_leave_their_slots(path: str) -> None:
    counter, reads = ProcessCounter(path), reader(path)

    def count() -> None:
        for _ in range(500):
            counter.advance()
            counter.skip(2)

    for _ in range(5):
        threads = [threading.Thread(target=count) for _ in range(30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    came = reads.read()
    assert (came.advanced, came.skipped) == (5 * 30 * 500, 5 * 30 * 1000)
    slots = open_file(path)
    assert slots is not None
    assert len(list(slots.layout.used())) <= 60


def test_what_a_signal_handler_counts_is_not_lost(path: str) -> None:
    counter, reads = ProcessCounter(path), reader(path)
    handled = 0

    def handle(*_: object) -> None:
        nonlocal handled
        handled += 1
        counter.advance()
        counter.skip(1)

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0005)
    try:
        for _ in range(400):
            for _ in range(20):
                counter.advance()
            with counter.job():
                counter.advance()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    came = reads.read()
    assert handled > 3
    assert (came.advanced, came.skipped) == (400 * 21 + handled, handled)


def test_a_job_that_raises_takes_back_all_that_it_has_counted(path: str) -> None:
    counter, reads = ProcessCounter(path), reader(path)
    counter.advance(10)
    with counter.job():
        counter.advance(5)
        counter.increment("found", 2)
        assert reads.read().advanced == 15  # It is shown while it runs.
    with pytest.raises(KeyError), counter.job():
        counter.advance(7)
        counter.skip(1)
        counter.extend(3)
        counter.increment("found", 4)
        assert reads.read().advanced == 7
        raise KeyError
    came = reads.read()
    assert (came.advanced, came.skipped, came.extended, came.counters) == (-7, -1, -3, {"found": -4})
    counter.advance()
    assert reads.read().advanced == 1


def test_jobs_of_one_thread_do_not_nest_and_threads_have_their_own(path: str) -> None:
    counter, reads = ProcessCounter(path), reader(path)
    with counter.job():
        counter.advance()
        with pytest.raises(RuntimeError, match="has a job open already"), counter.job():
            pass
        other = threading.Thread(target=counter.advance, args=(100,))
        other.start()
        other.join()
        counter.advance()
    assert reads.read().advanced == 102


def test_a_counter_that_comes_too_late_counts_into_nothing(path: str) -> None:
    late = ProcessCounter(path)
    close_file(path)
    remove_file(path)
    late.advance()
    late.skip()
    late.increment("n")
    late.update(message="late", done=3)
    with late.job():
        late.advance()
    assert ProcessCounter(path + "/no/folder").advance() is None  # type: ignore[func-returns-value]


def test_what_counted_before_goes_nowhere_once_the_file_is_closed(path: str) -> None:
    counter = ProcessCounter(path)
    with counter.job():
        counter.advance()
        close_file(path)
        counter.advance()
    counter.advance(2)
    counter.increment("n")
    counter.update(message="late")
    with counter.job():
        counter.advance()


def test_a_program_that_was_not_started_with_a_counter_counts_nothing(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(inherit(), NullCounter)
    for name, value in ProcessCounter(path).environment.items():
        monkeypatch.setenv(name, value)
    reads = reader(path)
    inherit().advance(3)
    assert reads.read().advanced == 3
    null = NullCounter()
    assert null.environment == {}
    with null.job():
        null.advance()


def test_what_a_parent_that_was_killed_has_left_is_removed_by_the_next(tmp_path: Path) -> None:
    code = """
import os, sys, tempfile, time
from pathlib import Path
from trio_progress.counting.files import make_file
made, _ = make_file(strict=True)
os.utime(Path(made).parent, (1, 1))
print(made, flush=True)
sys.stdin.readline()
"""
    environment = os.environ | {"TMPDIR": str(tmp_path)}

    def parent() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", code]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    with parent() as killed, parent() as other:
        assert killed.stdout is not None
        assert other.stdout is not None
        left, kept = (Path(process.stdout.readline().strip()) for process in (killed, other) if process.stdout)
        killed.kill()
        killed.wait()
        assert left.exists()
        with parent() as following:
            following.communicate("", timeout=60)
        assert not left.parent.exists()
        assert kept.exists()
        other.communicate("", timeout=60)


@pytest.mark.parametrize("wrong", ["mode", "folder", "link", "size", "text", "a folder"])
def test_trust_22_a_file_that_others_may_have_put_there_is_refused(wrong: str, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir(mode=0o700)
    file = folder / "counts"
    file.write_bytes(b"tpcount1" + bytes(FILE_SIZE - 8))
    file.chmod(0o600)
    ProcessCounter(str(file)).advance()
    other = folder / "other"
    match wrong:
        case "mode":
            other.write_bytes(file.read_bytes())
            other.chmod(0o640)
        case "folder":
            other = tmp_path / "open" / "counts"
            other.parent.mkdir()
            other.parent.chmod(0o755)
            other.write_bytes(file.read_bytes())
            other.chmod(0o600)
        case "link":
            other.symlink_to(file)
        case "size":
            other.write_bytes(b"tpcount1")
            other.chmod(0o600)
        case "text":
            other.write_bytes(bytes(FILE_SIZE))
            other.chmod(0o600)
        case "a folder":
            other.mkdir(mode=0o700)
    with pytest.raises((OSError, ValueError)) as refused:
        ProcessCounter(str(other)).advance()
    if wrong == "link":
        assert "is a link, which is not followed: count with the counter of your own parent" in str(refused.value)
    close_file(str(file))
