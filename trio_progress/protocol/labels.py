"""Labels, and the one question that is asked of them.

Sessions are listed by their labels, and by the session that they are a part of: that stands among the labels they are
listed by, under `PARENT`, a name that nobody can give to a label of their own. So stores index it as they do labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

PARENT: Final = ""


def listed_labels(labels: Mapping[str, str], parent: str | None) -> Mapping[str, str]:
    """What a session with these labels is listed by, or what a list asks for; None: it is a part of no other one."""
    return labels if parent is None else {**labels, PARENT: parent}


def has_labels(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Whether all of the wanted labels are among these, with the same values; where none is wanted, they are."""
    return all(labels.get(name) == value for name, value in wanted.items())
