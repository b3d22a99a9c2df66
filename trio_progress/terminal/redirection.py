"""Lines that others write to the terminal while something is drawn there.

`print()` finds the stream that replaces the terminal's; a log handler that was made before has the terminal's own, and
its lines would be drawn over.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import IO, Any, Final, final

UNBROKEN: Final = 8192
"""Characters of a line without end that are kept back."""


@final
class AboveDisplay:
    """Replaces a stream of the terminal: text that is written to it becomes lines above the display. Never waits.

    `put` takes whole lines. After `end()`, and in a forked process, it writes to the stream itself.
    """

    never_waits = True

    def __init__(self, own: IO[str], put: Callable[[str], None]) -> None:
        self._own = own
        self._put: Callable[[str], None] | None = put
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._begun: list[str] = []
        self._length = 0

    def _stands_in(self) -> bool:
        return self._put is not None and os.getpid() == self._process

    def write(self, text: str) -> int:
        """Puts whole lines, and keeps the beginning of one until its rest comes."""
        if not self._stands_in():
            return self._own.write(text)
        with self._lock:
            whole, newline, rest = text.rpartition("\n")
            if newline:
                self._hand_on(whole + newline)
            self._begun.append(rest)
            self._length += len(rest)
            if self._length > UNBROKEN:
                self._hand_on("\n")
        return len(text)

    def _hand_on(self, text: str) -> None:
        begun = "".join(self._begun)
        self._begun.clear()
        self._length = 0
        if self._put is not None:
            self._put(begun + text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Writes them one after another."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Does nothing: only the beginning of a line is kept back."""
        if not self._stands_in():
            self._own.flush()

    def end(self) -> None:
        """Replaces the stream no longer."""
        with self._lock:
            if self._length:
                self._hand_on("\n")
            self._put = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)


@final
class RedirectedHandlers:
    """Has log handlers write to other streams until `restore()`; `instead` has these by the `id` of their own."""

    def __init__(self, instead: Mapping[int, Any]) -> None:
        self._before: list[tuple[logging.StreamHandler[Any], Any]] = []
        for handler in set(_stream_handlers()):
            own = handler.stream
            other = instead.get(id(own))
            if other is not None and other is not own:
                handler.stream = other  # Not `setStream()`: that flushes the stream before, and so may wait.
                self._before.append((handler, own))

    def restore(self) -> None:
        """Gives all of them their own streams back."""
        for handler, own in self._before:
            handler.stream = own
        self._before.clear()


def _stream_handlers() -> Iterator[logging.StreamHandler[Any]]:
    known = [logging.root, *logging.root.manager.loggerDict.values()]
    for logger in known:
        if isinstance(logger, logging.Logger):
            for handler in logger.handlers:
                if isinstance(handler, logging.StreamHandler):
                    yield handler


def would_write_to(stream: Any, logger: logging.Logger) -> bool:
    """Whether a record of this logger would be written to the stream, or to the stream's file."""
    handlers: list[Any] = []
    at: logging.Logger | None = logger
    while at is not None:
        handlers += at.handlers
        at = at.parent if at.propagate else None
    streams = [getattr(handler, "stream", None) for handler in handlers]
    return any(one is not None and (one is stream or _same_file(one, stream)) for one in streams)


def _same_file(one: Any, other: Any) -> bool:
    try:
        return os.path.sameopenfile(one.fileno(), other.fileno())
    except Exception:  # A stream of others may have no descriptor.
        return False
