"""From arguments to an exit code: each error becomes one line and a code that a script can go by."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence

from ..errors import SessionActiveError, SessionNotFoundError, StoreError
from ..telemetry.redaction import has_secret
from . import completion, exit_codes, output
from .exit_codes import CommandError
from .parser import parser
from .store_location import VARIABLE


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code.

    Args:
        argv: The arguments without the program's name; those of the process unless given.

    Raises:
        SystemExit: The arguments are wrong, or help was asked for.
    """
    whole = parser()
    if completion.ASKED in os.environ:
        from .completion_answer import answer

        answer(whole)
    arguments = whole.parse_args(argv)
    if argv is None:
        hide_store_password(arguments)
    warnings = output.Warnings(getattr(arguments, "log_level", logging.WARNING))
    logger = logging.getLogger("trio_progress")
    before = logger.level
    logger.addHandler(warnings)
    try:
        code: int = arguments.run(arguments)
    except KeyboardInterrupt:
        return exit_codes.SIGNAL + signal.SIGINT
    except CommandError as error:
        if error.message:
            output.print_error(error.message)
        return error.code
    except SessionNotFoundError as error:
        return output.no_session(error.session_id)
    except SessionActiveError as error:
        output.print_error(f"session {error.session_id!r} is open: watch it, or cancel it first")
        return exit_codes.ACTIVE
    except StoreError as error:
        output.print_error(str(error))
        return exit_codes.STORE
    finally:
        logger.removeHandler(warnings)
        logger.setLevel(before)
    return code


def hide_store_password(arguments: argparse.Namespace) -> None:
    """Executes the command anew where `--store` holds a password, with the URL in the environment instead.

    All users of a machine can read the arguments of a process, and only its own user the environment. They could for
    a moment all the same, and the shell's history has it: `--help` says so. Windows has no way to do that.
    """
    store = getattr(arguments, "store", None)
    if sys.platform == "win32" or not store or not has_secret(store):
        return
    kept = without_store(sys.orig_argv, store)
    if kept is not None and sys.executable:
        os.execve(sys.executable, [sys.executable, *kept[1:]], {**os.environ, VARIABLE: store})  # noqa: S606 - ourselves


def without_store(words: Sequence[str], store: str) -> list[str] | None:
    """The words of a command line without the option that names this store; None where it cannot be told apart."""
    kept: list[str] = []
    for word in words:
        option, equals, value = word.partition("=")
        if word == store and kept and kept[-1].startswith("--s"):
            kept.pop()
        elif not (option.startswith("--s") and equals and value == store):
            kept.append(word)
    return kept if not any(store in word for word in kept) else None
