"""The messages of a subscription, and the resume token that each carries.

1. The first message is `Subscribed`. It says whether what was missed follows (`recovered`), or else why
   a whole `Snapshot` does.
2. Then come, in any order but each in its own: `Update`s of the state, `CustomEvent`s, `Bookmark`s.
   Within an epoch `seq` only rises.
3. An `Update` carries absolute values: the head whole, and each phase that changed since `from`. It
   fits onto the state at exactly `from`; onto any other it is refused (`ProtocolError`). Who has asked for that is
   not sent large values again that this state has as well (`kept`).
4. `Gap` tells how many custom events were lost to this subscriber, at the place where they are missing.
5. `End` is the last one. When the owner changed, a second `Subscribed` (never recovered) and a
   `Snapshot` of the new epoch come in place of it.

Over the wire there are a few more, which are about the list of sessions, about one request, or about the
connection: `Listed`, `Listing`, `Unlisted`, `ErrorMessage`, `Pong`. `server/PROTOCOL.md` tells of all.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec

from ..errors import ProtocolError
from .merge import Bookmark as Bookmark  # noqa: PLC0414 - given on: all messages are had here
from .merge import Update as Update  # noqa: PLC0414
from .snapshot import ENCODER, Head, SessionStatus, Snapshot, datetime

SUBPROTOCOL: Final = "trio-progress.v1"
"""The name of the protocol, and of the WebSocket subprotocol that carries it."""

SPARSE: Final = f"{SUBPROTOCOL}.sparse"
"""A subprotocol that is offered besides, by clients who take updates that leave out what they have."""

Verb: TypeAlias = Literal["read", "cancel", "delete"]
"""What somebody may do with a session."""


_TOKEN: Final = re.compile(r"([0-9a-f]{1,16})\.([0-9a-f]{1,16})\.([0-9a-f]{1,16})")


resume_token: Final[Callable[[int, int, int], str]] = "{:x}.{:x}.{:x}".format
"""The `Position` of an epoch, a state and an event as the token that clients hand back, opaque to them."""


class Position(NamedTuple):
    """How far a subscriber has come: the newest state begun (0: none yet), and the newest event."""

    epoch: int
    seq: int
    event: int

    @classmethod
    def parse(cls, token: str) -> Position | None:
        """The position in `token`; None where it is not one of ours."""
        found = _TOKEN.fullmatch(token)
        return None if found is None else cls(*(int(part, 16) for part in found.groups()))


class Subscribed(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="subscribed"):
    """The subscription stands. `reason` says why nothing was recovered: "new", "bad_token", "epoch", "too_old"."""

    session: str
    recovered: bool
    reason: str | None
    server_time: datetime
    verbs: tuple[Verb, ...] = ()
    """What the subscriber may do with the session; a server says it, a tracker has nobody to ask."""


class CustomEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="event"):
    """One event that the pipeline emitted: the `n`-th of its session, at state `seq`."""

    session: str
    n: int
    seq: int
    resume: str
    name: str
    data: Any
    at: datetime


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

    def message(self) -> Snapshot:
        """The message that it carries."""
        return self.state.resuming(self.resume)


_Followed: TypeAlias = Subscribed | SnapshotFrame | Update | CustomEvent | Bookmark | Gap | End
ServerMessage: TypeAlias = _Followed | Listed | Listing | Unlisted | ErrorMessage | Pong
"""All that a server sends, as it travels."""
_DECODER: msgspec.json.Decoder[_Followed] = msgspec.json.Decoder(_Followed)
_WIRE_DECODER: msgspec.json.Decoder[ServerMessage] = msgspec.json.Decoder(ServerMessage)


def encode_message(message: WireMessage) -> bytes:
    """The message as JSON, as the protocol has it."""
    if isinstance(message, Snapshot):
        state = msgspec.structs.replace(message, resume="") if message.resume else message
        return ENCODER.encode(SnapshotFrame(session=message.id, seq=message.seq, resume=message.resume, state=state))
    return ENCODER.encode(message)


def decode_message(data: bytes | str) -> Message:
    """The message of a subscription in `data`.

    Raises:
        ProtocolError: It is not one.
    """
    message: Message = _decoded(_DECODER, data)
    return message


def decode_wire_message(data: bytes | str) -> WireMessage:
    """The message in `data`, whatever it is about.

    Raises:
        ProtocolError: It is not one.
    """
    message: WireMessage = _decoded(_WIRE_DECODER, data)
    return message


def _decoded(decoder: msgspec.json.Decoder[Any], data: bytes | str) -> Any:
    try:
        message = decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ProtocolError(f"not a message of this protocol: {error}") from None
    return message.message() if isinstance(message, SnapshotFrame) else message
