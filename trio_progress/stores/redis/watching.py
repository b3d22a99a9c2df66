"""Waiting for news in all partitions: one blocking read for each, in one thread.

1. A partition is waited for if this process owns or follows something there, or waits for a session to run; where there
   is but one, it always is. Each read has a connection of its own, and a selector tells which is answered. The others
   are looked at now and then, for it may not be known here that something there is owned.
2. A read stays under way, also from one call to the next, as long as it waits for the same: news in one partition makes
   no work in the others.
3. A thread cannot be cancelled. When other sessions are to be watched, the next call wakes it: by a stream that the
   only read waits for as well, or, of several partitions, by a socket. A read that waits for something else than it
   should is ended by its stream.
4. A partition whose node does not answer is tried again at the next beat. The others go on; where none answers, that is
   raised.
5. `looked_at` is when it last got to the end of a look: a reader who hears nothing can see by it whether there is no
   news, or nobody who looks for it.
"""

from __future__ import annotations

import os
import selectors
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

from ...errors import StoreError
from ..base import Ask, Changes, Pause, Seen, Stored
from .answers import UnansweredError, some_answered
from .partitions import partition_of
from .scripts import once

if TYPE_CHECKING:
    from collections.abc import Callable

    from .calls import RoundTrips
    from .watch import Since, Streams, Watcher

LOOKS_AT_OTHERS: Final = 10
"""Beats between two looks at partitions that this process has nothing to do with, as far as it knows."""

GATHER: Final = 0.01
"""Seconds in which news is gathered after the last that was returned: with many sessions it comes in bunches."""


_UNKNOWN: Final = ""
"""The mark of a partition that has not answered yet."""


class _Part(NamedTuple):
    """A partition, as one call is asked for it."""

    watcher: Watcher
    since: Since
    """Empty until it has answered for the first time."""
    seen: Mapping[str, Seen | None]


class _UnderWay(NamedTuple):
    """A read that waits."""

    streams: Streams
    sent: Any
    until: float
    """When it is answered at the latest, or never."""


@final
class Watching:
    """Waits for news, in one thread at a time.

    Args:
        calls: For short calls.
        waits: For calls that wait for `beat` seconds.
        watchers: One for each partition, in their order, and how much this process owns there.
        beat: Seconds that a read waits.
        timeout: Seconds that its answer may take beyond that.
    """

    def __init__(
        self,
        calls: RoundTrips[Any],
        waits: RoundTrips[Any],
        watchers: Mapping[Watcher, Callable[[], int]],
        beat: float,
        timeout: float,
    ) -> None:
        self._calls = calls
        self._waits = waits
        self._watchers = watchers
        self._beat = beat
        self._timeout = timeout
        self._under_way: dict[Watcher, _UnderWay] = {}
        self._rests_until: dict[Watcher, float] = {}
        """Partitions whose node did not answer."""
        self._process = os.getpid()
        self._alarm = socketpair() if len(watchers) > 1 else None
        """Wakes the thread that waits for several partitions."""
        self._others_at = float("-inf")
        """When the partitions that nothing is known of are to be looked at."""
        self._blocked = 0
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._returned_at = 0.0
        self.looked_at = float("-inf")
        """When it was last known, by `time.monotonic()`, what news there was."""

    def begin(self) -> str:
        """The mark of when this store was first spoken to: nothing that was asked of its owners since then is missed.

        A partition whose node does not answer has none yet. It is begun before anything is claimed there.

        Raises:
            StoreError: No partition has answered.
        """
        marks, _ = self._calls.run_replicated([watcher.begin() for watcher in self._watchers], 0)
        some_answered(marks)
        return ";".join(_UNKNOWN if isinstance(mark, UnansweredError) else mark for mark in marks)

    def listen(self, process: str) -> None:
        """From now on it is told when a process is asked to take."""
        new = False
        for watcher in self._watchers:
            new = new or process not in watcher.taking
            watcher.taking.setdefault(process, "0-0")
        if new:
            self._ring()  # Whoever reads does so by this stream as well.

    def stop_listening(self, process: str) -> None:
        """The process waits no more."""
        for watcher in self._watchers:
            watcher.taking.pop(process, None)

    def close(self) -> None:
        """Nobody waits any more."""
        if self._alarm is not None and self._process == os.getpid():
            with suppress(OSError):
                self._alarm[1].send(b"!")
            with self._turn:
                for each in self._alarm:
                    each.close()

    def changes(self, mark: str, seen: Mapping[str, Seen | None], pause: Pause) -> Changes:
        """See `Store.changes`.

        Raises:
            StoreError: Redis did not answer, or the mark is another store's.
        """
        try:
            parts = self._parts(mark.split(";"), seen)
        except ValueError:
            raise StoreError(f"{mark!r:.200} is no mark of store {self._calls.address}: begin without one") from None
        self._ring()
        with self._lock:
            self._blocked += 1
        sessions: Sequence[Stored] = ()
        gone: Sequence[str] = ()
        asked: Sequence[Ask] = ()
        try:
            # The one before has been woken, or will be within a beat.
            while not self._turn.acquire(timeout=0.05):
                if not pause(0):
                    break
            else:
                try:
                    sessions, gone, asked = self._wait(parts, pause)
                finally:
                    self._turn.release()
        finally:
            with self._lock:
                self._blocked -= 1
        marks = [" ".join(part.since.values()) for part in parts]
        return Changes(";".join(marks), sessions, gone, asked)

    def _parts(self, marks: Sequence[str], seen: Mapping[str, Seen | None]) -> list[_Part]:
        """What is asked for in each partition.

        Raises:
            ValueError: The marks are another store's.
        """
        count = len(self._watchers)
        spread: Sequence[Mapping[str, Seen | None]] = [seen]
        if count > 1:
            by_partition: list[dict[str, Seen | None]] = [{} for _ in range(count)]
            for session, known in seen.items():
                by_partition[partition_of(session, count)][session] = known
            spread = by_partition
        return [
            _Part(watcher, {} if mark == _UNKNOWN and count > 1 else watcher.since(mark), here)
            for watcher, mark, here in zip(self._watchers, marks, spread, strict=True)
        ]

    def _ring(self) -> None:
        with self._lock:
            if not self._blocked:
                return
        if self._alarm is not None:
            with suppress(OSError):  # As many as there are do, or it was closed.
                self._alarm[1].send(b"!")
        else:
            self._wake(list(self._watchers))

    def _wake(self, watchers: Sequence[Watcher]) -> None:
        """Ends reads that are under way; those that cannot be ended now end by themselves."""
        self._calls.run_replicated([watcher.ring() for watcher in watchers], 0)

    def _wait(self, parts: Sequence[_Part], pause: Pause) -> tuple[Sequence[Stored], Sequence[str], Sequence[Ask]]:
        """The sessions that have changed, those that are gone, and what was asked of owners."""
        if self._process != os.getpid():  # What its parent waits for is not its own.
            self._process = os.getpid()
            self._under_way.clear()
            self._alarm = self._alarm and socketpair()
        for part in parts:
            part.watcher.keep(part.seen)
        block = 0.0
        while (rest := self._returned_at + GATHER - time.monotonic()) <= 0 or pause(rest):
            sessions, gone, asked = self._look(parts, block)
            self.looked_at = time.monotonic()
            if sessions or gone or asked:
                self._returned_at = time.monotonic()
                return sessions, gone, asked
            if not pause(0):
                break
            block = self._beat
        return (), (), ()

    def _look(self, parts: Sequence[_Part], block: float) -> tuple[list[Stored], list[str], list[Ask]]:
        """What news there is now, or within so many seconds.

        Raises:
            StoreError: None of the partitions that are read has answered.
        """
        sessions: list[Stored] = []
        gone: list[str] = []
        asked: list[Ask] = []
        errors: list[StoreError] = []
        read = [part for part in parts if self._is_read(part)]
        others: list[_Part] = []
        if len(read) < len(parts) and time.monotonic() >= self._others_at:
            self._others_at = time.monotonic() + LOOKS_AT_OTHERS * self._beat
            others = [part for part in parts if part not in read]
        tried = len(read) + len(others)
        errors += self._begin_late([part for part in (*read, *others) if not part.since])
        read, others = [part for part in read if part.since], [part for part in others if part.since]
        for part, reply in self._read(read, others, block):
            try:
                if isinstance(reply, StoreError):
                    raise reply
                news = part.watcher.take_in(reply, part.since, part.seen)
            except StoreError as error:
                errors.append(error)
                self._rest(part.watcher)
            else:
                sessions += news[0]
                gone += news[1]
                asked += news[2]
                self._rests_until.pop(part.watcher, None)
        if errors and len(errors) >= tried:
            raise errors[0]
        return sessions, gone, asked

    def _begin_late(self, parts: Sequence[_Part]) -> list[StoreError]:
        """Has partitions read from now on that did not answer when the store was opened; what those say that do not."""
        errors: list[StoreError] = []
        due = [part for part in parts if not self._rests(part.watcher)]
        marks, _ = self._calls.run_replicated([part.watcher.begin() for part in due], 0)
        for part, mark in zip(due, marks, strict=True):
            if isinstance(mark, UnansweredError):
                errors.append(mark)
                self._rest(part.watcher)
            else:
                part.since.update(part.watcher.since(mark))
        return errors

    def _rest(self, watcher: Watcher) -> None:
        self._rests_until[watcher] = time.monotonic() + self._beat

    def _rests(self, watcher: Watcher) -> bool:
        return self._rests_until.get(watcher, float("-inf")) > time.monotonic()

    def _is_read(self, part: _Part) -> bool:
        """Whether this process has to do with a partition."""
        watcher = part.watcher
        return len(self._watchers) == 1 or bool(part.seen or watcher.taking or self._watchers[watcher]())

    def _read(self, parts: Sequence[_Part], unknown: Sequence[_Part], block: float) -> list[tuple[_Part, Any]]:
        """What reading the streams of partitions was answered, or the error; waits so long for the first answer.

        Args:
            parts: What is waited for.
            unknown: What is only looked at.
            block: Seconds.
        """
        now = time.monotonic()
        found: list[tuple[_Part, Any]] = []
        at_once = [(part, part.watcher.streams(part.since, part.seen).command(0)) for part in unknown]
        others: list[Watcher] = []
        for part in parts:
            watcher = part.watcher
            if len(self._watchers) > 1 and self._rests(watcher):
                continue
            streams = watcher.streams(part.since, part.seen)
            under_way = self._under_way.get(watcher)
            if under_way is not None:
                if under_way.streams != streams:
                    others.append(watcher)
            elif not block:
                at_once.append((part, streams.command(0)))
            else:
                try:
                    sent = self._waits.send([streams.command(block)])
                    self._under_way[watcher] = _UnderWay(streams, sent, now + block + self._timeout)
                except StoreError as error:
                    found.append((part, error))
        if others:
            self._wake(others)
        if at_once:
            replies, _ = self._calls.run_replicated([once(command) for _, command in at_once], 0)
            found += zip([part for part, _ in at_once], replies, strict=True)
        part_of = {part.watcher: part for part in parts}
        for watcher in self._answered(0 if found else block):
            reply = self._receive(watcher)
            if watcher in part_of:  # Or this process has nothing to do with it any more.
                found.append((part_of[watcher], reply))
        return found

    def _answered(self, block: float) -> set[Watcher]:
        """The partitions whose read is answered, or should be by now; waits so long for the first."""
        if self._alarm is None:
            return set(self._under_way)  # Receiving the only one waits as well.
        found = set()
        with selectors.DefaultSelector() as selector:
            selector.register(self._alarm[0], selectors.EVENT_READ)
            for watcher, under_way in self._under_way.items():
                connected = self._waits.socket_of(under_way.sent)
                if connected is None:
                    found.add(watcher)  # It was closed.
                else:
                    selector.register(connected, selectors.EVENT_READ, watcher)
            for key, _ in selector.select(0 if found else block):
                if key.data is None:
                    self._alarm[0].recv(4096)
                else:
                    found.add(key.data)
        now = time.monotonic()
        return found | {watcher for watcher, under_way in self._under_way.items() if under_way.until <= now}

    def _receive(self, watcher: Watcher) -> Any:
        """What a read was answered, or the error."""
        under_way = self._under_way.pop(watcher)
        try:
            (reply,) = self._waits.receive(under_way.sent, under_way.until)
        except StoreError as error:
            return error
        return reply


def socketpair() -> tuple[socket.socket, socket.socket]:
    """Two sockets, of which the first can be read from once something was sent by the other."""
    pair = socket.socketpair()
    for each in pair:
        each.setblocking(False)
    return pair
