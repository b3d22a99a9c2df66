"""What a stream is, and how text gets into it, whatever it is.

1. A stream that is missing, closed, or cannot be written shows nothing. What it lacks beside `write` (`isatty`,
   `fileno`, `encoding`, `flush`) it can do without.
2. A stream of the operating system is written by its descriptor, around its buffer: a thread that is stuck in there
   holds no lock that the interpreter's exit, or a `print()`, waits for. The descriptor is asked for anew each
   time; a remembered one may belong to somebody else by now.
3. A stream in memory is written at once. Any other one may do what it likes, so only a thread of its own calls it.
4. What the stream's encoding cannot say is replaced by `?`.
"""

from __future__ import annotations

import codecs
import io
import os
import select
import threading
from typing import Any, Final, Protocol, final

CHUNK: Final = 4096
"""Bytes written at once: a pipe that is ready takes so many without waiting."""

LEAST: Final = 256
"""The same for a non-blocking one that is ready and has no room for `CHUNK`."""

POLL: Final = 0.1
"""Seconds after which a write that waits asks whether it is given up."""


class GivenUpError(Exception):
    """Nobody waits for the write any more."""


class Sink(Protocol):
    """Where text goes."""

    waits: bool
    """Whether a write may wait, and so belongs into a thread."""

    def write(self, text: str, given_up: threading.Event) -> None:
        """Writes all of it.

        Raises:
            GivenUpError: `given_up` was set while it waited.
            OSError: The stream takes nothing any more.
        """
        ...


def usable(stream: Any) -> bool:
    """Whether there is anything that could be written to."""
    try:
        return stream is not None and callable(getattr(stream, "write", None)) and not getattr(stream, "closed", False)
    except Exception:  # A stream of others, of which nothing is known.
        return False


def is_terminal(stream: Any) -> bool:
    """Whether the stream says that it is a terminal; one that cannot be asked is none."""
    try:
        return usable(stream) and bool(stream.isatty())
    except Exception:  # `isatty` is missing, or raises, as it does for a closed stream.
        return False


def encoding_of(stream: Any) -> str | None:
    """The stream's encoding, if it has one that Python knows."""
    try:
        name = stream.encoding
        return codecs.lookup(name).name if isinstance(name, str) else None
    except Exception:  # No such attribute, no such codec.
        return None


def fitted(text: str, encoding: str | None) -> str:
    """The text with `?` for every character that the encoding cannot say."""
    if encoding is None or (encoding == "utf-8" and text.isprintable()):
        return text
    return text.encode(encoding, "replace").decode(encoding)


@final
class MemorySink:
    """A stream that keeps what it is given in memory, or hands it over to one that never waits."""

    waits = False

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._encoding = encoding_of(stream)

    def write(self, text: str, given_up: threading.Event) -> None:
        """Writes it at once."""
        self._stream.write(fitted(text, self._encoding))
        self._stream.flush()


@final
class DescriptorSink:
    """A file, pipe or terminal of the operating system."""

    waits = True

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        name = encoding_of(stream) or "ascii"
        self._encoder = codecs.getincrementalencoder(name)("replace")

    def write(self, text: str, given_up: threading.Event) -> None:
        """Writes it, piece by piece, whenever the descriptor is ready."""
        rest = memoryview(self._encoder.encode(text))
        most = CHUNK
        while rest:
            self._ready(given_up)
            try:
                written = os.write(self._stream.fileno(), rest[:most])
            except BlockingIOError:
                # It is non-blocking and has less room than that. It says that it is ready all the same.
                most = LEAST
                if given_up.wait(POLL / 4):
                    raise GivenUpError from None
                continue
            rest = rest[written:]

    def _ready(self, given_up: threading.Event) -> None:
        poll = select.poll()
        poll.register(self._stream.fileno(), select.POLLOUT)
        while not poll.poll(POLL * 1000):
            if given_up.is_set():
                raise GivenUpError


@final
class ForeignSink:
    """A stream of others: an object with `write`, of which nothing else is known."""

    waits = True

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._encoding = encoding_of(stream)

    def write(self, text: str, given_up: threading.Event) -> None:
        """Has the object write it."""
        try:
            self._stream.write(fitted(text, self._encoding))
        except UnicodeEncodeError:
            self._stream.write(fitted(text, "ascii"))
        flush = getattr(self._stream, "flush", None)
        if callable(flush):
            flush()


def sink_for(stream: Any) -> Sink:
    """The way in which this stream is written. The stream must be `usable`."""
    kind = type(stream)
    if getattr(stream, "never_waits", False) is True:
        return MemorySink(stream)
    if isinstance(stream, io.StringIO) and kind.write is io.StringIO.write and kind.flush is io.StringIO.flush:
        return MemorySink(stream)
    if isinstance(stream, io.TextIOWrapper) and kind.write is io.TextIOWrapper.write:
        # Subclasses that only add to it (pytest's, for one) are what they are made of.
        below = getattr(stream.buffer, "raw", stream.buffer)
        if type(below) is io.BytesIO:
            return MemorySink(stream)
        if isinstance(below, io.FileIO) and hasattr(select, "poll"):
            return DescriptorSink(stream)
    return ForeignSink(stream)
