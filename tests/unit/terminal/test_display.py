"""What the terminal shows, how much of it, and that nobody's text can do more there than be read."""

from __future__ import annotations

import io
import logging
import re
from collections import Counter
from functools import cache

import pytest
import trio
import trio.testing
from rich.cells import cell_len
from rich.console import Console

from trio_progress import Pipeline, ProgressTracker, Snapshot, open_display, open_progress, open_tracker
from trio_progress.terminal import words
from trio_progress.terminal.display_model import SESSIONS_KEPT
from trio_progress.terminal.layout import Frame, View, draw
from trio_progress.terminal.plain_lines import PlainLines, line
from trio_progress.terminal.redirection import RedirectedHandlers
from trio_progress.terminal.symbols import ASCII

PIPELINE = Pipeline("research", {"search": 3, "analysis": 2, "report": 1})
HOSTILE = [
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07x",
    "[bold]markup[/bold]",
    "\u202egnp.exe",
    "two\nlines",
    "\x9b2J",
    "a\rb",
]


@cache
def tree_of(phases: int) -> Snapshot:
    """A running session of which every fifth phase runs, and the others have ended or are to come."""
    return trio.run(_tree_of, phases, clock=trio.testing.MockClock(autojump_threshold=0))


async def _tree_of(phases: int) -> Snapshot:
    async with open_tracker() as tracker, tracker.session("a", title="a long crawl of many sites") as session:
        with session.phase("all", total=phases) as everything:
            for number in range(phases):
                scope = everything.phase(f"site-{number}", total=10, unit="pages")
                scope.__enter__().advance(3)
                if number % 5:
                    scope.__exit__(None, None, None)
            session.increment("sites_done", 12)
            session.update(message="page 7")
            snapshot = session.snapshot()
    return snapshot


def text_of(views: list[View], frame: Frame) -> str:
    return "\n".join(text.plain for text in draw(views, frame))


@pytest.mark.parametrize("width", [1, 8, 20, 40, 79, 120, 200])
@pytest.mark.parametrize("height", [1, 2, 5, 12, 24, 60])
def test_two_hundred_phases_fit_any_window(width: int, height: int) -> None:
    snapshot = tree_of(200)
    views = [View(snapshot, ["found x", "found y"])] * 4
    lines = draw(views, Frame(width, height, 1e9))
    assert 1 <= len(lines) <= height
    assert all(cell_len(text.plain) <= width for text in lines)


def test_what_does_not_fit_is_folded_and_counted_and_what_runs_stays() -> None:
    snapshot = tree_of(60)
    text = text_of([View(snapshot)], Frame(100, 40, 1e9))
    assert len(re.findall(r"site-\d+ ", text)) >= 10
    assert re.search(r"\+ 4 completed", text)
    assert "12/40" not in text
    assert "sites done 12" in text
    assert "page 7" in text
    tall = text_of([View(snapshot)], Frame(100, 100, 1e9))
    assert len(re.findall(r"site-\d+ ", tall)) == 60


async def test_a_session_says_how_it_stands_in_words_as_well(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker(stall_after=30) as tracker:
        async with tracker.session("a", PIPELINE, title="demo") as session:
            with session.phase("search", total=4, unit="pages") as phase:
                for _ in range(2):
                    phase.advance()
                    await trio.sleep(2)
                text = text_of([View(session.snapshot())], Frame(100, 20, 1e9))
                assert "demo" in text
                assert "2/4 pages" in text
                assert " 50 %" in text
                assert "ETA" in text
                await trio.sleep(40)
                stalled = text_of([View(await tracker.snapshot("a"))], Frame(100, 20, 1e9))
            session.fail("no sources")
        ended = text_of([View(await tracker.snapshot("a"))], Frame(100, 20, 1e9, ASCII))
    assert "! demo" in stalled
    assert "stalled for" in stalled
    assert "ETA" not in stalled.splitlines()[0]
    assert "failed" in ended
    assert "Failure: no sources" in ended
    assert ended.isascii()


async def test_what_stalls_has_no_speed_and_nothing_left(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker(stall_after=30) as tracker:
        async with tracker.session("a", PIPELINE) as session:
            with session.phase("search", total=400, unit="pages") as phase:
                for _ in range(20):
                    phase.advance(4)
                    await trio.sleep(1)
                live = await tracker.snapshot("a")
                await trio.sleep(40)
                stalled = await tracker.snapshot("a")
                phase.advance(4)
                await trio.sleep(1)
                again = await tracker.snapshot("a")
    assert (live.liveness, stalled.liveness, again.liveness) == ("ok", "stalled", "ok")
    for snapshot in (live, again):
        row = text_of([View(snapshot)], Frame(100, 20, 1e9)).splitlines()[1]
        assert re.search(r"/400 pages  \S+/s  \d", row)
        assert "/s" in line(snapshot)
        assert "ETA" in line(snapshot)
    row = text_of([View(stalled)], Frame(100, 20, 1e9)).splitlines()[1]
    assert row.endswith("80/400 pages")
    assert "search 80/400 pages" in line(stalled)
    assert "/s" not in line(stalled)
    assert "ETA" not in line(stalled)


@pytest.mark.parametrize("hostile", HOSTILE)
async def test_hostile_text_reaches_the_terminal_as_text_only(
    hostile: str, autojump_clock: trio.testing.MockClock
) -> None:
    clean = "".join(character for character in hostile if character.isprintable())
    async with open_tracker() as tracker, tracker.session("a", title=hostile) as session:
        session.update(message=hostile)
        session.increment("n")
        with session.phase("x", title=hostile, unit=hostile) as phase:
            phase.update(message=hostile, done=3)
            snapshot = session.snapshot()
    shown = io.StringIO()
    console = Console(file=shown, width=150, color_system=None, force_terminal=False)
    for text in draw([View(snapshot, [hostile])], Frame(150, 20, 1e9)):
        console.print(text)
    for said in (shown.getvalue(), line(snapshot) + "\n"):
        assert all(character.isprintable() or character == "\n" for character in said)
    assert len(line(snapshot).splitlines()) == 1
    if "[bold]" in hostile:
        assert clean in shown.getvalue()


async def test_plain_lines_come_at_once_for_what_matters_and_slowly_for_the_rest(
    autojump_clock: trio.testing.MockClock,
) -> None:
    lines = PlainLines(5.0)
    said: list[tuple[float, str]] = []
    async with open_tracker() as tracker:
        async with tracker.session("a", PIPELINE) as session:
            for name in ("search", "analysis"):
                with session.phase(name, total=110) as phase:
                    for _ in range(110):
                        phase.advance()
                        due = lines.due(session.snapshot(), trio.current_time())
                        if due is not None:
                            said.append((round(trio.current_time(), 1), due))
                        await trio.sleep(0.1)
        due = lines.due(await tracker.snapshot("a"), trio.current_time())
        assert due is not None
        assert lines.due(await tracker.snapshot("a"), trio.current_time() + 1000) is None
    assert [at for at, _ in said] == pytest.approx([0, 5, 10, 11, 16, 21], abs=0.25)
    assert "search 52/110" in said[1][1]
    assert "| 100 % | completed | after" in due


class Terminal(io.StringIO):
    """A file that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


async def run_in(file: io.StringIO, body: str = "") -> ProgressTracker:
    async with open_tracker() as tracker:
        async with open_display(tracker, file=file):
            async with tracker.session("a", PIPELINE, title="demo") as session:
                with session.phase("search", total=3) as phase:
                    for number in range(3):
                        await trio.sleep(0.3)
                        session.emit("source.found", {"n": number})
                        phase.advance()
                if body:
                    raise KeyError(body)
    return tracker


async def test_a_live_display_hides_the_cursor_and_gives_it_back(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    await run_in(terminal)
    shown = terminal.getvalue()
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1
    assert "source.found" in shown
    assert shown.rindex("completed") > shown.rindex("running")
    assert "\x1b[3" in shown


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
async def test_no_colour_and_dumb_terminals_are_respected(
    name: str, value: str, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(name, value)
    terminal = Terminal()
    await run_in(terminal)
    assert not re.search(r"\x1b\[[0-9;]*3\d", terminal.getvalue())
    assert ("\x1b" in terminal.getvalue()) == (name == "NO_COLOR")


async def test_a_file_gets_plain_lines_and_the_last_state(autojump_clock: trio.testing.MockClock) -> None:
    file = io.StringIO()
    await run_in(file)
    lines = file.getvalue().splitlines()
    assert "\x1b" not in file.getvalue()
    assert 2 <= len(lines) <= 4
    assert "| 100 % | completed |" in lines[-1]


async def test_however_many_end_together_each_end_is_told_once(autojump_clock: trio.testing.MockClock) -> None:
    file = io.StringIO()
    async with open_tracker() as tracker, open_display(tracker, file=file), trio.open_nursery() as nursery:

        async def run(session_id: str) -> None:
            async with tracker.session(session_id) as session:
                session.emit("e")
                await trio.sleep(1)

        for n in range(3 * SESSIONS_KEPT):
            nursery.start_soon(run, f"s{n}")
        await trio.sleep(5)
    ends = Counter(line.split(" | ")[1] for line in file.getvalue().splitlines() if "completed" in line)
    assert ends == dict.fromkeys((f"s{n}" for n in range(3 * SESSIONS_KEPT)), 1)


async def test_what_was_said_is_remembered_of_a_bounded_number(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_progress.terminal.plain_lines.REMEMBERED", 10)
    lines = PlainLines(5.0)
    async with open_tracker() as tracker:
        for n in range(50):
            async with tracker.session(f"s{n}") as session:
                pass
            assert lines.due(session.snapshot(), 0.0) is not None
            assert lines.due(session.snapshot(), 9.0) is None
    assert len(lines._last) == 10


async def test_the_bodys_exception_leaves_as_itself(autojump_clock: trio.testing.MockClock) -> None:
    file = io.StringIO()
    with pytest.raises(KeyError, match="mine"):
        await run_in(file, "mine")
    assert "failed" in file.getvalue().splitlines()[-1]


async def test_a_display_that_fails_is_logged_once_and_the_work_goes_on(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError("the terminal is gone")

    tracker = await run_in(Broken())
    assert tracker.statistics().sessions_ended == 1
    assert "the display failed" in caplog.text


async def test_a_script_of_five_lines(
    autojump_clock: trio.testing.MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_progress("import", {"fetch": 3, "load": 1}) as session:
        with session.phase("fetch") as phase:
            for _ in phase.track(["a", "b"]):
                await trio.sleep(0.2)
    assert session.status == "completed"
    out, err = capsys.readouterr()
    assert out == ""
    assert "import | 100 % | completed" in err


async def test_a_scripts_exception_leaves_as_itself_and_a_bad_phase_is_told_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError) as caught:
        async with open_progress("import", display=False):
            raise error
    assert caught.value is error
    with pytest.raises(ValueError, match="weight"):
        async with open_progress("import", {"fetch": -1}):
            pass


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0s"), (59.9, "59s"), (61, "1m 01s"), (3700, "1h 01m"), (100000, "1d 3h")]
)
def test_durations_have_two_units_at_most(seconds: float, said: str) -> None:
    assert words.duration(seconds) == said


def test_a_hundred_percent_is_said_of_what_has_ended_only() -> None:
    assert words.percent(0.9999999) == "99 %"
    assert words.percent(1.0) == "100 %"


@pytest.mark.parametrize("done", range(100))
def test_a_percentage_is_that_of_the_count_and_not_one_below_it(done: int) -> None:
    assert words.percent(done / 100) == f"{done} %"


def test_handlers_that_hold_the_terminals_streams_write_to_what_stands_in_for_them_meanwhile() -> None:
    own, other, instead = io.StringIO(), io.StringIO(), io.StringIO()
    logger = logging.getLogger("test of handlers")
    logger.propagate = False
    logger.handlers = [logging.StreamHandler(own), logging.StreamHandler(other), logging.NullHandler()]
    try:
        logger.warning("before")
        diverted = RedirectedHandlers({id(own): instead})
        logger.warning("meanwhile")
        diverted.restore()
        diverted.restore()
        logger.warning("after")
    finally:
        logger.handlers = []
    assert own.getvalue().split() == ["before", "after"]
    assert instead.getvalue().split() == ["meanwhile"]
    assert other.getvalue().split() == ["before", "meanwhile", "after"]
