"""Who has something to say never waits for who reads: frames conflate, lines are kept in order or counted."""

from __future__ import annotations

import fcntl
import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import PATIENCE
from trio_progress.terminal.redirection import AboveDisplay
from trio_progress.terminal.writer import HIDE, SHOW, Region, Writer


class Stopped:
    """A stream that takes nothing until it is let go."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.go = threading.Event()
        self.texts: list[str] = []

    def write(self, text: str) -> None:
        self.entered.set()
        self.go.wait()  # However long a busy machine takes for the test.
        self.texts.append(text)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is let go is written in the end, on a machine that has much to do as well."""
    monkeypatch.setattr("trio_progress.terminal.writer.LEAVING", PATIENCE)


@pytest.fixture
def stopped() -> Iterator[Stopped]:
    stream = Stopped()
    yield stream
    stream.go.set()


def test_of_the_frames_that_come_while_one_is_written_only_the_newest_is_kept(stopped: Stopped) -> None:
    writer = Writer(stopped)
    writer.draw(["frame 0"])
    assert stopped.entered.wait(PATIENCE)
    for number in range(1, 101):
        writer.draw([f"frame {number}", "below"])
    assert writer.behind
    stopped.go.set()
    assert writer.finish()
    assert len(stopped.texts) == 2
    assert stopped.texts[1].endswith("frame 100\nbelow")
    assert not writer.behind


def test_lines_are_all_written_in_their_order_and_above_the_frame(stopped: Stopped) -> None:
    writer = Writer(stopped)
    writer.draw(["frame"])
    assert stopped.entered.wait(PATIENCE)
    for number in range(1000):
        writer.put(f"line {number}\n")
    stopped.go.set()
    assert writer.finish()
    expected = "".join(f"line {number}\n" for number in range(1000))
    assert stopped.texts[1].endswith(expected + "frame")
    assert writer.lost == 0


def test_lines_that_nobody_took_in_time_are_counted_where_they_are_missing(
    stopped: Stopped, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_progress.terminal.writer.KEPT", 60)
    writer = Writer(stopped)
    writer.put("first\n")
    assert stopped.entered.wait(PATIENCE)
    for number in range(20):
        writer.put(f"line {number:2}\n")
    stopped.go.set()
    assert writer.finish()
    shown = "".join(stopped.texts).splitlines()
    assert shown[:2] == ["first", "(13 lines are missing here: nobody took them in time)"]
    assert shown[2:] == [f"line {number:2}" for number in range(13, 20)]
    assert writer.lost == 13


def test_who_leaves_waits_for_a_stream_that_takes_nothing_for_a_bounded_time(
    stopped: Stopped, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_progress.terminal.writer.LEAVING", 0.05)
    writer = Writer(stopped)
    writer.put("one\n")
    assert stopped.entered.wait(PATIENCE)
    writer.put("two\nthree\n")
    assert not writer.finish()
    assert writer.lost == 3
    assert isinstance(writer.error, TimeoutError)
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "trio-progress writer")
    writer.put("four\n")  # Nothing comes of it, and nothing fails.


def test_a_stream_that_fails_is_not_written_again() -> None:
    class Full:
        tries = 0

        def write(self, text: str) -> None:
            Full.tries += 1
            raise OSError(28, "No space left on device")

    writer = Writer(Full())
    for number in range(5):
        writer.put(f"line {number}\n")
        assert not writer.finish()
    assert isinstance(writer.error, OSError)
    assert Full.tries == 1


def test_what_is_kept_in_memory_is_written_at_once_and_without_a_thread() -> None:
    before = set(threading.enumerate())
    for stream in (io.StringIO(), io.TextIOWrapper(io.BytesIO(), encoding="ascii")):
        writer = Writer(stream)
        writer.put("Größe\n")
        stream.seek(0)
        assert stream.read() in ("Größe\n", "Gr??e\n")
    assert set(threading.enumerate()) <= before  # Threads of tests before this one may end meanwhile.


def test_a_nonblocking_pipe_with_a_slow_reader_loses_nothing() -> None:
    receive, send = os.pipe()
    fcntl.fcntl(send, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(send, False)
    with os.fdopen(send, "w") as stream:
        writer = Writer(stream)
        sent = "".join(f"line {number} {'x' * 150}\n" for number in range(200))
        for text in sent.splitlines(keepends=True):
            writer.put(text)
        received = b""
        while len(received) < len(sent):
            received += os.read(receive, 1500)
        assert writer.finish()
    os.close(receive)
    assert received.decode() == sent
    assert writer.lost == 0


def test_a_pipe_that_nobody_reads_holds_nobody_up_and_its_thread_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_progress.terminal.writer.LEAVING", 0.05)
    monkeypatch.setattr("trio_progress.terminal.writer.IDLE", 0.01)
    receive, send = os.pipe()
    with os.fdopen(send, "w") as stream:
        writer = Writer(stream)
        for number in range(2000):
            writer.put(f"line {number} {'x' * 150}\n")
        assert not writer.finish()
        assert 1000 < writer.lost <= 2000  # The pipe itself has room for some.
        for thread in threading.enumerate():
            if thread.name == "trio-progress writer":
                thread.join(PATIENCE)
                assert not thread.is_alive()
    os.close(receive)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8", "shift-jis"])
def test_what_a_file_cannot_say_is_replaced_by_question_marks(encoding: str, tmp_path: Path) -> None:
    text = "Größe 検索 🚀 \udc80\n"
    with (tmp_path / "log").open("w", encoding=encoding) as file:
        writer = Writer(file)
        writer.put(text)
        assert writer.finish()
    assert (tmp_path / "log").read_bytes() == text.encode(encoding, "replace")
    assert b"?" in (tmp_path / "log").read_bytes()


def test_a_frame_is_drawn_over_the_one_that_is_there_whichever_that_is() -> None:
    region = Region()
    assert region.text("before\n", None) == "before\n"
    assert region.text("", ["a", "b", "c"]) == HIDE + "a\nb\nc"
    assert region.text("", ["d"]) == "\r\x1b[2A\x1b[Jd"
    assert region.text("printed\n", None) == "\r\x1b[Jprinted\nd"
    assert region.text("", ["e", "f"], clear=True) == "\x1b[H\x1b[2Je\nf"
    assert region.text("", None, leave=True) == "\r\x1b[1A\x1b[Je\nf\n" + SHOW
    assert region.text("after\n", None) == "after\n"


def test_what_is_printed_is_handed_on_in_whole_lines_and_afterwards_to_the_stream_itself() -> None:
    own = io.StringIO()
    lines: list[str] = []
    above = AboveDisplay(own, lines.append)
    print("a", "b", end="", file=above)
    assert lines == []
    print(" c\nd", file=above)
    above.writelines(["e\n", "f"])
    above.flush()
    assert lines == ["a b c\n", "d\n", "e\n"]
    above.end()
    assert lines[3:] == ["f\n"]
    above.write("after")
    assert own.getvalue() == "after"
    assert above.getvalue() == "after"  # All else is the stream's own.


def test_a_line_that_never_ends_is_not_kept_for_ever() -> None:
    lines: list[str] = []
    above = AboveDisplay(io.StringIO(), lines.append)
    for number in range(10_000):
        above.write(f"\r{number}")
    assert 1 <= len(lines) <= 10
