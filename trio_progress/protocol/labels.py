"""Labels, and the one question that is asked of them."""

from __future__ import annotations

from collections.abc import Mapping


def has_labels(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Whether all of the wanted labels are among these, with the same values; where none is wanted, they are."""
    return all(labels.get(name) == value for name, value in wanted.items())
