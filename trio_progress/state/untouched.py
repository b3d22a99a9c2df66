"""The phases of a pipeline as they are in a session that has not touched them: the same nodes for all of its sessions.

They are never changed; `PhaseTree.own()` puts the session's own in the place of one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from .phase import PhaseNode

if TYPE_CHECKING:
    from .pipeline import Pipeline

_PIPELINES: Final = 64
"""Pipelines whose untouched phases are kept; who makes a pipeline for each session gains nothing by it."""


class Untouched(NamedTuple):
    """The phases of a pipeline."""

    pipeline: Pipeline
    pending: dict[str, PhaseNode]
    skipped: dict[str, PhaseNode]
    """The same in a session that has completed."""


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
        known = _untouched[id(pipeline)] = Untouched(pipeline, pending, skipped)
    return known
