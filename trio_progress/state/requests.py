"""What a client sends over a WebSocket, and how it is read: strictly, for anybody may send it.

A message is refused, with a text that says why, where it is not JSON, has a member twice or one that is not
known, holds NaN or an infinity, or nests deeper than any message needs.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Final, NoReturn, TypeAlias

import msgspec

from ..errors import ProtocolError

MAX_DEPTH: Final = 4
"""How deeply a request may nest; `subscribe` with its `labels` is 2."""

SessionId: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._:-]{1,128}$")]
SessionOrAll: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^([A-Za-z0-9._:-]{1,128}|[*])$")]
FASTEST: Final = 1000
"""Updates a second that may be asked for."""

LONGEST_SINCE: Final = 200
"""Characters of a resume token."""

Label: TypeAlias = Annotated[str, msgspec.Meta(max_length=200)]


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A value of which each member is known."""


class Subscribe(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="subscribe"
):
    """Asks for the messages of a session, or with `"*"` for the list of sessions."""

    session: SessionOrAll
    since: Annotated[str, msgspec.Meta(max_length=LONGEST_SINCE)] | None = None
    max_hz: Annotated[float, msgspec.Meta(gt=0, le=FASTEST)] | None = None
    events: Annotated[int, msgspec.Meta(ge=0, le=10_000)] | None = None
    wait: bool = False
    close: bool = False
    labels: Annotated[dict[Label, Label], msgspec.Meta(max_length=32)] = {}


class Unsubscribe(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="unsubscribe"
):
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


def decode_request(data: str | bytes) -> Request:
    """The request in `data`.

    Raises:
        ProtocolError: It is not one; the message says why.
    """
    value = strict_json(data)
    try:
        request: Request = msgspec.convert(value, Request)
    except msgspec.ValidationError as error:
        raise ProtocolError(f"not a request of this protocol: {error}") from None
    return request


def decode_cancel(data: bytes) -> CancelBody:
    """The body of a request to cancel; an empty one has no reason.

    Raises:
        ProtocolError: It is not one; the message says why.
    """
    if not data.strip():
        return CancelBody()
    value = strict_json(data)
    try:
        return msgspec.convert(value, CancelBody)
    except msgspec.ValidationError as error:
        raise ProtocolError(f"not a body for cancel: {error}") from None


def strict_json(data: str | bytes) -> Any:
    """What the JSON in `data` says, which must be plain: no member twice, no NaN, not deep.

    Raises:
        ProtocolError: It is not.
    """
    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
    except UnicodeDecodeError:
        raise ProtocolError("not UTF-8") from None
    if _depth(text) > MAX_DEPTH:
        raise ProtocolError(f"nested too deeply: {MAX_DEPTH} levels are allowed")
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer)
    except json.JSONDecodeError as error:
        raise ProtocolError(f"not JSON: {error.msg} at {error.pos}") from None
    if text.isascii() and "\\u" not in text:
        return value
    return _without_surrogates(value)


_STRING = re.compile(r'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_NESTING = re.compile(r"[\[\]{}]")


def _depth(text: str) -> int:
    """How deeply the text nests, before anything is built of it: a parser that recurses is not asked to."""
    depth = deepest = 0
    for bracket in _NESTING.findall(_STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ProtocolError(f"the member {twice!r:.100} is there twice")
    return found


def _constant(name: str) -> NoReturn:
    raise ProtocolError(f"{name} is no JSON")


def _integer(digits: str) -> int:
    if len(digits) > 20:
        raise ProtocolError(f"a number of {len(digits)} digits is too large")
    return int(digits)


def _without_surrogates(value: Any) -> Any:
    """Lone surrogates, which an escape can bring in and which no UTF-8 can carry on, are refused."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ProtocolError("a text holds half of a surrogate pair") from None
    elif isinstance(value, dict):
        for name, item in value.items():
            _without_surrogates(name)
            _without_surrogates(item)
    elif isinstance(value, list):
        for item in value:
            _without_surrogates(item)
    return value
