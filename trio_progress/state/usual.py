"""What is expected of each phase of a pipeline before it begins, from what earlier runs have taught."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from ..protocol.snapshot import Expected
from .history import KNOTS, LEAST

if TYPE_CHECKING:
    from .history import PhaseHistory, PipelineHistory

GROWS: Final = 0.1
"""Totals that usually grow by more than this (its logarithm) are expected to come to the usual count."""


class Usual(NamedTuple):
    """What is expected of one phase before it begins."""

    seconds: float
    source: Literal["usual", "given", "weight"]
    waiting: float
    """What it adds to the rest while it waits, where the run goes as usual."""
    alone: float
    """The share of its time in which it runs alone."""
    history: PhaseHistory | None

    def expected(self, total: float | None) -> tuple[float, float | None]:
        """How long it takes with that total, and the count that this is for; None where that is not known."""
        history = self.history
        if history is None or not total or not history.unit_seconds:
            return self.seconds, None
        if history.growth > GROWS and history.count is not None:
            total = max(total, history.count)
        return history.unit_seconds * total, total

    def told(self, total: float | None) -> Expected:
        """The same as it is told, and from what it is known."""
        seconds, count = self.expected(total)
        runs = 0 if self.history is None else self.history.runs
        if count is None or self.history is None:
            return Expected(seconds=round(seconds, 3), source=self.source, runs=runs)
        unit = self.history.unit_seconds
        return Expected(seconds=round(seconds, 3), source="unit", runs=runs, unit_seconds=unit, count=count)


_KEPT: Final = 64
"""Results that are kept: sessions of one pipeline that begin before one of them has ended expect the same."""

_found: Final[dict[tuple[object, ...], tuple[PipelineHistory | None, dict[str, Usual]]]] = {}
"""By the id of the history, which is kept with what was found, and what else was given."""


def usual_of(
    history: PipelineHistory | None, weights: Mapping[str, float], given: Mapping[str, float]
) -> dict[str, Usual]:
    """What is expected of each phase of a pipeline; empty where nothing is known of any. It is not to be changed."""
    if not weights:
        return {}
    key = (id(history), *weights.items(), None, *given.items())
    found = _found.get(key)
    if found is None:
        if len(_found) >= _KEPT:
            _found.clear()
        found = _found[key] = history, _usual_of(history, weights, given)
    return found[1]


def _usual_of(
    history: PipelineHistory | None, weights: Mapping[str, float], given: Mapping[str, float]
) -> dict[str, Usual]:
    known = {} if history is None else history.phases
    found: dict[str, Usual] = {}
    for name in weights:
        phase = known.get(name)
        if phase is not None:
            seconds = phase.seconds
            found[name] = Usual(seconds, "usual", seconds * phase.alone * phase.worked, phase.alone, phase)
        elif name in given:
            seconds = max(given[name], LEAST)
            found[name] = Usual(seconds, "given", seconds, 1.0, None)
    unknown = {name: weight for name, weight in weights.items() if name not in found}
    if not found or not unknown:
        return found
    gone = [] if history is None else [p for n, p in known.items() if n not in weights and p.at == history.at]
    if gone:
        seconds, weight = sum(phase.seconds for phase in gone), sum(unknown.values())
    else:
        seconds = sum(usual.seconds for usual in found.values())
        weight = sum(weights[name] for name in found)
    for name, own in unknown.items():
        part = max(seconds * own / weight if weight > 0 else seconds / len(weights), LEAST)
        found[name] = Usual(part, "weight", part, 1.0, None)
    return {name: found[name] for name in weights}


def usual_by_name(history: PipelineHistory | None) -> dict[str, Usual]:
    """The same where nobody declares which phases there are; what one run had and the next had not is not expected."""
    known = {} if history is None else history.phases
    return {
        name: Usual(phase.seconds, "usual", phase.seconds * phase.alone * phase.worked, phase.alone, phase)
        for name, phase in known.items()
        if phase.runs > 1 or phase.reached == 1
    }


def passed_part(profile: tuple[float, ...], fraction: float) -> float:
    """The part of a phase's time that has passed when its count has come to `fraction`."""
    below, part = 0.0, 0.0
    for knot, passed in zip(KNOTS, profile, strict=True):
        if fraction <= knot:
            return part + (passed - part) * (fraction - below) / (knot - below)
        below, part = knot, passed
    return part
