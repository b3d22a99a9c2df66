"""The writes of `stores.base` as commands to Redis: each is a few steps, and gives its outcome.

A claim, a renewal, a deletion, and an append that says more than a newer state (the end of a session, other
labels, a write that is repeated) are decided by a script, in one moment. Of larger records what has changed is
sent, see `redis.deltas`. All other appends are plain commands without a transaction:

    XADD s:ID NOMKSTREAM MAXLEN ~ 16 EPOCH-SEQ d RECORD h HEARTBEAT l ""
    XADD e:ID NOMKSTREAM MINID ~ EPOCH-N EPOCH-N n EVENT ...        where there are events
    SET  l:ID:EPOCH HEARTBEAT PX LEASE GET
    HGET m:ID e

The fence is in the ids. A stream takes no entry at or below its newest, and a claim has put one of its own
epoch into both streams; the lease is that epoch's own, which nobody looks at after the next claim, or after
the final append. The hash shows whether the claim itself is still there: Redis may have gone back to before
it (a replica that lagged, a snapshot), or have evicted it. When a stream refuses an entry, what it holds shows
whether it was ours (the answer to an earlier try was lost) or a newer owner's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, final

from redis.exceptions import ResponseError

from ...errors import CorruptEntryError, StoreError
from ..base import (
    ASKS_KEPT,
    ASKS_KEPT_FOR,
    Append,
    Ask,
    Claim,
    Claimed,
    Delete,
    Done,
    Fenced,
    Index,
    Moved,
    Outcome,
    Refused,
    Renew,
    SetHistory,
    Stored,
    Write,
)
from ..decoding import LARGEST_RECORD, CorruptEntries, encode_labels, too_large
from ..taking import Release, Take
from . import deltas
from .deltas import Delta, Deltas
from .histories import history_of, learn_lesson, set_history
from .keys import Keys, SessionKeys, session_keys
from .queue import release, take
from .reads import entry, epoch
from .scripts import APPEND, CLAIM, DELETE, RENEW, SETTLE, WATCHED, Command, Script, Steps

STATES: Final = 16
"""Newest states that are kept of a session, or a few more: Redis drops them by whole blocks."""

WORDS: Final = 10_000
WORD_KEEP: Final = 60.0
"""Words of what is watched that are kept, and seconds for which they are."""

WORD_EVERY: Final = 4.0
"""Seconds in which a session is said to be watched once, however many say so. Trackers renew it every five."""

BURST: Final = 500
"""Events that plain commands take with one append; a script takes more."""

KNOWN: Final = 50_000
"""Sessions whose appends can be plain commands; should there be more, all are learnt anew."""

LIST_AGAIN: Final = 10.0
"""Seconds after which a session that is written is put into the list again, should that have been evicted."""


LAPSE_SHOWN: Final = ("GET",)
"""With what a lease is set: the answer shows whether it had lapsed, and so whether lists are to be put right."""

ALONE: Final = ("l", "")
"""What an entry says that came with its lease and nothing else: who waits for it need not look further."""

_NEWER: Final = ("NOMKSTREAM", "MAXLEN", "~", STATES)
"""Of a stream that is there; what is dropped is whole blocks, and so cheap."""


@dataclass(slots=True)
class _Own:
    """What this process knows to have written last of a session that it owns."""

    epoch: int
    seq: int
    index: Index
    keys: SessionKeys
    refresh: float
    """When the expiry of its keys is to be set anew."""
    lease: float
    """Seconds that its lease stands, at least: the index reckons with that."""
    listed: float = field(default_factory=time.monotonic)
    """When it was put into the list."""


@final
class Writer:
    """Makes steps of writes. Used by one thread at a time.

    Args:
        is_watched: Whether somebody watches a session, as far as that is known.
    """

    def __init__(
        self, keys: Keys, event_limit: int, corrupt: CorruptEntries, is_watched: Callable[[str], bool]
    ) -> None:
        self._keys = keys
        self._event_limit = event_limit
        self._corrupt = corrupt
        self._own: dict[str, _Own] = {}
        self.owned: Final = self._own.__len__  # How many sessions this process is known to have open here.
        self._deltas = Deltas(is_watched)

    def steps(self, writes: Sequence[Write]) -> Steps[list[Outcome]]:
        """Makes the writes of one session, in order, with an outcome for each."""
        outcomes: list[Outcome] = []
        for write in writes:
            outcome: Outcome
            try:
                match write:
                    case Append() | Claim() if len(write.record) > LARGEST_RECORD or any(
                        len(data) > LARGEST_RECORD for _, data in write.events
                    ):
                        outcome = too_large(write.id)
                    case Append():
                        outcome = yield from self._append(write)
                    case Renew():
                        outcome = yield from self._renew(write)
                    case Claim():
                        outcome = yield from self._claim(write)
                    case Delete():
                        outcome = yield from self._delete(write)
                    case Ask():
                        outcome = yield from self._ask(write)
                    case Take():
                        outcome = yield from take(self._keys.base, write)
                    case Release():
                        outcome = yield from release(self._keys.base, write)
                    case SetHistory():
                        outcome = yield from set_history(self._keys, write)
            except (CorruptEntryError, ResponseError, UnicodeEncodeError) as error:
                self._forget(write.id)
                outcome = StoreError(f"the store cannot take what was written to session {write.id!r}: {error}")
            outcomes.append(outcome)
        return outcomes

    # Appending

    def _append(self, append: Append) -> Steps[Outcome]:
        own = self._own.get(append.id)
        if (
            own is None
            or append.lease is None
            or append.lesson is not None
            or own.epoch != append.key.epoch
            or own.seq >= append.key.seq
            or own.index != append.index
            or own.lease > append.lease
            or len(append.events) > BURST
        ):
            return (yield from self._append_by_script(append))
        session, (at, seq) = append.id, append.key
        keys, beat, lease = own.keys, repr(append.heartbeat), _ms(append.lease)
        keep = _ms(max(append.keep * 1.25, append.lease))
        now = time.monotonic()
        due = now >= own.refresh
        if due:
            own.refresh = now + append.keep / 4
        list_again = now >= own.listed + LIST_AGAIN
        if list_again:
            own.listed = now
        delta = None
        if len(append.record) >= deltas.WATCHED_IN_PARTS_FROM:
            delta = self._deltas.delta(
                append,
                keys.stream,
                event_limit=self._event_limit,
                lease=lease,
                keep=keep,
                due=due,
                listed=own.index.queued_at if list_again else None,
            )
        if delta is not None:
            return (yield from self._append_parts(append, own, delta))
        key = f"{at}-{seq}"
        commands: list[Command] = [
            ("XADD", keys.stream, *_NEWER, key, "d", append.record, "h", beat, *(() if append.events else ALONE)),
            ("SET", f"{keys.leases}{at}", beat, "PX", lease, *LAPSE_SHOWN),
        ]
        if append.events:
            last = append.events[-1][0]
            least = max(last - self._event_limit, 0)
            pairs: list[Any] = [each for n, data in append.events for each in (n, data)]
            commands.append(("XADD", keys.events, "NOMKSTREAM", "MINID", "~", f"{at}-{least}", f"{at}-{last}", *pairs))
        if due:
            commands += [("PEXPIRE", name, keep) for name in keys[:3]]
        if list_again:
            commands.append(("ZADD", self._keys.index, "NX", repr(float(own.index.queued_at)), session))
        commands.append(("HGET", keys.meta, "e"))
        replies = yield commands
        taken, claimed = isinstance(replies[0], bytes), replies[-1] == str(at).encode()
        leased = not isinstance(replies[1], ResponseError)
        if taken and claimed and leased and (not append.events or isinstance(replies[2], bytes)):
            own.seq = seq
            evicted = list_again and replies[-2] == 1
            if replies[1] is None or evicted:  # Its lease had lapsed: it stands elsewhere by now.
                yield [(SETTLE, 0, self._keys.base, session, int(evicted))]
            return Done()
        for reply in replies if leased else ():
            # A stream that refuses an entry at or below its newest says so.
            if isinstance(reply, ResponseError) and "equal or smaller" not in str(reply):
                raise reply
        # Refused, or something is gone: a script sees what there is, and writes what is missing.
        outcome = yield from self._append_by_script(append)
        if isinstance(outcome, Fenced) and not (taken and (outcome.by is None or outcome.by < at)):
            # What was set above belongs to nobody, unless only the claim is gone: its owner makes it again.
            yield [("DEL", f"{keys.leases}{at}")]
        return outcome

    def _append_parts(self, append: Append, own: _Own, delta: Delta) -> Steps[Outcome]:
        (reply,) = yield [delta.command]
        match reply:
            case [b"done", int(lapsed), int(evicted)]:
                own.seq = append.key.seq
                self._deltas.acknowledge(append, delta.parts)
                if lapsed or evicted:  # It stands elsewhere by now.
                    yield [(SETTLE, 0, self._keys.base, append.id, evicted)]
                return Done()
        return (yield from self._append_by_script(append))

    def _append_by_script(self, append: Append) -> Steps[Outcome]:
        session, (at, seq) = append.id, append.key
        keys = session_keys(self._keys.base, session)
        arguments: list[Any] = [
            session,
            at,
            seq,
            append.record,
            repr(append.heartbeat),
            "" if append.lease is None else _ms(append.lease),
            _ms(max(append.keep, append.lease or 0.0)),
            *_listed(append.index),
            STATES,
            self._event_limit,
        ]
        for n, data in append.events[-self._event_limit :]:
            arguments += (n, data)
        names = [*keys[:3], self._keys.index, f"{keys.leases}{at}", keys.parts]
        outcome = _outcome((yield from _decided(APPEND, names, arguments)))
        if isinstance(outcome, Done):
            if outcome.found and append.lesson is not None:  # It was not there before.
                yield from learn_lesson(self._keys, self._corrupt, append.index.pipeline, append.lesson)
            outcome = Done()
        if isinstance(outcome, Done) and append.lease is not None:
            self._deltas.forget(session)
            self._learn(session, at, seq, append.index, append.keep, append.lease)
        else:
            self._forget(session)
        return outcome

    def _forget(self, session: str) -> None:
        self._own.pop(session, None)
        self._deltas.forget(session)

    def _learn(self, session: str, at: int, seq: int, index: Index, keep: float, lease: float) -> None:
        if len(self._own) >= KNOWN:
            self._own.clear()
        refresh = time.monotonic() + keep / 4
        self._own[session] = _Own(at, seq, index, session_keys(self._keys.base, session), refresh, lease)

    # The others

    def _renew(self, renew: Renew) -> Steps[Outcome]:
        keys = session_keys(self._keys.base, renew.id)
        names = [*keys[:3], f"{keys.leases}{renew.epoch}", self._keys.index, keys.parts]
        arguments = [renew.epoch, _ms(renew.lease), repr(renew.heartbeat), renew.id]
        outcome = _outcome((yield from _decided(RENEW, names, arguments)))
        if not isinstance(outcome, Done):
            self._forget(renew.id)
        return outcome

    def _claim(self, claim: Claim) -> Steps[Outcome]:
        session, index = claim.id, claim.index
        attempts = "" if claim.attempts is None else str(claim.attempts)
        keys = session_keys(self._keys.base, session)
        arguments: list[Any] = [
            keys.leases,
            session,
            claim.owner,
            claim.proposal,
            claim.seq,
            claim.record,
            "" if claim.lease is None else _ms(claim.lease),
            _ms(max(claim.keep, claim.lease or 0.0)),
            "" if claim.expect is None else f"{claim.expect.epoch}-{claim.expect.seq}",
            *_listed(index),
            self._event_limit,
            "p" * claim.past_lease + "q" * claim.keep_queued_at + "l" * claim.keep_labels + attempts,
        ]
        for n, data in claim.events[-self._event_limit :]:
            arguments += (n, data)
        history = self._keys.history(index.pipeline)
        usual = self._keys.durations(index.pipeline)
        names = [*keys[:3], self._keys.index, usual, keys.ahead, keys.word, history, keys.parts]
        self._forget(session)
        reply = yield from _decided(CLAIM, names, arguments)
        match reply:
            case [b"again" | b"claimed" as how, at, took, identity, state, texts, beat]:
                number = epoch(at)
                if how == b"claimed" and claim.lease is not None:
                    self._learn(session, number, claim.seq, index, claim.keep, claim.lease)
                previous = None if identity is None else self._previous(session, identity, state, texts, beat)
                return Claimed(
                    number, previous, (yield from history_of(self._keys, self._corrupt, index.pipeline, took))
                )
        return _outcome(reply)

    def _previous(self, session: str, *found: object) -> Stored | None:
        """What a claim has replaced: an entry, its parts, and the last heartbeat that was renewed after it."""
        try:
            state, beat = entry(*found)
            return Stored(session, state.key, state.record, False, beat)
        except CorruptEntryError as error:
            self._corrupt.pass_over(session, error)
            return None

    def _delete(self, delete: Delete) -> Steps[Outcome]:
        keys = session_keys(self._keys.base, delete.id)
        self._forget(delete.id)
        names = [*keys[:3], self._keys.index, keys.word, keys.parts]
        return _outcome((yield from _decided(DELETE, names, [keys.leases, delete.id])))

    def _ask(self, ask: Ask) -> Steps[Outcome]:
        keys = self._keys
        if ask.what == "watch" and ask.reason is None:
            names = [session_keys(keys.base, ask.id).word, keys.words]
            return _outcome((yield from _decided(WATCHED, names, [ask.id, _ms(WORD_EVERY), WORDS, _ms(WORD_KEEP)])))
        reason = () if ask.reason is None else ("r", ask.reason)
        replies = yield [
            ("XADD", keys.asks, "MAXLEN", "~", ASKS_KEPT, "*", "i", ask.id, "a", ask.what, *reason),
            ("PEXPIRE", keys.asks, _ms(ASKS_KEPT_FOR)),
        ]
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise reply
        return Done()


def _listed(index: Index) -> Sequence[Any]:
    return index.status, index.pipeline or "", encode_labels(index.labels), repr(float(index.queued_at))


def _ms(seconds: float) -> int:
    """Whole milliseconds, at least one: Redis takes no expiry of none."""
    return max(math.ceil(min(seconds, 1e11) * 1000), 1)


def _decided(script: Script, keys: Sequence[str], arguments: Sequence[Any]) -> Steps[Any]:
    """Runs a script, and gives its reply.

    Raises:
        ResponseError: It has failed.
    """
    (reply,) = yield [(script, len(keys), *keys, *arguments)]
    if isinstance(reply, ResponseError):
        raise reply
    return reply


def _outcome(reply: Any) -> Outcome:
    """What a script's reply says.

    Raises:
        CorruptEntryError: It says nothing that is known.
    """
    match reply:
        case [b"done"]:
            return Done()
        case [b"done", int(found)]:
            return Done(found=found > 0)
        case [b"fenced", newer]:
            return Fenced(epoch(newer))
        case [b"gone"]:
            return Fenced(None)
        case [b"refused"]:
            return Refused()
        case [b"moved"]:
            return Moved()
    raise CorruptEntryError(f"Redis answered {reply!r:.100}")
