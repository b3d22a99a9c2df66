"""What a failing schedule is reported as: the error, the command that repeats it, and what happened."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..errors import Picklable
from ..session.outcome import leaves
from .page import page_of
from .running import same
from .smallest import smallest
from .timeline import left_out, raised_at

if TYPE_CHECKING:
    from .running import Case, Run
    from .scheduler import Source
    from .smallest import Smallest

SEED_VARIABLE: Final = "TRIO_PROGRESS_SEED"
"""The environment variable by which the printed command repeats one schedule."""

LINES: Final = 40
"""Lines of a report at most."""

BEFORE: Final = 5
"""Lines before the one from which a failing schedule parts from the passing one beside it that are shown."""

LAST: Final = 6
"""Lines of the end that are shown where not all are."""

SHOWN: Final = 60
"""Lines of `ScheduleError.timeline` at most."""

WIDTH: Final = 160
"""Characters of a line of what was raised."""


@dataclass(frozen=True, slots=True)
class Found:
    """A schedule that has failed, and how it was found.

    Args:
        run: What came of it.
        seed: Which repeats it; where there is a source, of the random numbers alone.
        tried: The how-manieth schedule it was.
        distinct: How many of these had different histories.
        where: Of a sweep: the step, as the environment variable has it.
        source: Makes what the schedule came from, where that was no seed.
        path: The file that it was kept in, where it was.
        searched: Whether it was found by a search through all orders.
    """

    run: Run
    seed: int
    tried: int
    distinct: int
    where: str = ""
    source: Callable[[], Source] | None = None
    path: Path | None = None
    searched: bool = False

    def __str__(self) -> str:
        if self.path is not None:
            return f"as it is kept in {self.path}"
        if self.searched:
            return f"in the {_nth(self.tried)} of the orders searched"
        return f"under seed {self.seed}{self.where}, the {_nth(self.tried)} schedule tried ({self.distinct} distinct)"


class ScheduleError(Picklable, AssertionError):
    """A scenario has failed under one schedule; its cause is what the scenario raised.

    `seed` repeats the schedule, `replay` is the command that does, `timeline` is what happened, as text;
    `history` names the history, `tried` says how many schedules were run and `distinct` how many of them
    differed; `deterministic` is False where the same seed gave something else the second time. `schedule` is the
    smallest failing one that was found, of which the timeline tells, `preemptions` says how often a task has to stop
    in it that could have gone on, and `passing` has the entries of one that passes and differs by one switch; each is
    None where there is none. `str(error.schedule)` is a file that `python -m trio_progress.testing replay` takes;
    `kept` is the one that it was written into. Of a sweep `failures` has each step at which the scenario failed, and
    with what.
    """

    def __init__(self, what: str, found: Found, again: Run, least: Smallest | None = None) -> None:
        shown = again if least is None else least.run
        error = next(run.error for run in (shown, again, found.run) if run.error is not None)
        assert error is not None
        self.error: BaseException = error
        self.seed = found.seed
        self.tried = found.tried
        self.distinct = found.distinct
        self.history = again.history
        self.timeline = "\n".join(_cut_to(shown.timeline.splitlines(), SHOWN))
        self.deterministic = same(found.run, again)
        self.schedule = None if least is None else least.schedule
        self.preemptions = None if least is None else least.preemptions
        self.passing = None if least is None or least.neighbour is None else least.neighbour.entries
        self.kept = found.path
        self.failures: tuple[tuple[int, str], ...] = ()
        self.replay = replay_command("" if found.searched else f"{found.seed}{found.where}", what, found.path)
        self._what = what
        self._rows = shown.rows
        lines = [
            f"{what} fails {found}:",
            *(f"  {line[:WIDTH]}" for line in islice(_told(error), 9)),
            "",
            f"replay it:  {self.replay}",
            "",
        ]
        if not self.deterministic:
            lines += [
                "The same seed, run again, did something else. The scenario is not deterministic: a thread, the wall",
                "clock, a hash order, a real socket, `random.Random()` or `secrets`? What follows is the second run.",
                "",
            ]
        if least is not None:
            lines += [*least.lines(), ""]
        happened = _happened(shown.timeline, "" if least is None else least.passing, LINES - len(lines) - 1)
        super().__init__("\n".join([*lines, f"history {self.history}:", *happened]))

    def __reduce__(self) -> tuple[Any, ...]:
        made, given, state = super().__reduce__()
        return made, given, {**state, "error": _portable(self.error)}

    def page(self) -> str:
        """The schedule as an HTML page that needs nothing else: a lane for each task, wake-ups and values."""
        return page_of(self._what, str(self), self._rows)


def failure(case: Case, found: Found, shrink: int, test: str = "") -> ScheduleError:
    """A failed schedule's report: it is run again to be watched, and made smaller where it fails again.

    Args:
        case: What was run.
        found: What has failed.
        shrink: In how many runs at most it is made smaller.
        test: By what name its schedule is kept.
    """
    again = case.run(found.seed, None if found.source is None else found.source(), watch=True)
    least = smallest(case, found.seed, found.run, shrink, test) if shrink and same(found.run, again) else None
    return schedule_error(case.name, found, again, least)


def schedule_error(what: str, found: Found, again: Run, least: Smallest | None = None) -> ScheduleError:
    """The report of a schedule that failed, and was run `again` to be watched."""
    error = ScheduleError(what, found, again, least)
    error.__cause__ = error.error
    return error


def _portable(error: BaseException) -> BaseException:
    """The error, where all of it can be brought to another process by itself; else one that says the same."""
    if type(error).__module__ == "builtins" and all(isinstance(one, (str, int, float)) for one in error.args):
        return error
    return RuntimeError("\n".join(lines_of(error)))


def parse_seed(text: str) -> tuple[int, int | None]:
    """The seed, and the step of a sweep, in the environment variable; a `ValueError` where it holds neither."""
    seed, at, step = text.partition("@")
    try:
        return int(seed), int(step) if at else None
    except ValueError:
        raise ValueError(f"{SEED_VARIABLE} must be a seed, as a failure prints it, not {text!r:.200}") from None


def replay_command(seed: str, scenario: str, path: Path | None = None) -> str:
    """What to type to see one schedule again; without a seed it is found anew."""
    if path is not None:
        return f"python -m trio_progress.testing replay {shlex.quote(str(path))}"
    variable = f"{SEED_VARIABLE}={seed} " if seed else ""
    test = os.environ.get("PYTEST_CURRENT_TEST")
    if test is not None:
        return f"{variable}python -m pytest {shlex.quote(test.rpartition(' (')[0])}"
    arguments = sys.orig_argv[1:]
    if not arguments or arguments[-1] == "-":
        return f"explore({scenario}, schedules=1, seed={seed.partition('@')[0]})" if seed else f"exhaust({scenario})"
    return f"{variable}{shlex.join([Path(sys.orig_argv[0]).name, *arguments])}"


def lines_of(error: BaseException) -> list[str]:
    """The error's type and text, by line; those of its exceptions, where it is a group."""
    return [line for leaf in leaves(error) for line in _said(leaf)]


def _said(leaf: BaseException) -> list[str]:
    text = str(leaf)
    return (f"{type(leaf).__name__}: {text}" if text else type(leaf).__name__).splitlines()


def _told(error: BaseException) -> Iterator[str]:
    """The lines of each exception, and where it was raised."""
    for leaf in leaves(error):
        yield from _said(leaf)[:8]
        if place := raised_at(leaf):
            yield f"  raised at {place}"


def _happened(failing: str, passing: str, count: int) -> list[str]:
    """At most so many lines of what happened: from where it parts from what passes, and the last, where it was seen."""
    lines, others = failing.splitlines(), passing.splitlines()
    parts = next((at for at, pair in enumerate(zip(lines, others, strict=False)) if pair[0] != pair[1]), None)
    if not parts:  # They begin elsewhere, where each has left out what is old.
        return _cut_to(lines, count)
    lines.insert(parts, f"{'':>10}  ... up to here what passes is the same; it goes on with: {_plain(others[parts])}")
    return _cut(lines, max(parts - BEFORE, 0), count)


def _cut_to(lines: list[str], count: int) -> list[str]:
    """The last of the lines; there it went wrong."""
    return _cut(lines, max(len(lines) - count + 1, 0), count)


def _cut(lines: list[str], first: int, count: int) -> list[str]:
    """So many lines, from the one that must be among them on; those left out are counted."""
    if len(lines) <= count:
        return lines
    if len(lines) - first < count:
        first = len(lines) - count + 1
    head = [left_out(first, "earlier")] if first else []
    shown = lines[first:]
    room = count - len(head)
    if len(shown) > room:
        end = min(LAST, room // 2)
        middle = len(shown) - (room - 1)
        shown = [*shown[: room - 1 - end], left_out(middle, "more"), *shown[len(shown) - end :]]
    return [*head, *shown]


def _plain(line: str) -> str:
    """A line of a timeline without its columns."""
    return " ".join(line.split())[:WIDTH]


def _nth(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
