"""Streams that are missing, closed, odd, full or stuck: there is no display, or less of it, and the work goes on."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import trio
import trio.testing
from rich.console import Console

from tests.support import PATIENCE
from trio_progress import open_display, open_progress, open_tracker
from trio_progress.cli import exit_codes, main, output
from trio_progress.cli.exit_codes import CommandError
from trio_progress.cli.output import stdout
from trio_progress.terminal.streams import is_terminal, usable


class OnlyWrites:
    """What a program without a console may put in place of standard error."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def write(self, text: str) -> None:
        self.texts.append(text)


class Raises:
    """Whatever it is asked, it raises."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


class Full(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


def repr_of(stream: object) -> str:
    return type(stream).__name__


async def work() -> str:
    async with open_progress("import", {"fetch": 1}) as session:
        with session.phase("fetch", total=3) as phase:
            for _ in phase.track(range(3)):
                await trio.sleep(0.05)
    return session.status


@pytest.mark.parametrize("stream", [None, closed(), OnlyWrites(), Raises(), Full(), object(), 7], ids=repr_of)
async def test_pain_25_without_a_usable_standard_error_the_work_goes_on(
    stream: Any, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    assert await work() == "completed"
    if isinstance(stream, OnlyWrites):
        assert "import | 100 % | completed" in stream.texts[-1]


async def test_pain_25_a_stream_that_is_closed_meanwhile_ends_the_display_alone(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    file = io.StringIO()
    async with open_tracker() as tracker, open_display(tracker, file=file):
        async with tracker.session("a") as session:
            await trio.sleep(1)
            file.close()
            await trio.sleep(1)
    assert session.status == "completed"
    assert caplog.text.count("the display failed") == 1


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
async def test_pain_29_a_title_that_the_stream_cannot_say_is_shown_with_question_marks(
    encoding: str, autojump_clock: trio.testing.MockClock
) -> None:
    titles = ["plain", "Größe café", "検索", "🚀 launch", "plain again"]
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    async with open_tracker() as tracker, open_display(tracker, file=file):
        for title in titles:
            async with tracker.session(title=title):
                await trio.sleep(1)
    file.seek(0)
    shown = file.read()
    for title in titles:
        assert f"| {title.encode(encoding, 'replace').decode(encoding)} | 100 %" in shown


@pytest.fixture
def stopped() -> Iterator[Any]:
    """A stream that takes nothing until it is let go."""

    class Stopped(OnlyWrites):
        go = threading.Event()

        def write(self, text: str) -> None:
            self.go.wait()  # However long a busy machine takes for the test.
            super().write(text)

    stream = Stopped()
    yield stream
    stream.go.set()


async def test_pain_23_a_stream_that_takes_nothing_stops_neither_the_work_nor_its_end(
    stopped: Any,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trio_progress.terminal.writer.LEAVING", 0.05)
    async with open_tracker(lost_after=3, heartbeat_interval=1) as tracker:
        async with open_display(tracker, file=stopped, interval=0.5):
            async with tracker.session("a") as session:
                with session.phase("p", total=1000) as phase:
                    for _ in phase.track(range(1000)):
                        await trio.sleep(0.1)
                assert (await tracker.snapshot("a")).liveness == "ok"
        assert (await tracker.snapshot("a")).status == "completed"
    assert stopped.texts == []
    assert [record.levelname for record in caplog.records if "nobody took them" in record.message] == ["WARNING"]


async def test_pain_23_lines_that_newer_ones_replace_are_left_out_and_every_end_is_told(
    stopped: Any, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, exhaustive: bool
) -> None:
    sessions = 100 if exhaustive else 20
    monkeypatch.setattr("trio_progress.terminal.writer.BEHIND", 2 * sessions)
    monkeypatch.setattr("trio_progress.terminal.writer.LEAVING", PATIENCE)
    async with open_tracker() as tracker:
        async with open_display(tracker, file=stopped, interval=0.1):
            for number in range(sessions):
                async with tracker.session(f"s-{number:02}") as session:
                    with session.phase("p", total=50) as phase:
                        for _ in phase.track(range(50)):
                            await trio.sleep(0.1)
            stopped.go.set()
    lines = "".join(stopped.texts).splitlines()
    assert {line.split(" | ")[1] for line in lines if "completed" in line} == {f"s-{n:02}" for n in range(sessions)}
    assert len(lines) < 2 * sessions


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


async def test_without_rich_one_line_says_once_what_brings_the_bars(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setattr("trio_progress.terminal.screen._hinted", False)
    shown = []
    for file in (io.StringIO(), Terminal(), Terminal()):
        monkeypatch.setattr(sys, "stderr", file)
        await work()
        shown.append(file.getvalue())
    assert [text.count("pip install 'trio-progress[terminal]'") for text in shown] == [0, 1, 0]
    assert all("import | 100 % | completed" in text for text in shown)


async def test_a_second_display_in_the_same_terminal_writes_lines_above_the_first(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    async with open_tracker() as tracker, open_display(tracker), open_display(tracker):
        async with tracker.session("twice"):
            print("printed meanwhile", file=sys.stderr)
            await trio.sleep(1)
    assert sys.stderr is terminal
    shown = terminal.getvalue()
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1
    assert "| twice | 100 % | completed" in shown
    assert "printed meanwhile\n" in shown


async def test_what_is_printed_on_a_given_console_stands_above_the_display(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    console = Console(file=terminal, width=60, height=10)
    async with open_tracker() as tracker, open_display(tracker, console=console):
        async with tracker.session("shown"):
            await trio.sleep(1)
            console.print("printed on the console")
            await trio.sleep(1)
    assert console.file is terminal
    assert "\x1b[Jprinted on the console\n" in terminal.getvalue()
    console.print("afterwards")
    assert terminal.getvalue().endswith("\x1b[?25hafterwards\n")


@pytest.mark.parametrize("stream", [None, closed(), Raises()], ids=repr_of)
def test_a_command_without_standard_output_says_so_and_asks_it_nothing(
    stream: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", stream)
    assert not is_terminal(sys.stdout)
    assert not stdout().terminal
    with pytest.raises(CommandError) as caught:
        output.print_answer("x")
    assert caught.value.code == exit_codes.NOTHING
    monkeypatch.setattr(sys, "stderr", stream)
    output.print_notice("nobody is told")
    with output.in_background():
        output.print_error("nobody is told")


def test_what_a_command_says_beside_an_event_loop_does_not_wait(stopped: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_progress.terminal.writer.LEAVING", 0.05)
    monkeypatch.setattr(sys, "stderr", stopped)
    with output.in_background():
        for _ in range(100):
            output.print_notice("a session is lost")
    assert stopped.texts == []


def test_what_the_commands_say_is_replaced_where_it_cannot_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, say in (("stdout", output.print_answer), ("stderr", output.print_notice)):
        stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
        monkeypatch.setattr(sys, name, stream)
        say("Größe 検索")
        stream.seek(0)
        assert stream.read().strip() == "Gr??e ??"


def test_what_is_wrong_with_the_arguments_is_said_in_what_the_stream_can_say(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
    monkeypatch.setattr(sys, "stderr", stream)
    with pytest.raises(SystemExit) as caught:
        main(["ls", "--status", "größe"])
    assert caught.value.code == exit_codes.USAGE
    stream.seek(0)
    assert "invalid choice: 'gr??e'" in stream.read()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    with pytest.raises(SystemExit):
        main(["--help"])


def test_streams_of_others_are_asked_with_care() -> None:
    assert not usable(None)
    assert not usable(closed())
    assert not usable(Raises())
    assert usable(OnlyWrites())
    assert not is_terminal(OnlyWrites())
    assert not is_terminal(closed())
    assert is_terminal(Terminal())
