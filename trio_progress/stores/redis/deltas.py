"""Appends that send what has changed since the last one that was acknowledged.

A state is kept in parts (see `redis.parts`) in a hash beside the stream of its session. One script sees that the claim
still stands and that both hold the state that the new one goes from; then it sets the parts that are new, and adds them
as an entry to the stream:

    f SEQ h HEARTBEAT [n LAST-EVENT] NAME TEXT ... NAME '' (it is gone) ... @NAME '' (large: it is in the hash) ...

With an empty `f` all parts were set, and the entry has none of them. Where anything is otherwise than expected the
script changes nothing, and the append is made as a whole one. An answer that did not come leaves open which parts are
there, so all are sent with the next.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, final

from ..base import Append, Key
from .parts import Parts, split
from .scripts import APPEND_PARTS, Command

IN_PARTS_FROM: Final = 16 * 1024
WATCHED_IN_PARTS_FROM: Final = 2048
"""Bytes of a record from which on it is kept in parts: always, and while somebody watches. A script takes Redis longer
than the commands that store some 20 KB, and of a small record most changes with each state."""

ENTRY_PARTS: Final = 1000
"""Parts in one entry; where more have changed, those who watch read all."""

KEPT_BYTES: Final = 64 * 1024 * 1024
"""Of the states that are kept in mind here; should there be more, all are sent anew."""


class Delta(NamedTuple):
    """An append in parts."""

    command: Command
    parts: Parts


@final
class Deltas:
    """What this process knows to be in Redis of the sessions that it owns. Used by one thread at a time.

    Args:
        is_watched: Whether somebody watches a session, as far as that is known.
    """

    def __init__(self, is_watched: Callable[[str], bool]) -> None:
        self._is_watched = is_watched
        self._known: dict[str, tuple[Key, Parts, int]] = {}
        self._bytes = 0

    def delta(
        self,
        append: Append,
        stream: str,
        *,
        event_limit: int,
        lease: int,
        keep: int,
        due: bool,
        listed: float | None,
    ) -> Delta | None:
        """An append in parts; None: it is made whole. Until `acknowledge()` says so, it is not known what is there.

        Args:
            append: An append with a lease, to a session that this process owns; of `WATCHED_IN_PARTS_FROM` or more.
            stream: The key of the session's states.
            event_limit: Events that are kept.
            lease: Milliseconds for which its lease stands.
            keep: Milliseconds for which the session is kept.
            due: Whether `keep` is to begin anew.
            listed: What it is put into the list by, if it is to be.
        """
        if len(append.record) < IN_PARTS_FROM and not self._is_watched(append.id):
            return None
        at, before = self.forget(append.id)
        parts = split(append.record, before)
        if parts is None:
            return None
        since, changed = "", {} if before is None else parts.changed_from(before.texts)
        if at is not None and len(changed) <= ENTRY_PARTS:
            since = str(at.seq)
        else:
            changed = dict(parts.texts)
        arguments: list[Any] = [
            append.id,
            append.key.epoch,
            append.key.seq,
            since,
            repr(append.heartbeat),
            lease,
            keep if due or not since else "",
            "" if listed is None else repr(float(listed)),
            2 * len(append.events),
        ]
        if append.events:
            last = append.events[-1][0]
            arguments += (max(last - event_limit, 0), last)
        for n, data in append.events:
            arguments += (n, data)
        for name, text in changed.items():
            arguments += (name, text)
        return Delta((APPEND_PARTS, 1, stream, *arguments), parts)

    def forget(self, session: str) -> tuple[Key | None, Parts | None]:
        """What is there is no longer known; until now it was this state, in these parts."""
        at, parts, size = self._known.pop(session, (None, None, 0))
        self._bytes -= size
        return at, parts

    def acknowledge(self, append: Append, parts: Parts) -> None:
        """Redis has this state."""
        size = 2 * len(append.record)  # The texts, and those of the phases with all that is below them.
        if self._bytes + size > KEPT_BYTES:
            self._known.clear()
            self._bytes = 0
        self._known[append.id] = (append.key, parts, size)
        self._bytes += size
