"""The exit codes of the command line, that a script can go by, and the error that ends a command with one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

OK: Final = 0
NOTHING: Final = 1
"""The command worked and found nothing, or its answer could not be written."""
USAGE: Final = 2
"""The arguments are wrong, or need what is not installed; argparse uses the same code."""
NOT_FOUND: Final = 3
STORE: Final = 4
ACTIVE: Final = 5

ENDED: Final[Mapping[str, int]] = {
    "completed": OK,
    "cancelled": 10,
    "interrupted": 11,
    "timed_out": 12,
    "failed": 13,
    "lost": 14,
}
"""The code for how a session ended; of several sessions the highest counts."""

SIGNAL: Final = 128
"""Added to the number of the signal that ended the command, as shells do."""

COMMON: Final = """\
exit codes:
  0 done; 2 wrong use; 3 no such session; 4 the store cannot be used; 130 Ctrl-C
"""

REMOVING: Final = """\
exit codes:
  0 done; 2 wrong use; 3 no such session; 4 the store cannot be used;
  5 a session is open and must be cancelled first; 130 Ctrl-C
"""


class CommandError(Exception):
    """Ends the command with one line on standard error (none where `message` is empty) and this exit code."""

    def __init__(self, code: int, message: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
