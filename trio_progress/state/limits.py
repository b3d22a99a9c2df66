"""The bounds, each with a name: nothing that a session holds grows without one."""

from __future__ import annotations

from dataclasses import dataclass, fields

from . import quantities

MAX_UNITS = quantities.MAX_UNITS

MAX_JSON_DEPTH = 32
"""How deeply data given by the user may nest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one session may hold.

    What passes a bound is refused with an error that names it, except where said otherwise.

    Args:
        phases: Phases in the tree at once. When full, the oldest finished phase that no pipeline
            declares folds into its parent; only where none has finished is a new one refused.
        depth: How deeply phases nest.
        counters: Counters of a session.
        fields: Fields of a session, and of each phase.
        labels: Labels of a session.
        text: Characters of a title, unit or name.
        message: Characters of a message or reason; what is longer is cut and ends in an ellipsis.
        value_bytes: One field, or the data of one event, as JSON.
        saved_bytes: What `session.save()` keeps, as JSON.
        result_bytes: What `session.set_result()` keeps, as JSON.
    """

    phases: int = 1000
    depth: int = 8
    counters: int = 100
    fields: int = 100
    labels: int = 32
    text: int = 200
    message: int = 500
    value_bytes: int = 16 * 1024
    saved_bytes: int = 1024 * 1024
    result_bytes: int = 1024 * 1024

    def __post_init__(self) -> None:
        for field in fields(self):
            value = quantities.whole(f"limit {field.name!r}", getattr(self, field.name))
            object.__setattr__(self, field.name, value)  # As a plain int, whatever came.
