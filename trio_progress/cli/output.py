"""What the command line says: the answer on standard output, all else on standard error, one line at a time.

Nobody may be left to read either: `| head` closes the pipe early. That ends the command without a word.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from typing import IO, Any, final

from .._text import printable
from . import codes
from .codes import CommandError


def say(message: str) -> None:
    """One line on standard error; where that is gone, nobody is told."""
    try:
        print(printable(message), file=sys.stderr, flush=True)
    except OSError:
        silence(sys.stderr)


def complain(message: str) -> None:
    """One line on standard error that says who is speaking."""
    say(f"trio-progress: {message}")


def put(text: str) -> None:
    """Writes text to standard output, as it is.

    Raises:
        CommandError: Nobody takes it.
    """
    try:
        # A character that the terminal's encoding lacks must not cost the rest of the text.
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        raise refused(error) from None


def refused(error: OSError) -> CommandError:
    """What ends the command when standard output cannot be written."""
    silence(sys.stdout)
    if isinstance(error, BrokenPipeError):
        return CommandError(codes.SIGNAL + signal.SIGPIPE)
    return CommandError(codes.NOTHING, f"the answer cannot be written: {error.strerror}")


def silence(stream: IO[str]) -> None:
    """What is left in the buffer would be tried again, and fail loudly, when the interpreter exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def as_json(value: Any, *, indent: int | None = None) -> str:
    """JSON of ASCII characters only: a terminal shows it as it is, and obeys nothing in it."""
    return json.dumps(value, indent=indent)


@final
class Warnings(logging.Handler):
    """Says what the library warns of, as one line each and without a traceback."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        """Says it."""
        complain(record.getMessage())
