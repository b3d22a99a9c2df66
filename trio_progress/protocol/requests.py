"""What a client sends over a WebSocket, and how it is read: strictly, for anybody may send it.

A message is refused, with a text that says why, where it is not JSON, has a member twice or one that is not
known, holds NaN or an infinity, or nests deeper than any message needs.
"""

from __future__ import annotations

import json
import re
from itertools import islice
from typing import Annotated, Any, Final, TypeAlias, TypeVar

import msgspec

from ..errors import ProtocolError

MAX_DEPTH: Final = 4
"""How deeply a request may nest; `subscribe` with its `labels` is 2."""

MOST_DIGITS: Final = 20
"""Digits of a number in a row."""

EXPLAINED: Final = 2000
"""Texts, brackets and numbers of a refused message among which the reason is looked for."""

SessionId: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._:-]{1,128}$")]
SessionOrAll: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^([A-Za-z0-9._:-]{1,128}|[*])$")]
FASTEST: Final = 1000
"""Updates a second that may be asked for."""

MOST_EVENTS: Final = 10_000
"""Retained custom events that may be asked for."""

LONGEST_SINCE: Final = 200
"""Characters of a resume token."""

Label: TypeAlias = Annotated[str, msgspec.Meta(max_length=200)]


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A value of which each member is known."""


class Subscribe(_Strict, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="subscribe"):
    """Asks for the messages of a session, or with `"*"` for the list of sessions."""

    session: SessionOrAll
    since: Annotated[str, msgspec.Meta(max_length=LONGEST_SINCE)] | None = None
    max_hz: Annotated[float, msgspec.Meta(gt=0, le=FASTEST)] | None = None
    events: Annotated[int, msgspec.Meta(ge=0, le=MOST_EVENTS)] | None = None
    wait: bool = False
    close: bool = False
    labels: Annotated[dict[Label, Label], msgspec.Meta(max_length=32)] = {}


class Unsubscribe(_Strict, frozen=True, kw_only=True, tag_field="type", tag="unsubscribe"):
    """Asks for no more of them."""

    session: SessionOrAll


class Auth(_Strict, frozen=True, kw_only=True, tag_field="type", tag="auth"):
    """Says who asks."""

    token: Annotated[str, msgspec.Meta(max_length=8192)]


class Cancel(_Strict, frozen=True, kw_only=True, tag_field="type", tag="cancel"):
    """Asks for a session's end."""

    session: SessionId
    reason: Annotated[str, msgspec.Meta(max_length=10_000)] | None = None


class Ping(_Strict, frozen=True, kw_only=True, tag_field="type", tag="ping"):
    """Asks for a sign of life; a browser has no other."""

    data: Annotated[str, msgspec.Meta(max_length=200)] = ""


class CancelBody(_Strict, frozen=True, kw_only=True):
    """The body of `POST /sessions/{id}/cancel`."""

    reason: Annotated[str, msgspec.Meta(max_length=10_000)] | None = None


Request: TypeAlias = Subscribe | Unsubscribe | Auth | Cancel | Ping


_REQUEST: Final[msgspec.json.Decoder[Request]] = msgspec.json.Decoder(Request)
_CANCEL: Final = msgspec.json.Decoder(CancelBody)


def decode_request(data: str | bytes) -> Request:
    """The request in `data`.

    Raises:
        ProtocolError: It is not one; the message says why.
    """
    return _decoded(_REQUEST, data, "a request of this protocol")


def decode_cancel(data: bytes) -> CancelBody:
    """The body of a request to cancel; an empty one has no reason.

    Raises:
        ProtocolError: It is not one; the message says why.
    """
    return _decoded(_CANCEL, data, "a body for cancel") if data.strip() else CancelBody()


_T = TypeVar("_T")


def _decoded(decoder: msgspec.json.Decoder[_T], data: str | bytes, what: str) -> _T:
    """What msgspec reads of it, which stops at the first byte that does not fit; no member may be there twice.

    Anybody may send this, and the event loop waits for it: each step goes over the text once.
    """
    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
    except UnicodeError:
        raise ProtocolError("not UTF-8") from None
    try:
        found = decoder.decode(text)
    except UnicodeError:
        raise ProtocolError("a text holds half of a surrogate pair") from None
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ProtocolError(_reason(text, error, what)) from None
    json.loads(text, object_pairs_hook=_no_member_twice, parse_int=str, parse_float=str)
    return found


def _no_member_twice(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise ProtocolError(f"the member {name!r:.100} is there twice")
        seen.add(name)


_TOKEN: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]|[0-9]++|NaN|Infinity', re.DOTALL)
_PAIR: Final = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F])")


def _reason(text: str, error: Exception, what: str) -> str:
    """Why it was refused. What has a reason that msgspec does not name is looked for among the first tokens."""
    depth = 0
    for match in islice(_TOKEN.finditer(text), EXPLAINED):
        word = match[0]
        if word[0] == '"':
            if any(pair[1] for pair in _PAIR.finditer(word)):
                return "a text holds half of a surrogate pair"
        elif word in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                return f"nested too deeply: {MAX_DEPTH} levels are allowed"
        elif word in "]}":
            depth -= 1
        elif not word.isdecimal():
            return f"{word} is no JSON"
        elif len(word) > MOST_DIGITS:
            return f"a number of {len(word)} digits is too large"
    if isinstance(error, RecursionError):
        return f"nested too deeply: {MAX_DEPTH} levels are allowed"
    if isinstance(error, msgspec.ValidationError):
        return f"not {what}: {error!s:.300}"
    return f"not JSON: {error!s:.300}"
