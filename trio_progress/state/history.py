"""What earlier runs of a pipeline have taught: one bounded value a pipeline, and how the end of a run changes it.

1. A run teaches once, at its end, and only what it knows: phases that completed teach how long they take, phases that
   were skipped teach how often they are worked on, and only a run that completed teaches how far off the estimate was.
2. Times are geometric means, in which the newest run weighs 1/(n+1) and never less than 0.3. A time that is more than
   twice, or less than half, the usual one is believed sooner where there was only one run before (the first is often
   a cold one), or where the run before said the same (the work has changed).
3. Phases that no run had for `KEPT_FOR` seconds go, and so does the whole; there is a bound to both.
4. There are names of phases in it and numbers, nothing else.

The same functions serve every store: a store keeps the encoded value, and hands it back.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, isfinite, log
from typing import Final

import msgspec

KEPT_FOR: Final = 30 * 86400.0
"""Seconds after its last run that a phase, or a pipeline, is forgotten."""

PHASES_KEPT: Final = 200
"""Phases of one pipeline; those that did not run for longest go first."""

PIPELINES_KEPT: Final = 1000
"""Pipelines in a store; those that did not run for longest go first."""

KNOTS: Final = (0.1, 0.25, 0.5, 0.75, 0.9, 0.97, 0.999)
"""Fractions of its count at which it is remembered which part of a phase's time had passed."""

NEWEST: Final = 0.3
"""What the newest run weighs at least."""

NEWEST_SKIP: Final = 0.2
"""The same of whether a phase is worked on at all."""

SURPRISE: Final = log(2)
"""A time that is off by more than this factor (its logarithm) may be a new truth."""

AFTER_FIRST: Final = 0.75
"""What such a time weighs where there was one run before."""

AFTER_SAME: Final = 0.55
"""What it weighs where the run before was off in the same way."""

SPREAD: Final = 0.9
"""How far off an estimate is taken to be before there are mistakes to learn from; see `PipelineHistory.spread`."""

SPREAD_RUNS: Final = 0.25
"""How many runs that speaks for: what is learnt soon weighs more."""

LEAST_SPREAD: Final = 0.02
"""No estimate is taken to be nearer than this."""

MOST: Final = 1e12
"""No number in a history is larger."""

LEAST: Final = 1e-3
"""Seconds: what is shorter is taken as this."""


class PhaseHistory(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of one phase of a pipeline."""

    runs: int = 1
    """Runs in which it completed."""
    reached: int = 1
    """Runs in which it completed or was skipped."""
    seconds: float
    """How long it usually takes."""
    unit_seconds: float | None = None
    """How long one of its units usually takes; None: it never had a total."""
    count: float | None = None
    """How many units it usually has in the end; None: it never counted."""
    worked: float = 1.0
    """How often it is worked on at all, 0 to 1: it is not where it is skipped."""
    alone: float = 1.0
    """The share of its time that is its own: a second in which three phases run is a third of a second of each."""
    children: float | None = None
    """How many children it usually has; None: it has none, or a total."""
    growth: float = 0.0
    """By how much (its logarithm) the total usually grows after it was first said."""
    profile: tuple[float, ...] = ()
    """Which part of its time has usually passed when it has come to each of `KNOTS`; empty: not known."""
    change: float = 0.0
    """How far off the last run was (the logarithm of the ratio)."""
    at: float = 0.0
    """When it ran last; seconds since 1970."""


class PipelineHistory(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of a pipeline."""

    runs: int = 0
    """Runs that have taught something."""
    at: float = 0.0
    """When the last of them ended; seconds since 1970."""
    spread: float = SPREAD
    """How far off the estimate of the rest was, but for the worst (the logarithm of the ratio)."""
    judged: int = 0
    """Runs that have taught `spread` and `error`."""
    error: float | None = None
    """How far off the bar usually was: the mean distance to the part of the time that had passed, 0 to 1."""
    phases: dict[str, PhaseHistory] = {}

    def to_json(self) -> str:
        """The history as JSON, which `tracker.import_history()` takes."""
        return encode_history(self).decode()


class PhaseLesson(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one run teaches of a phase."""

    seconds: float | None = None
    """How long it took, in all attempts; None: it was skipped."""
    needed: float = 1.0
    """The part of it that needed work, 0 to 1: what was passed over took no time."""
    total: float | None = None
    count: float = 0.0
    first_total: float | None = None
    alone: float | None = None
    children: int | None = None
    profile: tuple[float, ...] = ()


class Lesson(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one run teaches; made once, at its end."""

    at: float
    """When it ended; seconds since 1970."""
    phases: dict[str, PhaseLesson]
    miss: float | None = None
    """How far off the estimate was, but for the worst; see `PipelineHistory.spread`."""
    error: float | None = None
    """How far off the bar was; see `PipelineHistory.error`."""


def learned(history: PipelineHistory | None, lesson: Lesson) -> PipelineHistory:
    """The history after one more run; None before stands for none."""
    at = lesson.at
    before = PipelineHistory() if history is None else history
    phases = dict(before.phases)
    for name, taught in lesson.phases.items():
        phase = _learned_phase(phases.get(name), taught, at)
        if phase is not None:
            phases[name] = phase
    spread, error, judged = before.spread, before.error, before.judged
    if lesson.miss is not None and isfinite(lesson.miss):
        weight = max(1 / (judged + 1 + SPREAD_RUNS), NEWEST)
        spread = exp(_mean(log(max(spread, LEAST_SPREAD)), log(max(lesson.miss, LEAST_SPREAD)), weight))
        if lesson.error is not None:
            error = lesson.error if error is None else _mean(error, lesson.error, max(1 / (judged + 1), NEWEST))
        judged += 1
    return PipelineHistory(
        runs=before.runs + 1,
        at=max(before.at, at),
        spread=spread,
        judged=judged,
        error=error,
        phases=_recent(phases, at),
    )


def _learned_phase(before: PhaseHistory | None, taught: PhaseLesson, at: float) -> PhaseHistory | None:
    if taught.seconds is None:
        if before is None:
            return None
        reached = before.reached + 1
        worked = before.worked * (1 - max(1 / (reached + 1), NEWEST_SKIP))
        return msgspec.structs.replace(before, reached=reached, worked=worked, at=at)
    # What was passed over took no time: the whole would have taken longer.
    seconds = min(max(taught.seconds / max(taught.needed, 0.01), LEAST), MOST / 2)
    unit = min(seconds / taught.total, MOST / 2) if taught.total else None
    count = min(taught.count, MOST / 2) or None
    growth = log(taught.total) - log(taught.first_total) if taught.total and taught.first_total else 0.0
    if before is None:
        return PhaseHistory(
            seconds=seconds,
            unit_seconds=unit,
            count=count,
            alone=1.0 if taught.alone is None else taught.alone,
            children=taught.children,
            growth=growth,
            profile=taught.profile,
            at=at,
        )
    weight = max(1 / (before.runs + 1), NEWEST)
    change = log(seconds / before.seconds)
    believed = weight
    if abs(change) > SURPRISE:
        if before.runs == 1:
            believed = AFTER_FIRST
        elif change * before.change > 0 and abs(before.change) > SURPRISE:
            believed = max(weight, AFTER_SAME)
    reached = before.reached + 1
    if len(before.profile) == len(taught.profile):
        profile = tuple(_mean(old, new, weight) for old, new in zip(before.profile, taught.profile, strict=True))
    else:
        profile = taught.profile or before.profile
    return PhaseHistory(
        runs=before.runs + 1,
        reached=reached,
        seconds=before.seconds * exp(believed * change),
        unit_seconds=_geometric(before.unit_seconds, unit, believed),
        count=_geometric(before.count, count, weight),
        worked=_mean(before.worked, 1.0, max(1 / (reached + 1), NEWEST_SKIP)),
        alone=before.alone if taught.alone is None else _mean(before.alone, taught.alone, weight),
        children=_geometric(before.children, taught.children, weight),
        growth=_mean(before.growth, growth, weight),
        profile=profile,
        change=change,
        at=at,
    )


def _mean(before: float, newest: float, weight: float) -> float:
    return before + weight * (newest - before)


def _geometric(before: float | None, newest: float | None, weight: float) -> float | None:
    if before is None or newest is None or before <= 0 or newest <= 0:
        return before if newest is None or newest <= 0 else newest
    return exp((1 - weight) * log(before) + weight * log(newest))  # No quotient, which may be nothing or too much.


def _recent(phases: Mapping[str, PhaseHistory], now: float) -> dict[str, PhaseHistory]:
    kept = {name: phase for name, phase in phases.items() if now - phase.at <= KEPT_FOR}
    if len(kept) > PHASES_KEPT:
        newest = set(sorted(kept, key=lambda name: kept[name].at, reverse=True)[:PHASES_KEPT])
        kept = {name: kept[name] for name in kept if name in newest}
    return kept


def forgotten(histories: Mapping[str, PipelineHistory], now: float) -> list[str]:
    """The pipelines of a store that are to go: nobody ran them for long, or there are too many."""
    old = [name for name, history in histories.items() if now - history.at > KEPT_FOR]
    if len(histories) - len(old) > PIPELINES_KEPT:
        newest = sorted(histories, key=lambda name: histories[name].at, reverse=True)
        old += [name for name in newest[PIPELINES_KEPT:] if name not in old]
    return old


def encode_history(history: PipelineHistory) -> bytes:
    """The history as JSON, as it is stored and exported."""
    return msgspec.json.encode(history)


def decode_history(data: bytes | str) -> PipelineHistory:
    """The history in JSON that `encode_history()` has made.

    Raises:
        ValueError: It is none.
    """
    try:
        history = msgspec.json.decode(data, type=PipelineHistory)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ValueError(f"this is no history of a pipeline: {error}") from None
    return checked_history(history)


def checked_history(history: PipelineHistory) -> PipelineHistory:
    """The same history.

    Raises:
        ValueError: A number in it is out of range.
    """
    numbers = (history.runs, history.judged, history.spread, history.error or 0.0)
    if not (all(0 <= value < MOST for value in numbers) and abs(history.at) < MOST and history.spread < 100):
        raise ValueError("this is no history of a pipeline: a number of it is out of range")
    for name, phase in history.phases.items():
        least = (phase.seconds, phase.unit_seconds or 1.0, phase.count or 1.0, phase.children or 1.0)
        parts = (phase.worked, phase.alone, *phase.profile)
        if (
            not name
            or not all(0 <= value < MOST for value in (phase.runs, phase.reached))
            or not all(0 < value < MOST for value in least)
            or not all(0 <= value <= 1 for value in parts)
            or not all(abs(value) < MOST for value in (phase.growth, phase.change, phase.at))
            or len(phase.profile) not in (0, len(KNOTS))
        ):
            raise ValueError(f"this is no history of a pipeline: a number of phase {name!r:.200} is out of range")
    return history


def history_of_seconds(seconds: Mapping[str, float], at: float = 0.0) -> PipelineHistory | None:
    """What was kept before there were histories: how long each phase took. None where that is nothing."""
    phases = {name: PhaseHistory(seconds=max(value, LEAST), at=at) for name, value in seconds.items()}
    return PipelineHistory(runs=1, at=at, phases=phases) if phases else None


def given_history(history: object) -> PipelineHistory:
    """A history to be kept, or the JSON of one.

    Raises:
        ValueError, TypeError: It is none, or larger than any that runs make.
    """
    if isinstance(history, PipelineHistory):
        history = encode_history(history)  # Whoever made it by hand may have put anything into it.
    if not isinstance(history, (str, bytes)):
        raise TypeError(f"a history is a PipelineHistory or its JSON, not {history!r:.200}")
    taken = decode_history(history)
    if len(taken.phases) > PHASES_KEPT:
        raise ValueError(f"a history has at most {PHASES_KEPT} phases, not {len(taken.phases)}")
    return taken
