"""Figures as people read them: durations, percentages, counts, rates. The page says the same by `words.js`."""

from __future__ import annotations

import math
import time
from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from ..protocol.outlook import outlook_at
from ..protocol.snapshot import phase_ran, ran
from .printable import printable

if TYPE_CHECKING:
    from ..protocol.snapshot import PhaseSnapshot, PhaseValues, Snapshot


def percent(fraction: float) -> str:
    """0 to 100 %, rounded down, so that 100 % means done."""
    # A stored number may be out of range, and 0.29 * 100 is a little below 29. The page counts in the same way.
    return f"{int(min(max(fraction, 0.0), 1.0) * 100 + 1e-9)} %"


def duration(seconds: float) -> str:
    """Two units at most: "45s", "3m 20s", "2h 05m", "4d 3h"."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d {whole % 86400 // 3600}h"


def number(value: float) -> str:
    """A count: whole numbers with separators, others with two decimals at most."""
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.2f}".rstrip("0").rstrip(".")


BYTES: Final = {
    "B": (1000, ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")),
    "iB": (1024, ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")),
}
"""Units that are shown scaled, each with its step: "B" by 1000, as disks, networks and tqdm count; "iB" by 1024."""


def scaled(value: float, unit: str) -> tuple[str, str]:
    """A number of bytes with one decimal at most, in a unit of `BYTES`, and its prefixed unit: ("1.2", "GB")."""
    step, names = BYTES[unit]
    size = 0
    while size < len(names) - 1 and _tenths(value) >= step:
        value /= step
        size += 1
    return number(_tenths(value)) if size else number(value), names[size]


def _tenths(value: float) -> float:
    """Rounded as people do, halves up, so that the page says the same. From 100 on there are no tenths."""
    return math.floor(value * 10 + 0.5) / 10 if abs(value) < 99.95 else math.floor(value + 0.5)


def _half_up(value: float) -> int:
    return math.floor(value + 0.5)


def _scaled_count(done: float, total: float | None, unit: str) -> str:
    """Such as "1.2/3.4 GB", or "512 MB/3.4 GB" where the units differ."""
    so_far, small = scaled(done, unit)
    if total is None:
        return f"{so_far} {small}"
    of, large = scaled(total, unit)
    return f"{so_far}/{of} {large}" if small == large or not done else f"{so_far} {small}/{of} {large}"


def count(phase: PhaseValues) -> str:
    """Done and total: "12/40 pages"; bytes are scaled; empty for a phase that counts nothing."""
    if phase.total is None and not phase.done:
        return ""
    if phase.unit is not None and phase.unit in BYTES:
        return _scaled_count(phase.done, phase.total, phase.unit)
    of = "" if phase.total is None else f"/{number(phase.total)}"
    return f"{number(phase.done)}{of}{' ' + printable(phase.unit) if phase.unit else ''}"


def moves(snapshot: Snapshot) -> bool:
    """Whether the session runs and advances: only then are its rates and its ETA true."""
    return not snapshot.ended and snapshot.liveness == "ok"


def rate(phase: PhaseValues) -> str:
    """Units a second while it runs, "12.3/s" or "12 MB/s"; empty where not known."""
    if phase.rate is None or phase.status != "running":
        return ""
    if phase.unit is not None and phase.unit in BYTES:
        return "{} {}/s".format(*scaled(phase.rate, phase.unit))
    return f"{phase.rate:.3g}/s" if phase.rate < 1000 else f"{phase.rate:,.0f}/s"


def counters(snapshot: Snapshot, most: int) -> str:
    """The first counters: "sources found 12, duplicates removed 3"."""
    shown = [f"{name.replace('_', ' ')} {number(value)}" for name, value in list(snapshot.counters.items())[:most]]
    more = len(snapshot.counters) - len(shown)
    return ", ".join([*shown, *([f"+ {more} more"] if more > 0 else [])])


class Times(NamedTuple):
    """The times that the figures of a session's phases are computed from."""

    now: float
    """The owner's wall clock, in seconds since 1970."""
    ran: float
    """Seconds that the session has run."""
    since: float
    """Seconds since what it says of the future was true."""
    moving: bool
    """Whether the session `moves`."""


def times_of(snapshot: Snapshot, now: float) -> Times:
    """The times of a session; `now` is its owner's wall clock, in seconds since 1970."""
    at = snapshot.published_at
    return Times(now, ran(snapshot, now), 0.0 if at is None else max(now - at.timestamp(), 0.0), moves(snapshot))


WIDE: Final = 10.0
"""A range is wide where its end is more than twice its beginning, and so many seconds."""

UNITS: Final = (("s", 1), ("min", 60), ("h", 3600), ("days", 86400))
"""Units in which a time is said roughly; each from two of it on."""


def left(eta: float | None, eta_range: tuple[float, float] | None = None, longer: Longer | None = None) -> str:
    """The time that is left, as exactly as it is known; the page says the same by its `left()`.

    A figure ("2m 10s", "a moment") where the range is narrow or not known, else the range ("about 2 to 9 min"). What
    is overdue has no figure: "longer than usual (3 min so far, usually 1)". Empty where nothing is known.
    """
    if longer is not None:
        return "longer than usual ({} {} so far, usually {})".format(*_compared(*longer))
    if eta is None:
        return ""
    if eta_range is not None and eta_range[1] > 2 * eta_range[0] + WIDE:
        low, high, unit = _rough_range(*eta_range)
        return f"about {low} to {high} {unit}" if low else f"up to {high} {unit}"
    return duration(eta) if eta >= 1 else "a moment"


class Longer(NamedTuple):
    """A phase takes longer than usual."""

    spent: float
    """Seconds so far."""
    usual: float
    """Seconds that it usually takes."""


def _unit(seconds: float) -> int:
    return max(number for number, (_, size) in enumerate(UNITS) if number == 0 or seconds >= 2 * size)


def _rough_range(low: float, high: float) -> tuple[int, int, str]:
    """The range in whole units, never narrower than it is; in seconds by fives."""
    name, size = UNITS[_unit(high)]
    step = 5 if name == "s" else 1
    return int(low / size // step) * step, -int(-high / size // step) * step, name


def _compared(spent: float, usual: float) -> tuple[int, str, str]:
    """Both in one unit that tells them apart."""
    unit = _unit(spent)
    while unit and int(spent / UNITS[unit][1]) <= _half_up(usual / UNITS[unit][1]):
        unit -= 1
    name, size = UNITS[unit]
    rounded = _half_up(usual / size)
    return int(spent / size), name, str(rounded) if rounded else "less than 1"


def longer_than_usual(phase: PhaseValues, times: Times) -> Longer | None:
    """How long a phase has run, and usually takes, where that is longer than usual, by a whole second.

    None as well where its own pace says when it will be done, and where only its weight says how long it should take.
    """
    expected = phase.expected
    if phase.status != "running" or expected is None or expected.source == "weight":
        return None
    if phase.eta is not None and phase.fraction is not None:
        return None
    spent = phase_ran(phase, times.ran, times.now)
    return Longer(spent, expected.seconds) if int(spent) > _half_up(expected.seconds) else None


def phase_left(phase: PhaseValues, times: Times) -> str:
    """What is left of a phase, as of now; empty where not known, or where the session does not move."""
    if phase.status != "running" or not times.moving:
        return ""
    return left(None if phase.eta is None else phase.eta - times.since, None, longer_than_usual(phase, times))


def session_left(snapshot: Snapshot, now: float) -> str:
    """The same of a session; `now` is its owner's wall clock, in seconds since 1970."""
    if snapshot.status != "running" or not moves(snapshot):
        return ""
    outlook = outlook_at(snapshot, now)
    return left(outlook.eta, outlook.eta_range, _session_longer(snapshot, now, outlook.eta))


def _session_longer(snapshot: Snapshot, now: float, eta: float | None) -> Longer | None:
    """The phase of a session that takes longer than usual, the one that is furthest over.

    None as well where it is over by less than what is left of the session, and something else is left: then the
    estimate of the rest holds.
    """
    times = times_of(snapshot, now)
    found: list[Longer] = []
    others = False
    for phase in snapshot.phases:
        longer = longer_than_usual(phase, times)
        if longer is not None:
            found.append(longer)
        elif phase.status in ("pending", "running"):
            others = True
    worst = max(found, key=lambda one: one.spent - one.usual, default=None)
    if worst is None or (others and eta is not None and worst.spent - worst.usual <= eta):
        return None
    return worst


def labelled(left: str) -> str:
    """What `left()` says, where nothing around it tells what it is: "ETA 3m 20s", "about 2 to 9 min left"."""
    if not left or left.startswith("longer"):
        return left
    return f"ETA {left}" if left[0].isdigit() else f"{left} left"


def expected(phase: PhaseValues) -> str:
    """How long a phase was expected to take and from what that is known; the page says the same by its `expected()`.

    Such as "1m 02s: 0.2 s a page x 312, over 5 runs", "usually 1m 10s over 5 runs"; empty where nobody knows.
    """
    known = phase.expected
    if known is None:
        return ""
    seconds = short(known.seconds)
    runs = f"over {known.runs} runs" if known.runs > 1 else "in 1 run" if known.runs else ""
    if known.source == "unit" and known.unit_seconds and known.count is not None:
        by_units = _by_units(known.unit_seconds, known.count, phase.unit)
        return f"{seconds}: {by_units}{', ' + runs if runs else ''}"
    if known.source == "given":
        return f"{seconds}, as the pipeline says"
    if known.source == "weight":
        return f"{seconds}, by its weight"
    return f"usually {seconds}{' ' + runs if runs else ''}"


def _by_units(seconds: float, count: float, unit: str | None) -> str:
    """Such as "0.2 s a page x 312", or where each takes less than a tenth of a second "312 pages at 50/s"."""
    if unit is not None and unit in BYTES:
        return "{} {} at {} {}/s".format(*scaled(count, unit), *scaled(1 / seconds, unit))
    name = printable(unit) if unit else "units"
    if seconds < 0.1:
        return f"{number(_half_up(count))} {name} at {number(_half_up(1 / seconds))}/s"
    one = name[:-1] if name.endswith("s") and not name.endswith("ss") else name
    each = _half_up(seconds * 100) / 100 if seconds < 1 else _tenths(seconds)
    return f"{number(each)} s a {one} x {number(_half_up(count))}"


def short(seconds: float) -> str:
    """As `duration()`, but to a tenth below ten seconds."""
    return f"{number(_tenths(max(seconds, 0.0)))}s" if seconds < 10 else duration(seconds)


def figures(phase: PhaseSnapshot, times: Times, took: str = "", *, label: bool = True) -> list[str]:
    """The figures of a phase's line: count, rate, duration (as given in `took`), what is left, and attempt.

    Args:
        phase: The phase.
        times: Those of its session.
        took: How long the phase ran, or empty.
        label: Whether what is left says that it is that.
    """
    remains = phase_left(phase, times)
    remains = labelled(remains) if label else remains
    texts = (count(phase), rate(phase) if times.moving else "", took, remains, attempt(phase))
    return [text for text in texts if text]


def attempt(values: Snapshot | PhaseSnapshot) -> str:
    """Such as "attempt 2"; empty for the first."""
    return f"attempt {values.attempt}" if values.attempt > 1 else ""


def error(snapshot: Snapshot) -> str:
    """The type and message of the session's error; empty without one."""
    found = snapshot.error
    return "" if found is None else ": ".join(filter(None, (found.type, found.message)))


def status(snapshot: Snapshot) -> str:
    """The status, or "stalled" for a running session that does not advance."""
    return "stalled" if snapshot.status == "running" and snapshot.liveness == "stalled" else snapshot.status


def standing(snapshot: Snapshot, now: float) -> str:
    """The status, and for a stalled session for how long; `now` in seconds since 1970."""
    if status(snapshot) == "stalled" and snapshot.progressed_at is not None:
        return f"stalled for {duration(max(now - snapshot.progressed_at.timestamp(), 0))}"
    return snapshot.status.replace("_", " ")


def clock(stamp: float, form: str = "%H:%M:%S") -> str:
    """A moment in the reader's own time zone. Not by `datetime`, which does not have every zone that `TZ` can name."""
    try:
        return time.strftime(form, time.localtime(stamp))
    except (OverflowError, ValueError, OSError):
        return "--:--:--"


def ago(moment: datetime | None, now: float) -> str:
    """How long ago a moment was: "3 min ago"; the date after a week; "-" for None.

    A moment in the future is shown as it is: the clock of another process may be ahead.
    """
    if moment is None:
        return "-"
    seconds = now - moment.timestamp()
    if -5 < seconds < 1:
        return "now"
    if 0 < seconds < 60:
        return f"{int(seconds)} s ago"
    if 0 < seconds < 3600:
        return f"{int(seconds // 60)} min ago"
    if 0 < seconds < 86400:
        return f"{int(seconds // 3600)} h ago"
    if 0 < seconds < 7 * 86400:
        days = int(seconds // 86400)
        return f"{days} day{'s' if days > 1 else ''} ago"
    return local_time(moment)


def local_time(moment: datetime) -> str:
    """Date and time in the reader's own time zone."""
    try:
        moment = moment.astimezone()
    except (OverflowError, ValueError, OSError):
        pass  # Some zones have no such moment in the years 1 and 9999.
    return moment.replace(tzinfo=None).isoformat(sep=" ", timespec="seconds")
