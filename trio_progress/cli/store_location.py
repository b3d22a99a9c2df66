"""Which store a command uses, and how it opens it."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..storage.folders import check_own, make_state_folder, state_folder
from ..telemetry.redaction import has_secret, redacted_url
from . import exit_codes
from .exit_codes import CommandError

if TYPE_CHECKING:
    from ..blocking import Client
    from ..tracker import ProgressTracker

VARIABLE: Final = "TRIO_PROGRESS_STORE"
FILE: Final = "sessions.db"
"""The user's own store, in the platform's folder for state."""


@dataclass(frozen=True, slots=True)
class StoreLocation:
    """Where a store is, and whether the user named it."""

    url: str = field(repr=False)
    """May hold a password."""
    named: bool
    """Whether the user named it; the default store need not exist yet."""

    @property
    def shown(self) -> str:
        """The URL without secrets."""
        return redacted_url(self.url)

    @property
    def hint(self) -> str:
        """What to put behind a command of the same shell so that it uses the same store."""
        if has_secret(self.url):
            return f"  # with {VARIABLE} set to the URL of {self.shown}"
        if not self.named or self.url == os.environ.get(VARIABLE):
            return ""
        return f" --store {shlex.quote(self.url)}"

    @property
    def path(self) -> Path | None:
        """The file, where the store is one; a `RuntimeError` says that the user has no home directory to find it in."""
        kind, _, path = self.url.partition(":")
        return Path(path).expanduser() if kind == "sqlite" and path else None

    @property
    def missing(self) -> bool:
        """Whether it is a file that does not exist."""
        try:
            path = self.path
            return path is not None and not path.exists()
        except (OSError, ValueError, RuntimeError):
            return False  # Opening it will say why.

    def check(self) -> None:
        """Raises a `CommandError` where somebody else can write in the folder of the user's own store."""
        try:
            check_own(state_folder())
        except FileNotFoundError:
            pass
        except OSError as error:
            raise CommandError(exit_codes.STORE, f"{error.strerror}; or name a store by --store") from None

    def made(self) -> str:
        """The URL, to be opened for writing: makes the folder of the user's own store where it is missing."""
        if not self.named:
            try:
                make_state_folder()
            except OSError as error:
                raise CommandError(
                    exit_codes.STORE, f"{state_folder()} cannot be used: {error.strerror}; name a store by --store"
                ) from None
        return self.url


def locate(arguments: argparse.Namespace) -> StoreLocation:
    """The store that the arguments, the environment or the platform name, in this order."""
    given = arguments.store if arguments.store is not None else os.environ.get(VARIABLE)
    if given:
        return StoreLocation(given, named=True)
    if given is not None and arguments.store is not None:
        raise CommandError(
            exit_codes.USAGE,
            "--store must be a URL: sqlite:PATH, redis://HOST:PORT/DB, redis-sentinel://HOST:PORT,... or "
            "redis-cluster://HOST:PORT,...",
        )
    try:
        return StoreLocation(f"sqlite:{state_folder() / FILE}", named=False)
    except RuntimeError as error:
        raise CommandError(exit_codes.STORE, f"there is no place for a store: {error}; name one by --store") from None


@contextmanager
def client(arguments: argparse.Namespace) -> Iterator[Client | None]:
    """The sessions of an existing store; None where the user has no store yet. Makes no file.

    Raises:
        CommandError: The store that was named does not exist, or its URL is invalid.
        StoreError: It cannot be opened.
    """
    where = locate(arguments)
    if not where.named:
        where.check()
    if where.missing:
        if not where.named:
            yield None
            return
        raise CommandError(
            exit_codes.STORE, f"store {where.shown}: there is no such file; it is made when a tracker first opens it"
        )
    from ..blocking import Client

    try:
        opened = Client(where.url)
    except (ValueError, ModuleNotFoundError) as error:
        raise CommandError(exit_codes.USAGE, str(error)) from None
    with opened:
        yield opened


async def enter_tracker(stack: AsyncExitStack, url: str, **settings: Any) -> ProgressTracker:
    """A tracker on the store, left with the stack; a `CommandError` says that the URL is invalid."""
    from ..tracker import open_tracker

    try:
        return await stack.enter_async_context(open_tracker(url, **settings))
    except (ValueError, ModuleNotFoundError) as error:
        raise CommandError(exit_codes.USAGE, str(error)) from None
