"""What the command line prints: the answer on standard output, all else on standard error, one line at a time.

1. The reader may be gone: `| head` closes the pipe early. That ends the command silently.
2. A character that the stream's encoding lacks is replaced by `?`; a missing stream takes nothing.
3. A command that needs an event loop is run by `run()`: its notices do not wait. Other commands wait for the reader,
   as all programs do.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

from ..errors import ProgressError
from ..telemetry.redaction import redacted
from ..terminal.printable import printable
from ..terminal.streams import encoding_of, is_terminal, sink_for, usable
from ..terminal.symbols import ASCII, UNICODE, Symbols
from . import exit_codes
from .exit_codes import CommandError

if TYPE_CHECKING:
    from ..terminal.writer import Writer

T = TypeVar("T")

UNKNOWN: Final = 80
"""Columns of a terminal that does not report its width."""

_ANSI: Final = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}

_background: Writer | None = None
"""Writes to standard error while an event loop runs."""


def run(command: Callable[..., Awaitable[T]], *arguments: Any) -> T:
    """Runs an async function by Trio. What ends the command leaves as itself, not in the groups of its nurseries."""
    import trio

    from ..session.outcome import leaves

    try:
        with in_background():
            return trio.run(command, *arguments)
    except BaseExceptionGroup as group:
        for error in leaves(group):
            if isinstance(error, (CommandError, ProgressError, KeyboardInterrupt)):
                raise error from None
        raise


@contextmanager
def in_background() -> Iterator[None]:
    """While the block runs, no notice waits for standard error; leaving the block waits for a second at most."""
    global _background  # noqa: PLW0603 - standard error is the process', too
    if not usable(sys.stderr):
        yield
        return
    from ..terminal.writer import Writer

    _background = writer = Writer(sys.stderr)
    try:
        yield
    finally:
        _background = None
        writer.finish()


def print_notice(message: str) -> None:
    """One line on standard error, without the passwords of URLs; dropped where standard error is gone."""
    _write_stderr(printable(redacted(message)) + "\n")


def print_question(question: str) -> None:
    """A question on standard error; the user types the answer behind it."""
    _write_stderr(question)


def _write_stderr(text: str) -> None:
    if _background is not None and _background.stream is sys.stderr:
        _background.put(text)
        return
    try:
        write(sys.stderr, text)
    except OSError:
        silence(sys.stderr)


def write(stream: Any, text: str) -> None:
    """Writes text to a stream and waits until the stream has taken it; an `OSError` says that it takes nothing."""
    if usable(stream):
        sink_for(stream).write(text, threading.Event())


def print_error(message: str) -> None:
    """One line on standard error, after the name of the program."""
    print_notice(f"trio-progress: {message}")


def no_session(session_id: str) -> int:
    """Reports that there is no such session; returns the exit code for that."""
    print_error(f"there is no session {session_id!r}")
    return exit_codes.NOT_FOUND


def print_answer(text: str) -> None:
    """Writes text to standard output, as it is; a `CommandError` says that it cannot be written."""
    if not usable(sys.stdout):
        raise CommandError(exit_codes.NOTHING, "the answer cannot be written: there is no standard output")
    try:
        write(sys.stdout, text)
    except OSError as error:
        raise refused(error) from None


def refused(error: OSError) -> CommandError:
    """The error that ends the command when standard output cannot be written."""
    silence(sys.stdout)
    if isinstance(error, BrokenPipeError):
        return CommandError(exit_codes.SIGNAL + signal.SIGPIPE)
    return CommandError(exit_codes.NOTHING, f"the answer cannot be written: {error.strerror or error}")


def silence(stream: Any) -> None:
    """Sends the rest of the buffer nowhere: the interpreter's exit would try it again, and fail loudly."""
    with suppress(AttributeError, OSError, ValueError):  # It may have no descriptor.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@dataclass(frozen=True, slots=True)
class Stdout:
    """The width, symbols and colours that standard output can show; a pipe has a width, too."""

    terminal: bool
    width: int
    symbols: Symbols
    colours: bool

    def paint(self, text: str, style: str) -> str:
        """The text in a style of `terminal.symbols`, where colours are wanted."""
        codes = ";".join(_ANSI[word] for word in style.split() if word in _ANSI)
        return f"\x1b[{codes}m{text}\x1b[0m" if self.colours and codes and text else text


def stdout() -> Stdout:
    """What standard output is now."""
    symbols = UNICODE if "utf" in (encoding_of(sys.stdout) or "") else ASCII
    terminal = is_terminal(sys.stdout)
    width = max(shutil.get_terminal_size((UNKNOWN, 24)).columns, 1)
    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    return Stdout(terminal, width, symbols, terminal and not plain)


def as_json(value: Any, *, indent: int | None = None) -> str:
    """JSON of ASCII characters only: a terminal shows it as it is, and obeys none of it."""
    return json.dumps(value, indent=indent)


@final
class Warnings(logging.Handler):
    """Prints the library's records from `level` on as one line each, without a traceback."""

    def __init__(self, level: int = logging.WARNING) -> None:
        super().__init__(level)

    def emit(self, record: logging.LogRecord) -> None:
        """Prints the message of the record."""
        print_error(record.getMessage())
