"""The messages of a subscription, and the resume token that each carries.

1. The first message is `Subscribed`. It says whether what was missed follows (`recovered`), or else why
   a whole `Snapshot` does.
2. Then come, in any order but each in its own: `Update`s of the state, `CustomEvent`s, `Bookmark`s.
   Within an epoch `seq` only rises.
3. An `Update` carries absolute values: the head whole, and each phase that changed since `from`. It
   fits onto the state at exactly `from`; onto any other it is refused (`ProtocolError`).
4. `Gap` tells how many custom events were lost to this subscriber, at the place where they are missing.
5. `End` is the last one. When the owner changed, a second `Subscribed` (never recovered) and a
   `Snapshot` of the new epoch come in place of it.

Over the wire there are a few more, which are about the list of sessions, about one request, or about the
connection: `Listed`, `Listing`, `Unlisted`, `ErrorMessage`, `Pong`. `server/PROTOCOL.md` tells of all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import msgspec

from ..errors import ProtocolError
from .clock import datetime_class
from .snapshot import Head, Liveness, PhaseSnapshot, PhaseUpdate, PhaseValues, SessionStatus, Snapshot, as_text

if TYPE_CHECKING:
    from datetime import datetime
else:
    datetime = datetime_class()  # Where this is imported while the time is frozen, the name is a subclass.

Verb: TypeAlias = Literal["read", "cancel", "delete"]
"""What somebody may do with a session."""


class Position(NamedTuple):
    """How far a subscriber has come: the newest state begun (0: none yet), and the newest event."""

    epoch: int
    seq: int
    event: int

    def token(self) -> str:
        """The position as the token that clients hand back, opaque to them."""
        return f"{self.epoch:x}.{self.seq:x}.{self.event:x}"

    @classmethod
    def parse(cls, token: str) -> Position | None:
        """The position in `token`; None where it is not one of ours."""
        parts = token.split(".")
        if len(parts) != 3 or not all(0 < len(part) <= 16 and part.isalnum() for part in parts):
            return None
        try:
            return cls(*(int(part, 16) for part in parts))
        except ValueError:
            return None


class Subscribed(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="subscribed"):
    """The subscription stands. `reason` says why nothing was recovered: "new", "bad_token", "epoch", "too_old"."""

    session: str
    recovered: bool
    reason: str | None
    server_time: datetime
    verbs: tuple[Verb, ...] = ()
    """What the subscriber may do with the session; a server says it, a tracker has nobody to ask."""


class Update(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="update"):
    """What changed between the states `from_` and `seq`; absolute values, what is absent is unchanged."""

    session: str
    from_: int = msgspec.field(name="from")
    seq: int
    resume: str
    head: Head
    phases: tuple[PhaseUpdate, ...]
    folded: tuple[tuple[str, ...], ...] = ()
    """The paths of phases that folded into their parents: take them out of the tree."""

    def apply(self, snapshot: Snapshot) -> Snapshot:
        """The state after this update, from the one before it.

        Raises:
            ProtocolError: `snapshot` is not the state that this update starts from.
        """
        if (snapshot.epoch, snapshot.seq) != (self.head.epoch, self.from_):
            raise ProtocolError(
                f"this update goes from seq {self.from_} of epoch {self.head.epoch} and does not fit onto seq "
                f"{snapshot.seq} of epoch {snapshot.epoch}: ask for a new snapshot"
            )
        tree = _Tree(None, snapshot.phases)
        for path in self.folded:
            tree.remove(path)
        for phase in self.phases:
            tree.put(phase)
        values = msgspec.structs.asdict(self.head)
        return Snapshot(**values, phases=tree.freeze(), resume=self.resume)


class CustomEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="event"):
    """One event that the pipeline emitted: the `n`-th of its session, at state `seq`."""

    session: str
    n: int
    seq: int
    resume: str
    name: str
    data: Any
    at: datetime


class Bookmark(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="bookmark"):
    """A heartbeat: nothing newer than `seq` has been published, and how alive the session is."""

    session: str
    seq: int
    resume: str
    liveness: Liveness
    heartbeat_at: datetime | None
    progressed_at: datetime | None
    server_time: datetime


class Gap(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="gap"):
    """So many custom events were dropped before they could be sent here.

    `resume` goes on behind them, so that nobody is told twice of the same loss.
    """

    session: str
    dropped: int
    resume: str = ""


class End(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="end"):
    """The session has ended, and this is the last message.

    `persisted_seq` is what the store holds; where it is below `seq`, the final state did not reach it.
    """

    session: str
    seq: int
    status: SessionStatus
    resumable: bool
    persisted_seq: int | None
    resume: str


Message: TypeAlias = Subscribed | Snapshot | Update | CustomEvent | Bookmark | Gap | End


class Listed(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="listed"):
    """A session as a list shows it: it has come, has changed, or has ended."""

    session: str
    head: Head
    verbs: tuple[Verb, ...]


class Listing(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="listing"):
    """All of the list's first part has been sent."""

    session: Literal["*"] = "*"
    complete: bool
    """False: there are older sessions, to be had by `GET /sessions` from `cursor` on."""
    cursor: str | None


class Unlisted(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="unlisted"):
    """A session was deleted."""

    session: str


ErrorCode: TypeAlias = Literal[
    "bad_request",
    "unauthorized",
    "not_allowed",
    "not_found",
    "active",
    "ended",
    "too_large",
    "too_many",
    "unavailable",
    "unreadable",
]


class ErrorMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="error"):
    """What was asked is not done; `session` where it was about one."""

    code: ErrorCode
    message: str
    session: str | None = None


class Pong(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="pong"):
    """The answer to a `ping`, with its data."""

    data: str


WireMessage: TypeAlias = Message | Listed | Listing | Unlisted | ErrorMessage | Pong


class SnapshotFrame(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="snapshot"):
    """How a `Snapshot` travels: the state in an envelope like the others'."""

    session: str
    seq: int
    resume: str
    state: Snapshot


_ENCODER = msgspec.json.Encoder(enc_hook=as_text)
_DECODER = msgspec.json.Decoder(Subscribed | SnapshotFrame | Update | CustomEvent | Bookmark | Gap | End)


def encode_message(message: WireMessage) -> bytes:
    """The message as JSON, as the protocol has it."""
    if isinstance(message, Snapshot):
        state = msgspec.structs.replace(message, resume="") if message.resume else message
        return _ENCODER.encode(SnapshotFrame(session=message.id, seq=message.seq, resume=message.resume, state=state))
    return _ENCODER.encode(message)


def decode_message(data: bytes | str) -> Message:
    """The message in `data`.

    Raises:
        ProtocolError: It is not one.
    """
    try:
        message: Subscribed | SnapshotFrame | Update | CustomEvent | Bookmark | Gap | End = _DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ProtocolError(f"not a message of this protocol: {error}") from None
    if isinstance(message, SnapshotFrame):
        return msgspec.structs.replace(message.state, resume=message.resume)
    return message


class _Tree:
    """A phase tree that an update can be put into; keeps the order in which phases came.

    What the update says nothing of is handed on as it is, unlooked at: a tree of a thousand phases of which three move
    costs the three, and a look at the names beside them.
    """

    __slots__ = ("_children", "_values")

    def __init__(self, values: PhaseValues | None, phases: tuple[PhaseSnapshot, ...]) -> None:
        self._values = values
        self._children: dict[str, PhaseSnapshot | _Tree] = {phase.name: phase for phase in phases}

    def _below(self, name: str) -> _Tree | None:
        child = self._children.get(name)
        if isinstance(child, PhaseSnapshot):
            child = self._children[name] = _Tree(child, child.phases)
        return child

    def remove(self, path: tuple[str, ...]) -> None:
        parent = self
        for name in path[:-1]:
            below = parent._below(name)
            if below is None:
                return  # It came and went under a parent that came, itself, after the state that this goes onto.
            parent = below
        parent._children.pop(path[-1], None)

    def put(self, phase: PhaseUpdate) -> None:
        parent = self
        for name in phase.path[:-1]:
            below = parent._below(name)
            if below is None:
                raise ProtocolError(f"an update speaks of the unknown phase {'/'.join(phase.path[:-1])!r}")
            parent = below
        known = parent._below(phase.name)
        if known is None:
            parent._children[phase.name] = _Tree(phase, ())
        else:
            known._values = phase

    def freeze(self) -> tuple[PhaseSnapshot, ...]:
        return tuple(
            [child if isinstance(child, PhaseSnapshot) else child._frozen() for child in self._children.values()]
        )

    def _frozen(self) -> PhaseSnapshot:
        values = self._values
        assert values is not None
        given = {name: getattr(values, name) for name in PhaseValues.__struct_fields__}
        return PhaseSnapshot(**given, phases=self.freeze())
