"""What a store does for a tracker: one fenced log for each session.

1. A *key* is `(epoch, seq)`. A claim raises the epoch above all that the session ever had; an append
   below or beside the newest key is refused, unless it is the same write again.
2. A *lease* belongs to an epoch. As long as it stands, nobody else can claim the session, but for who names that
   epoch and says that its owner is dead (`Claim.past_lease`). It is renewed by appends and renewals of its owner, and
   released with the final append. Renewing one that has lapsed takes it up again, as long as nobody has claimed the
   session in between.
3. An epoch that is not the newest is *fenced*: what is written under it is refused.
4. Events are numbered on their own, `(epoch, n)`; the same event again changes nothing.
5. A commit is a batch: each write has its own outcome, and one that is refused does not touch the others.
   When the store as a whole does not answer, `commit` raises and none of the outcomes is known; every
   write may then be repeated as it was.

`stores.memory` keeps it all in this process, and takes records as they are: its class says `takes_records`. Stores that
say `hands_out` also choose sessions that wait to be run, and wake who waits for some: see `stores.taking`. Those that
say `gathers` would rather have one large batch than two small ones. Stores with blocking clients do their work in a
thread, with a timeout on every call that is below the tracker's `flush_timeout`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeAlias, runtime_checkable

import msgspec

from .taking import Release, Take, Taken

if TYPE_CHECKING:
    from ..state.history import Lesson, PipelineHistory
    from ..state.record import Unencoded

ASKS_KEPT: Final = 1000
ASKS_KEPT_FOR: Final = 3600.0
"""Requests that are kept for owners who have not read them yet, and seconds; who has not by then is not there."""


class Key(NamedTuple):
    """The place of an entry in its session's log."""

    epoch: int
    seq: int


class Index(msgspec.Struct, frozen=True):
    """What sessions are listed by."""

    status: str
    pipeline: str | None
    labels: Mapping[str, str]
    queued_at: float
    """Seconds since 1970; lists are sorted by it, newest first."""


class Claim(msgspec.Struct, frozen=True):
    """Begin a new epoch of a session: to own it (with a lease), or (without) to declare it or to write it off."""

    id: str
    proposal: int
    """The epoch that the claimer would like, milliseconds since 1970; the store takes it if it is high enough."""
    owner: str
    """Unique to the claimer: a claim that is repeated, because its answer was lost, is recognised by it.

    Until its lease is released or somebody else has claimed, however long ago it has lapsed; it is renewed then. As
    long as the session was not written since, it is told again what was declared, for its owner goes by that.
    """
    record: bytes
    """The entry at `(epoch, seq)`."""
    index: Index
    lease: float | None
    """Seconds; None: the session has no owner after this."""
    keep: float
    """Seconds that the session is kept without a further write."""
    expect: Key | None = None
    """Refuse the claim if the newest key is another one."""
    seq: int = 0
    """The number of the state that the claim brings with it."""
    events: Sequence[tuple[int, bytes]] = ()
    """The events that stay, of those that the epochs before have left, or come with it: all others go."""
    unencoded: Unencoded | None = None
    """The entry for a store that `takes_records`; `record` is empty then."""
    past_lease: bool = False
    """Whether a lease of the expected epoch does not refuse it: that owner is known to be dead."""
    keep_queued_at: bool = False
    """Whether it is listed by when it was declared, where a session is claimed that is stored as queued."""
    keep_labels: bool = False
    """Whether it is listed by the labels that it was declared with, where it is one."""
    attempts: int | None = None
    """How often it was begun, this time included; None: as often as before."""


class Append(msgspec.Struct, frozen=True):
    """Store a published state, and the events since the last one."""

    id: str
    key: Key
    record: bytes
    index: Index
    lease: float | None
    """Seconds from now; None: release it, for this is the final state."""
    keep: float
    heartbeat: float
    events: Sequence[tuple[int, bytes]] = ()
    lesson: Lesson | None = None
    """What the run teaches, for the history of the pipeline; given with the final state, and learnt once."""
    unencoded: Unencoded | None = None
    """The entry for a store that `takes_records`; `record` is empty then."""


def claim_for(end: Append, owner: str, expect: Key | None) -> Claim:
    """The claim behind which a session's last write can be made again, where its epoch is no longer the newest."""
    return Claim(
        id=end.id,
        proposal=end.key.epoch,
        owner=owner,
        record=end.record,
        index=end.index,
        lease=None,
        keep=end.keep,
        expect=expect,
        seq=max(end.key.seq - 1, 0),
    )


class Renew(msgspec.Struct, frozen=True):
    """Renew a lease; `heartbeat` (seconds since 1970) is shown to those who watch."""

    id: str
    epoch: int
    lease: float
    heartbeat: float


class Delete(msgspec.Struct, frozen=True):
    """Remove all that is stored of a session; refused while a lease stands."""

    id: str


class Ask(msgspec.Struct, frozen=True):
    """Ask the owner of a session, whichever process that is, to do something: `"cancel"`."""

    id: str
    what: str
    reason: str | None = None


class SetHistory(msgspec.Struct, frozen=True):
    """Replace what is known of a pipeline; None: forget it."""

    id: str
    """The name of the pipeline."""
    history: PipelineHistory | None


Write: TypeAlias = Claim | Append | Renew | Delete | Ask | SetHistory | Take | Release


@dataclass(frozen=True, slots=True)
class Stored:
    """What one session has in the store."""

    id: str
    key: Key
    record: bytes
    alive: bool
    """Whether a lease stands."""
    heartbeat: float | None
    events: Sequence[bytes] = ()
    """The retained events, oldest first; only where a single session was read."""

    @property
    def seen(self) -> Seen:
        """What a reader remembers; news is what differs from it."""
        return Seen(self.key, self.heartbeat, self.alive)


class Claimed(msgspec.Struct, frozen=True):
    """The session is the claimer's, under `epoch`."""

    epoch: int
    previous: Stored | None
    """What was stored until then; for a repeated claim see `Claim.owner`."""
    history: PipelineHistory | None = None
    """What earlier runs of the pipeline have taught."""


class Refused(msgspec.Struct, frozen=True):
    """A claim or a deletion was refused: the session has an owner."""


class Moved(msgspec.Struct, frozen=True):
    """A claim was refused: the newest key is not the expected one."""


class Done(msgspec.Struct, frozen=True):
    """The write is in the store; `found` is False where there was nothing to delete."""

    found: bool = True


class Fenced(msgspec.Struct, frozen=True):
    """The write was refused, for the session now has the epoch `by`; None: it is gone.

    An epoch below that of the write is one of before its claim, which the store has lost.
    """

    by: int | None


Outcome: TypeAlias = Claimed | Refused | Moved | Done | Fenced | Taken | Exception


def claimed_index(claim: Claim, status: str, queued_at: float, labels: Mapping[str, str]) -> Index:
    """What a claimed session is listed by; what it was declared with stays where the claim says so.

    In Redis a script does the same.

    Args:
        claim: What is asked for.
        status: That of what is stored until now.
        queued_at: What it was listed by, beside
        labels: these.
    """
    if status != "queued":
        return claim.index
    index = msgspec.structs.replace(claim.index, queued_at=queued_at) if claim.keep_queued_at else claim.index
    return msgspec.structs.replace(index, labels=labels) if claim.keep_labels else index


def is_told_again(claim: Claim, status: str | None) -> bool:
    """Whether what a claim replaces, with this status, is kept until the session is written: its answer may be lost.

    In Redis a script decides the same.
    """
    return status == "queued" and claim.lease is not None


def claimed_epoch(claim: Claim, newest: Key | None, *, alive: bool, above: int = -1) -> int | Refused | Moved:
    """The epoch that a claim is given, or why it is given none; not for one that was made before.

    In Redis a script decides the same, for only there are reading and writing one moment.

    Args:
        claim: What is asked for.
        newest: The newest key of the session; None: nothing is stored of it.
        alive: Whether anybody has a lease of it.
        above: The highest epoch that was given to a session which is gone.
    """
    if alive and not (claim.past_lease and claim.expect and newest and newest.epoch == claim.expect.epoch):
        return Refused()
    if claim.expect is not None and newest != claim.expect:
        return Moved()
    return max(claim.proposal, above + 1, 0 if newest is None else newest.epoch + 1)


@dataclass(frozen=True, slots=True)
class Query:
    """Which sessions to list, newest first."""

    labels: Mapping[str, str] = field(default_factory=dict)
    status: frozenset[str] | None = None
    """Statuses as stored: one whose lease has lapsed is stored as "running"."""
    limit: int = 100
    after: str | None = None
    """The `next` of the page before."""
    lapsed: bool = False
    """Only those that have no owner now."""
    shown: frozenset[str] | None = None
    """Statuses as they are shown: what is stored as "running" and has no owner now is "lost"."""
    pipeline: str | None = None
    """Only those of the pipeline with this name; None: of any, or none."""
    known: Mapping[str, int] = field(default_factory=dict)
    """Epochs of sessions: those that still have it count for the page, and are only named in it."""

    @property
    def filtered(self) -> bool:
        """Whether it asks for anything but all sessions."""
        return bool(self.labels) or self.lapsed or (self.status, self.shown, self.pipeline) != (None, None, None)


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list; `next` leads on, None at its end.

    One that leads on may have fewer sessions than were asked for, or none: a call does not look for long.
    """

    sessions: Sequence[Stored]
    next: str | None
    known: Sequence[str] = ()
    """The sessions of the page that have the epoch which `Query.known` gives."""


class Seen(NamedTuple):
    """What a reader knows of a session: news is what differs from it."""

    key: Key
    heartbeat: float | None
    alive: bool


@dataclass(frozen=True, slots=True)
class Changes:
    """What has changed in a store since it was asked the last time."""

    mark: str
    """Where the next call goes on."""
    sessions: Sequence[Stored]
    """With all retained events."""
    gone: Sequence[str]
    """Sessions that are no longer stored."""
    asked: Sequence[Ask]
    """What owners are asked to do."""


Pause: TypeAlias = Callable[[float], bool]
"""Sleeps for at most so many seconds; False: do not wait any longer, and return what there is."""


@runtime_checkable
class Store(Protocol):
    """The seam between a tracker and whatever keeps its sessions.

    All methods may raise `StoreError` when the store does not answer; none raises for what one
    session's data look like.
    """

    async def commit(self, batch: Sequence[Write]) -> Sequence[Outcome]:
        """Makes the writes, in order, in as few round trips as the store allows; an outcome for each.

        Called by one task only, and not cancelled before its own timeout has passed.
        """

    async def read(self, session_id: str) -> Stored | None:
        """The newest entry of a session, with its events. May be cancelled, and called by many tasks."""

    async def list(self, query: Query) -> Page:
        """The newest entries of the sessions that `query` names. May be cancelled."""

    async def changes(self, mark: str | None, seen: Mapping[str, Seen | None]) -> Changes:
        """Waits until there is something new on the sessions in `seen`, or something is asked of an owner.

        Without a mark it may return at once, to say where the next call goes on. A session that is not
        known yet is given as None. Called by one task only; cancelled whenever
        that task's interest changes, after which the same `mark` is given again.
        """

    async def aclose(self) -> None:
        """Lets go of connections and threads; called last."""


@runtime_checkable
class HistoryStore(Protocol):
    """A store that can be asked for what earlier runs of pipelines have taught. A store need not be one."""

    async def history(self, pipeline: str) -> PipelineHistory | None:
        """What earlier runs of a pipeline have taught; None: nothing. May be cancelled."""
        ...

    async def histories(self) -> Sequence[str]:
        """The pipelines of which there is a history, the one that ran last first. May be cancelled."""
        ...
