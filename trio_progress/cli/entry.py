"""From arguments to an exit code: whatever goes wrong becomes one line and a code that a script can go by."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Sequence

from ..errors import SessionActiveError, SessionNotFoundError, StoreError
from . import codes, completion, output
from .codes import CommandError
from .parser import parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code.

    Args:
        argv: The arguments without the program's name; those of the process unless given.

    Raises:
        SystemExit: The arguments are wrong, or help was asked for.
    """
    whole = parser()
    if completion.ASKED in os.environ:
        from .answering import answer

        answer(whole)
    arguments = whole.parse_args(argv)
    warnings = output.Warnings()
    logger = logging.getLogger("trio_progress")
    logger.addHandler(warnings)
    try:
        code: int = arguments.run(arguments)
    except KeyboardInterrupt:
        return codes.SIGNAL + signal.SIGINT
    except CommandError as error:
        if error.message:
            output.complain(error.message)
        return error.code
    except SessionNotFoundError as error:
        output.complain(f"there is no session {error.session_id!r}")
        return codes.NOT_FOUND
    except SessionActiveError as error:
        output.complain(f"session {error.session_id!r} is open: watch it, or cancel it first")
        return codes.ACTIVE
    except StoreError as error:
        output.complain(str(error))
        return codes.STORE
    finally:
        logger.removeHandler(warnings)
    return code
