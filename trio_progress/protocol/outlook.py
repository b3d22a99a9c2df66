"""What to show of an estimate some time after it was made: it counts down, and the bar goes on.

An estimate is as of the moment at which its state was published; who shows it later shows it as of then. Nothing is
shown as over that has not ended: what should be over by now is taken to need a quarter of the time since, once more.
The page does the same in `words.js`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from .snapshot import Head

OVERDUE: Final = 0.25
"""What is overdue is taken to need this part of the time since it should have been over, once more."""

STEADY: Final = 0.8
"""The part of what is left that passes as it was told; what comes after is more and more overdue."""

FULL: Final = 0.9999
"""The most that the bar shows of what has not ended."""


class Outlook(NamedTuple):
    """How far a session is, and what is left of it."""

    progress: float
    """0 to 1."""
    eta: float | None
    """Seconds; None: not known."""
    eta_range: tuple[float, float] | None
    """Between how many seconds the end is, four times of five; None: not known."""


def outlook_at(state: Head, now: float) -> Outlook:
    """The estimate of a state as of `now`, by the wall clock of the session's owner, in seconds since 1970.

    It stands where the session does not run, or its work does not go on.
    """
    as_told = Outlook(state.progress, state.eta, state.eta_range)
    if state.status != "running" or state.liveness != "ok" or state.published_at is None or state.eta is None:
        return as_told
    passed = now - state.published_at.timestamp()
    if passed <= 0:
        return as_told
    told = state.eta_range
    return Outlook(
        _bar(state.progress, state.eta, passed),
        _left(state.eta, passed),
        None if told is None else (max(told[0] - passed, 0.0), _left(told[1], passed)),
    )


def _bar(told: float, eta: float, passed: float) -> float:
    """The bar some time later: as fast as it should to four fifths of what was left, then ever slower."""
    part = passed / eta if eta > 0 else 1.0
    left = 1.0 - part if part < STEADY else (1.0 - STEADY) * STEADY / part
    return max(told, min(1.0 - (1.0 - told) * left, FULL))


def _left(seconds: float, passed: float) -> float:
    return max(seconds - passed, OVERDUE * (passed - (1.0 - STEADY) * seconds) if passed > STEADY * seconds else 0.0)
