"""The kinds of streams, and how text is written to each.

1. A stream that is missing, closed, or cannot be written shows nothing. Of its methods only `write` is needed, not
   `isatty`, `fileno`, `encoding` or `flush`.
2. A stream of the operating system is written by its descriptor, around its buffer: a thread that is stuck in there
   holds no lock that the interpreter's exit, or a `print()`, waits for. The descriptor is asked for each time: one that
   was remembered may have been closed and opened as another file.
3. A stream in memory is written at once. Any other one may block, so only a thread calls it.
4. A character that the stream's encoding lacks is replaced by `?`.
"""

from __future__ import annotations

import codecs
import io
import os
import select
import threading
from typing import Any, Final, TypeAlias, final

CHUNK: Final = 4096
"""Bytes written at once: a pipe that is ready takes so many without blocking."""

LEAST: Final = 256
"""The same for a non-blocking one that is ready and has no room for `CHUNK`."""

POLL: Final = 0.1
"""Seconds between two checks of a waiting write whether it is given up."""


class GivenUpError(Exception):
    """Nobody waits for the write any more."""


def usable(stream: Any) -> bool:
    """Whether the stream can be written."""
    try:
        return stream is not None and callable(getattr(stream, "write", None)) and not getattr(stream, "closed", False)
    except Exception:  # A stream of others may raise anything.
        return False


def is_terminal(stream: Any) -> bool:
    """Whether the stream is a terminal, as far as it says so."""
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
    """The text with `?` for every character that the encoding lacks."""
    if encoding is None or (encoding == "utf-8" and text.isprintable()):
        return text
    return text.encode(encoding, "replace").decode(encoding)


@final
class MemorySink:
    """A stream that never waits, as one in memory."""

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
                # It is non-blocking and has less room than that, though it was reported as ready.
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
    """A stream of others: an object that has `write`, and perhaps nothing else."""

    waits = True

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._encoding = encoding_of(stream)

    def write(self, text: str, given_up: threading.Event) -> None:
        """Calls the object's `write`, and `flush` if it has that."""
        try:
            self._stream.write(fitted(text, self._encoding))
        except UnicodeEncodeError:
            self._stream.write(fitted(text, "ascii"))
        flush = getattr(self._stream, "flush", None)
        if callable(flush):
            flush()


Sink: TypeAlias = MemorySink | DescriptorSink | ForeignSink
"""Writes all of a text to a stream. It raises `GivenUpError` once `given_up` is set while it waits, `OSError` where the
stream takes nothing any more. Where it `waits`, it belongs into a thread."""


def sink_for(stream: Any) -> Sink:
    """The way to write to this stream, which must be `usable`."""
    kind = type(stream)
    if getattr(stream, "never_waits", False) is True:
        return MemorySink(stream)
    if isinstance(stream, io.StringIO) and kind.write is io.StringIO.write and kind.flush is io.StringIO.flush:
        return MemorySink(stream)
    if isinstance(stream, io.TextIOWrapper) and kind.write is io.TextIOWrapper.write:
        # A subclass that only adds methods (pytest's, for one) is written as its base.
        below = getattr(stream.buffer, "raw", stream.buffer)
        if type(below) is io.BytesIO:
            return MemorySink(stream)
        if isinstance(below, io.FileIO) and hasattr(select, "poll"):
            return DescriptorSink(stream)
    return ForeignSink(stream)
