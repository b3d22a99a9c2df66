"""Reading sessions from Redis: what one call finds of a session is of one moment, for a script reads it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, final

import msgspec
from redis.exceptions import ResponseError

from ...errors import StoreError
from ..base import Page, Query, Stored
from .calls import Calls, Steps, evaluated
from .keys import Keys
from .rows import Event, Found, PoisonedError, decode_id, encode_labels, found, shown
from .scripts import LIST, READ

LOOKED_AT: Final = 500
"""Sessions that one look at the list goes through; Redis does nothing else meanwhile, for well below 10 ms."""


@final
class Reads:
    """Reads by blocking calls. Safe to be used by several threads.

    Args:
        event_limit: Events of a session that are read; the newest.
        pass_over: Told of what cannot be read: its session, and why.
    """

    def __init__(self, calls: Calls, keys: Keys, event_limit: int, pass_over: Callable[[str, str], None]) -> None:
        self._calls = calls
        self._keys = keys
        self._event_limit = event_limit
        self._pass_over = pass_over

    def one(self, session: str) -> Stored | None:
        """The newest entry of a session, with its events.

        Raises:
            PoisonedError: It cannot be read.
            StoreError: Redis did not answer.
        """
        (reply,) = self._calls.run([self.steps(session)])
        if isinstance(reply, PoisonedError):
            raise reply
        return None if reply is None else reply.stored(session)

    def steps(
        self, session: str, *, events: bool = True, known: tuple[int, Sequence[Event]] | None = None
    ) -> Steps[Found | PoisonedError | None]:
        """Reads one session.

        Args:
            session: Its id.
            events: Whether to read its events as well.
            known: An epoch, and the events of it that were read before, which are not read again.
        """
        before = known[1] if known is not None else ()
        try:
            reply = yield from self._read(session, before[-1][0] if before else 0, events=events)
            if before and known is not None and isinstance(reply, list) and reply[:1] != [str(known[0]).encode()]:
                before = ()
                reply = yield from self._read(session, 0, events=events)
            said = found(reply, before)
        except PoisonedError as error:
            return error
        if said is None:
            return None
        result, wrong = said
        if wrong is not None:
            self._pass_over(session, wrong)
        return result._replace(events=result.events[-self._event_limit :])

    def _read(self, session: str, after: int, *, events: bool) -> Steps[Any]:
        keys = self._keys
        names = [keys.stream(session), keys.meta(session), keys.events(session)]
        limit = self._event_limit if events else 0
        return (yield from evaluated(READ, names, [keys.leases(session), limit, after]))

    def page(self, query: Query) -> Page:
        """The newest entries of the sessions that `query` names; what cannot be read is left out.

        Raises:
            ValueError: `query.after` is not the `next` of a page.
            StoreError: Redis did not answer.
        """
        score, last = ("", "") if query.after is None else _place(query.after)
        sessions: list[Stored] = []
        while True:
            ended, score, last, ids = self._look(query, score, last, query.limit - len(sessions))
            sessions += self._read_all(ids, query)
            if ended:
                return Page(sessions, None)
            if len(sessions) >= query.limit:
                return Page(sessions, f"{float(score).hex()} {last}")

    def _look(self, query: Query, score: str, last: str, wanted: int) -> tuple[bool, str, str, list[str]]:
        """One part of the list: whether it is the last one, where it ends, and the sessions that fit."""
        statuses = [] if query.status is None else sorted(query.status)
        labels = [encode_labels({name: value})[1:-1] for name, value in query.labels.items()]
        arguments = [self._keys.base, score, last, LOOKED_AT, wanted, int(query.lapsed)]
        arguments += [-1 if query.status is None else len(statuses), *statuses, *labels]
        (reply,) = self._calls.run([evaluated(LIST, [self._keys.index], arguments)])
        if isinstance(reply, ResponseError) or not isinstance(reply, list) or len(reply) != 4:
            raise StoreError(f"store {self._calls.address}: its list of sessions cannot be read: {reply!r:.200}")
        ids: list[str] = []
        for each in reply[3]:
            try:
                ids.append(decode_id(each))
            except PoisonedError as error:
                self._pass_over(shown(each), str(error))
        return reply[0] == 1, reply[1].decode(), reply[2].decode("utf-8", "surrogateescape"), ids

    def _read_all(self, ids: Sequence[str], query: Query) -> list[Stored]:
        sessions: list[Stored] = []
        replies = self._calls.run([self._steps_listed(session, query) for session in ids])
        for session, reply in zip(ids, replies, strict=True):
            if isinstance(reply, PoisonedError):
                self._pass_over(session, str(reply))
            elif reply is not None:
                sessions.append(reply.stored(session))
        return sessions

    def _steps_listed(self, session: str, query: Query) -> Steps[Found | PoisonedError | None]:
        """Reads one session, if it has the labels: what was found has them somewhere in the text of its labels."""
        if query.labels:
            (reply,) = yield [("HGET", self._keys.meta(session), "l")]
            try:
                has = msgspec.json.decode(reply, type=dict[str, str])
            except (msgspec.MsgspecError, TypeError, UnicodeError):
                return PoisonedError(f"its labels are {reply!r:.100}")
            if any(has.get(label) != value for label, value in query.labels.items()):
                return None
        return (yield from self.steps(session, events=False))


def _place(cursor: str) -> tuple[str, str]:
    stamp, _, session = cursor.partition(" ")
    try:
        seconds = float.fromhex(stamp)
        if not session or not math.isfinite(seconds):
            raise ValueError
    except (ValueError, OverflowError):
        raise ValueError(f"{cursor!r:.200} is not the cursor of a page") from None
    return repr(seconds), session
