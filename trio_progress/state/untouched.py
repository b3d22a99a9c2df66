"""The phases of a pipeline as they are in a session that has not touched them: the same nodes for all of its sessions.

They are never changed; `PhaseTree.own()` puts the session's own in the place of one.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from ..protocol.snapshot import Expected, PhaseSnapshot
from .phase import PhaseNode

if TYPE_CHECKING:
    from .pipeline import Pipeline
    from .usual import Usual

_PIPELINES: Final = 64
"""Pipelines whose untouched phases are kept; who makes a pipeline for each session gains nothing by it."""


class Untouched(NamedTuple):
    """The phases of a pipeline."""

    pipeline: Pipeline
    pending: dict[str, PhaseNode]
    skipped: dict[str, PhaseNode]
    """The same in a session that has completed."""
    shown: tuple[PhaseSnapshot, ...]
    """What is published of the pending ones, where nothing is expected of any."""


_untouched: Final[dict[int, Untouched]] = {}
"""By the id of the pipeline."""


def untouched_phases(pipeline: Pipeline) -> Untouched:
    """Those of the pipeline; made once for it."""
    known = _untouched.get(id(pipeline))
    if known is None:
        # It does not change, and so asks nothing of its tree.
        root = PhaseNode(None, None, "", "", shared=True)  # type: ignore[arg-type]
        pending, skipped = (
            {
                spec.name: PhaseNode(
                    root.state,
                    root,
                    spec.name,
                    spec.shown_title,
                    weight=spec.weight / pipeline.weight,
                    unit=spec.unit,
                    total=spec.total,
                    stall_after=spec.stall_after,
                    declared=True,
                    shared=True,
                )
                for spec in pipeline.phases
            }
            for _ in range(2)
        )
        for node in skipped.values():
            node.status, node.fraction, node.free = "skipped", 1.0, 1.0
        if len(_untouched) >= _PIPELINES:
            _untouched.clear()
        shown = tuple([pending_phase(node, None) for node in pending.values()])
        known = _untouched[id(pipeline)] = Untouched(pipeline, pending, skipped, shown)
    return known


def pending_phase(node: PhaseNode, usual: Usual | None) -> PhaseSnapshot:
    """What is published of a declared phase that was never begun, and of which this is expected."""
    expected = None if usual is None else usual.told(node.total)
    return _pending(node.name, node.title, node.weight, node.unit, node.total, expected)


@lru_cache(maxsize=4096, typed=True)
def _pending(
    name: str, title: str, weight: float, unit: str | None, total: float | None, expected: Expected | None
) -> PhaseSnapshot:
    """A declared phase that was never begun: all sessions of its pipeline share one."""
    return PhaseSnapshot(
        name=name,
        title=title,
        status="pending",
        attempt=0,
        done=0,
        total=total,
        unit=unit,
        weight=weight,
        fraction=0.0,
        rate=None,
        eta=None,
        message=None,
        fields={},
        started_at=None,
        ended_at=None,
        expected=expected,
    )
