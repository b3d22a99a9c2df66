"""Fields: JSON values by name, of a session or a phase."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import checks

if TYPE_CHECKING:
    from .limits import Limits


def checked_fields(fields: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """The fields that are to be set, each of which is one that can be."""
    return {
        checks.name("a field's name", key, limits): checks.data(
            f"field {key!r}", value, limits.value_bytes, "value_bytes"
        )
        for key, value in fields.items()
    }


def merged_fields(old: dict[str, Any], new: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """The fields after setting `new`; a new dict, so that snapshots which hold the old one stay as they are."""
    merged = {**old, **new}
    if len(merged) > limits.fields:
        raise ValueError(f"at most {limits.fields} fields are kept (limit 'fields'), this would make {len(merged)}")
    return merged


def copied(value: Any) -> Any:
    """A copy of JSON data: whoever is given it may change it, and nothing that is kept changes."""
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [copied(item) for item in value]
    return value
