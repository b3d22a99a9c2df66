"""A page of sessions, and what one may be asked for by."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, final, get_args, overload

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


def check_page(status: str | None, limit: int, cursor: str | None) -> None:
    """Checks what a page is asked for by.

    Raises:
        ValueError, TypeError: A value is out of range.
    """
    if status is not None and status not in STATUSES:
        raise ValueError(f"status must be one of {', '.join(sorted(STATUSES))}, not {status!r:.200}")
    if type(limit) is not int or not 1 <= limit <= LONGEST_PAGE:
        raise ValueError(f"limit must be a whole number from 1 to {LONGEST_PAGE}, not {limit!r:.200}")
    if cursor is not None and not isinstance(cursor, str):
        raise TypeError(f"cursor must be the `cursor` of a page, not {cursor!r:.200}")
