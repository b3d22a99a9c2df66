"""What the command line prints: the answer on standard output, all else on standard error, one line at a time.

1. Nobody may be left to read either: `| head` closes the pipe early. That ends the command without a word.
2. What the stream's encoding cannot say is replaced by `?`; a stream that is missing takes nothing.
3. A command that runs an event loop does so in `in_background()`: its notices do not wait. Other
   commands wait for whoever reads, as all programs do.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, final

from ..telemetry.redaction import redacted
from ..terminal.printable import printable
from ..terminal.streams import sink_for, usable
from . import exit_codes
from .exit_codes import CommandError

if TYPE_CHECKING:
    from ..terminal.writer import Writer

_background: Writer | None = None
"""What writes to standard error while an event loop runs."""


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
    """A question on standard error, behind which the answer is typed."""
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
    """Writes text to a stream, and waits until that has taken it.

    Raises:
        OSError: It takes nothing.
    """
    if usable(stream):
        sink_for(stream).write(text, threading.Event())


def print_error(message: str) -> None:
    """One line on standard error, after the name of the program."""
    print_notice(f"trio-progress: {message}")


def no_session(session_id: str) -> int:
    """Says that there is no such session, and returns the exit code for that."""
    print_error(f"there is no session {session_id!r}")
    return exit_codes.NOT_FOUND


def print_answer(text: str) -> None:
    """Writes text to standard output, as it is.

    Raises:
        CommandError: Nobody takes it.
    """
    if not usable(sys.stdout):
        raise CommandError(exit_codes.NOTHING, "the answer cannot be written: there is no standard output")
    try:
        write(sys.stdout, text)
    except OSError as error:
        raise refused(error) from None


def refused(error: OSError) -> CommandError:
    """What ends the command when standard output cannot be written."""
    silence(sys.stdout)
    if isinstance(error, BrokenPipeError):
        return CommandError(exit_codes.SIGNAL + signal.SIGPIPE)
    return CommandError(exit_codes.NOTHING, f"the answer cannot be written: {error.strerror or error}")


def silence(stream: Any) -> None:
    """What is left in the buffer would be tried again, and fail loudly, when the interpreter exits."""
    with suppress(AttributeError, OSError, ValueError):  # It may have no descriptor.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def as_json(value: Any, *, indent: int | None = None) -> str:
    """JSON of ASCII characters only: a terminal shows it as it is, and obeys nothing in it."""
    return json.dumps(value, indent=indent)


@final
class Warnings(logging.Handler):
    """Prints what the library warns of, as one line each and without a traceback."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        """Prints the message of the record."""
        print_error(record.getMessage())
