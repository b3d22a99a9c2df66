"""Final states that did not reach their store, kept in files until a tracker can bring them there.

1. One folder for each store, one file for each end of a session. Names are digests: no id, and nothing else
   that a user gives, becomes part of a path.
2. Files are of mode 0600 in folders of mode 0700 that are the user's own: links and folders of others are refused.
   They expire when the store would have forgotten the session, and are bounded in number and size.
3. Writing is a last resort: it never raises into the work, what fails is logged. A file is written whole or
   not at all.
4. What is read was possibly written by somebody else: it is decoded strictly. A file that cannot be read is
   logged and removed.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import msgspec

from ..state import checks
from ..state.history import Lesson, PhaseLesson
from ..state.limits import MAX_UNITS
from ..stores.base import Append, Index, Key
from ..telemetry.logs import log_event
from .folders import check_own, make_own, state_folder

FILES: Final = 1000
"""Files of one store; once there are so many, no more are written."""

LARGEST_FILE: Final = 64 * 1024 * 1024
"""Bytes; what is larger is neither written nor read."""

_FORMAT: Final = 1
_SUFFIX: Final = ".json"


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file's contents, as JSON; bytes are in base64."""

    format: int
    store: str
    id: str
    epoch: int
    seq: int
    claimed: bool
    owner: str = ""
    record: bytes
    status: str
    pipeline: str | None
    labels: dict[str, str]
    queued_at: float
    keep: float
    heartbeat: float
    events: list[tuple[int, bytes]]
    durations: dict[str, float] = {}
    """What older versions kept of a run: how long each phase took."""
    lesson: Lesson | None = None
    cancels: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    """Absent where there are none: older versions refuse a file with a key that they do not know."""
    expires: float


@dataclass(frozen=True, slots=True)
class Spooled:
    """A final state that waits for its store."""

    append: Append
    claimed: bool
    """Whether the store had given the session to its owner; if not, nothing of it may be stored at all."""
    path: Path
    owner: str = ""
    """By whom it was claimed, where the store has not answered that."""
    cancels: tuple[str, ...] = ()
    """Parts of the session that are to be cancelled once the store holds its end."""


@final
class Spool:
    """The files of one store. Calls block for as long as the local disk takes.

    Args:
        address: The store's.
        folder: Where the folders of all stores are; the platform's place for state unless given.
        wall: Seconds since 1970.
    """

    def __init__(self, address: str, *, folder: Path | None = None, wall: Callable[[], float] = time.time) -> None:
        self._address = address
        self._parent = folder
        self._wall = wall

    def _folder(self) -> Path:
        parent = state_folder() / "spool" if self._parent is None else self._parent
        return parent / _digest(self._address)

    def _own(self, folder: Path) -> list[Path]:
        """The folders that must be this user's own, from above: the platform's or the given one, and what is in it."""
        return [*reversed(folder.parents[: 2 if self._parent is None else 1]), folder]

    def save(self, append: Append, *, claimed: bool, owner: str = "", cancels: Sequence[str] = ()) -> bool:
        """Keeps a final state. Never raises; False where it could not be kept, which is logged.

        Args:
            append: What the store should have taken.
            claimed: Whether the store had given the session to its owner.
            owner: Who has claimed it, for where that was not answered.
            cancels: Parts of the session that are to be cancelled once the store holds its end.
        """
        try:
            return self._save(append, claimed=claimed, owner=owner, cancels=cancels)
        except Exception as error:
            what = "session %r: its final state could not be spooled: %s"
            shown = None if isinstance(error, (OSError, RuntimeError)) else error
            log_event(
                logging.ERROR, "spooling_failed", what, append.id, error, error=shown, session=append.id, reason=error
            )
            return False

    def _save(self, append: Append, *, claimed: bool, owner: str, cancels: Sequence[str]) -> bool:
        index = append.index
        data = msgspec.json.encode(
            _File(
                format=_FORMAT,
                store=self._address,
                id=append.id,
                epoch=append.key.epoch,
                seq=append.key.seq,
                claimed=claimed,
                owner=owner,
                record=append.record,
                status=index.status,
                pipeline=index.pipeline,
                labels=dict(index.labels),
                queued_at=index.queued_at,
                keep=append.keep,
                heartbeat=append.heartbeat,
                events=list(append.events),
                lesson=append.lesson,
                cancels=tuple(cancels) or msgspec.UNSET,
                expires=self._wall() + append.keep,
            )
        )
        folder = self._folder()
        for made in self._own(folder):
            make_own(made)
        taken = sum(1 for _ in folder.iterdir())
        if len(data) > LARGEST_FILE or taken >= FILES:
            what = "session %r: its final state is not spooled: it has %d bytes (at most %d), and there are %d files "
            bounds = (len(data), LARGEST_FILE, taken, FILES, folder)
            what += "(at most %d) in %s"
            log_event(logging.ERROR, "spooling_failed", what, append.id, *bounds, session=append.id, reason="full")
            return False
        # A later end of the session has another epoch, so whoever delivers this one removes no other.
        path = folder / f"{_digest(append.id)}-{append.key.epoch}{_SUFFIX}"
        _write(path, data)
        what = "session %r: its final state waits in %s for the store"
        log_event(logging.WARNING, "spooled", what, append.id, path, session=append.id, status=index.status)
        return True

    def pending(self, session_id: str | None = None) -> Iterator[Spooled]:
        """What waits, of one session or of all, oldest first. What has expired or cannot be read is removed.

        Raises:
            OSError: The folder cannot be read, or is not this user's own.
        """
        folder = self._folder()
        try:
            for made in self._own(folder):
                check_own(made)
            begins = "" if session_id is None else f"{_digest(session_id)}-"
            paths = [path for path in folder.iterdir() if path.name.startswith(begins)]
        except FileNotFoundError:
            return
        for at, path in sorted((_modified(path), path) for path in paths):
            spooled = self._read(path, at)
            if spooled is not None:
                yield spooled

    def _read(self, path: Path, modified: float) -> Spooled | None:
        if path.suffix != _SUFFIX:
            # Somebody was killed while writing it, or is at it.
            if self._wall() - modified / 1e9 > 3600:
                _remove(path)
            return None
        try:
            file = _decode(_contents(path))
            for session_id in (file.id, *(file.cancels or ())):
                checks.session_id(session_id)
        except FileNotFoundError:
            return None  # Another process has delivered it.
        except (OSError, msgspec.MsgspecError, ValueError, RecursionError, UnicodeError) as error:
            what = "passed over and removed: the spooled state %s cannot be read: %s"
            log_event(logging.WARNING, "spool_unreadable", what, path, error, reason=error)
            _remove(path)
            return None
        if file.expires <= self._wall() or file.store != self._address:
            log_event(
                logging.INFO, "spool_expired", "session %r: its spooled state has expired", file.id, session=file.id
            )
            _remove(path)
            return None
        append = Append(
            id=file.id,
            key=Key(file.epoch, file.seq),
            record=file.record,
            index=Index(file.status, file.pipeline, file.labels, file.queued_at),
            lease=None,
            keep=file.keep,
            heartbeat=file.heartbeat,
            events=file.events,
            lesson=file.lesson or _old_lesson(file),
        )
        return Spooled(append, file.claimed, path, file.owner, file.cancels or ())

    def discard(self, spooled: Spooled) -> None:
        """Removes the file of what was delivered, or is not wanted any more. Never raises."""
        _remove(spooled.path)


def _old_lesson(file: _File) -> Lesson | None:
    phases = {name: PhaseLesson(seconds=seconds) for name, seconds in file.durations.items() if seconds >= 0}
    return Lesson(at=file.heartbeat, phases=phases) if phases else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:40]


def _modified(path: Path) -> float:
    """When a file was written, in nanoseconds since 1970; one that has vanished meanwhile is the newest."""
    try:
        return path.lstat().st_mtime_ns
    except FileNotFoundError:
        return float("inf")


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        what = "the spooled state %s cannot be removed: %s"
        log_event(logging.WARNING, "spool_unreadable", what, path, error, reason=error)


def _write(path: Path, data: bytes) -> None:
    """Through a file of another name, so that nobody reads a part of it."""
    unfinished = path.with_name(f"{path.stem}.{secrets.token_hex(8)}.part")
    try:
        handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def _contents(path: Path) -> bytes:
    """A regular file of bounded size; no link is followed, and nothing that would block is waited for."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST_FILE:
            raise ValueError(f"it is no file, or has more than {LARGEST_FILE} bytes")
        return file.read(LARGEST_FILE + 1)


def _decode(data: bytes) -> _File:
    file = msgspec.json.decode(data, type=_File)
    ordinals = [file.epoch, file.seq, *(n for n, _ in file.events)]
    if file.format != _FORMAT or not all(0 <= n < MAX_UNITS for n in ordinals):
        raise ValueError(f"it is of format {file.format}, at {file.epoch}-{file.seq}")
    return file
