"""A page of sessions, and what one may be asked for by."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import index
from typing import Final, SupportsIndex, final, get_args, overload

from .snapshot import SessionStatus, Snapshot

LONGEST_PAGE: Final = 1000
STATUSES: Final[frozenset[str]] = frozenset(get_args(SessionStatus))


@final
@dataclass(frozen=True, slots=True)
class SessionPage(Sequence[Snapshot]):
    """Sessions, newest first; a sequence of snapshots, with what leads to the next page."""

    sessions: tuple[Snapshot, ...]
    cursor: str | None
    """What `tracker.sessions(cursor=...)` goes on from; None: there are no more."""

    @overload
    def __getitem__(self, index: int) -> Snapshot: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Snapshot, ...]: ...
    def __getitem__(self, index: int | slice) -> Snapshot | tuple[Snapshot, ...]:
        return self.sessions[index]

    def __len__(self) -> int:
        return len(self.sessions)

    def __iter__(self) -> Iterator[Snapshot]:
        return iter(self.sessions)

    def _repr_html_(self) -> str:
        """What a notebook shows of it."""
        drawn: str = importlib.import_module("trio_progress.terminal.html").sessions_html(
            self.sessions, time.time(), more=self.cursor is not None
        )
        return drawn


def check_page(status: object, limit: SupportsIndex, cursor: str | None) -> int:
    """Checks what a page is asked for by, and returns the limit as a plain int.

    Raises:
        ValueError, TypeError: A value is out of range.
    """
    if status is not None and not (isinstance(status, str) and status in STATUSES):
        raise ValueError(f"status must be one of {', '.join(sorted(STATUSES))}, or None for all, not {status!r:.200}")
    try:
        plain = 0 if isinstance(limit, bool) else int(index(limit))
    except TypeError:
        plain = 0
    if not 1 <= plain <= LONGEST_PAGE:
        raise ValueError(f"limit must be a whole number from 1 to {LONGEST_PAGE}, not {limit!r:.200}")
    if cursor is not None and not isinstance(cursor, str):
        raise TypeError(f"cursor must be the `cursor` of a page, not {cursor!r:.200}")
    return plain
