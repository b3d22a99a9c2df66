"""Figures as people read them: durations, percentages, counts, rates. The page says the same by `words.js`."""

from __future__ import annotations

import math
import time
from datetime import datetime
from typing import TYPE_CHECKING, Final

from .printable import printable

if TYPE_CHECKING:
    from ..protocol.snapshot import PhaseSnapshot, PhaseValues, Snapshot


def percent(fraction: float) -> str:
    """0 to 100 %, rounded down, so that 100 % means done."""
    # A stored number may be out of range.
    return f"{int(min(max(fraction, 0.0), 1.0) * 100)} %"


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


def eta(values: Snapshot | PhaseSnapshot, moving: bool, label: str = "ETA ") -> str:
    """Such as "ETA 3m 20s"; empty where not known, or where the session does not move."""
    known = moving and values.status == "running" and values.eta is not None
    return label + duration(values.eta) if known and values.eta is not None else ""


def figures(phase: PhaseSnapshot, moving: bool, took: str = "", eta_label: str = "ETA ") -> list[str]:
    """The figures of a phase's line: count, rate, duration (as given in `took`), ETA and attempt.

    Args:
        phase: The phase.
        moving: Whether its session `moves`.
        took: How long the phase ran, or empty.
        eta_label: The text before the ETA.
    """
    texts = (count(phase), rate(phase) if moving else "", took, eta(phase, moving, eta_label), attempt(phase))
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
