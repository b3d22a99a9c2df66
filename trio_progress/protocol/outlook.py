"""What to show as left some time after it was estimated: it counts down.

An estimate is as of the moment at which its state was published; who shows it later shows it as of then. Nothing is
shown as over that has not ended: what should be over by now is taken to need a quarter of the time since, once more.
The bar does not count: only the owner knows whether the work goes on as it was expected to.
The page does the same in `words.js`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from .snapshot import Head

OVERDUE: Final = 0.25
"""What is overdue is taken to need this part of the time since it should have been over, once more."""

STEADY: Final = 0.8
"""The part of what is left that passes as it was told; what comes after is more and more overdue."""


class Outlook(NamedTuple):
    """What is left of a session."""

    eta: float | None
    """Seconds; None: not known."""
    eta_range: tuple[float, float] | None
    """Between how many seconds the end is, four times of five; None: not known."""


def outlook_at(state: Head, now: float) -> Outlook:
    """What is left of a session as of `now`, by the wall clock of its owner, in seconds since 1970.

    It stands where the session does not run, or its work does not go on.
    """
    eta, between = state.eta, state.eta_range
    if state.status != "running" or state.liveness != "ok" or state.published_at is None or eta is None:
        return Outlook(eta, between)
    passed = now - state.published_at.timestamp()
    if passed <= 0:
        return Outlook(eta, between)
    return Outlook(
        left_after(eta, passed),
        None if between is None else (max(between[0] - passed, 0.0), left_after(between[1], passed)),
    )


def left_after(seconds: float, passed: float) -> float:
    """What is left some seconds after it was said; never nothing, however long ago that was."""
    return max(seconds - passed, OVERDUE * (passed - (1.0 - STEADY) * seconds) if passed > STEADY * seconds else 0.0)
