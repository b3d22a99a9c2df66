"""HTTP/1.1 on one connection, by h11: requests in, under a deadline and caps; responses out.

What follows a request's head that asks for an upgrade is kept apart (`Request.trailing`): it is the first of the
new protocol, and no body. (One server on Trio died of it.)
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from http import HTTPStatus
from typing import Final, final
from urllib.parse import parse_qsl, unquote

import h11
import trio

from .answers import RefusedError, Request, Response
from .transport import PIECE, Transport

LARGEST_HEAD: Final = 32 * 1024
"""Bytes of a request's head, and of the chunk headers of a body."""

LARGEST_BODY: Final = 64 * 1024

MOST_HEADERS: Final = 100
"""Headers of a request, and lines that they stand on: a folded one has several."""

MOST_CHUNKS: Final = 1000
"""Chunks of a body: each takes as long to read as a header does, and may bring a single byte."""

CHUNKS_AT_ONCE: Final = 100
"""Pieces of a body that are read before others have their turn."""

_HEAD_END = re.compile(rb"\n\r?\n")
_WELL_FORMED_TARGET = re.compile(rb"/[!-~]*\Z")


@final
class HttpConnection:
    """The HTTP part of one connection.

    Args:
        transport: Where the bytes come from.
        head_patience: Seconds that a request may take to come, from when it is waited for.
        write_patience: Seconds that the client may take to read 64 KiB.
    """

    def __init__(self, transport: Transport, *, head_patience: float, write_patience: float) -> None:
        self.transport = transport
        self.head_patience = head_patience
        self._write_patience = write_patience
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=LARGEST_HEAD)
        self._raw = bytearray()
        self._lines = 0
        self._looked_at = 0
        """How many line ends there are in the first so many bytes of what came raw, until the head's end."""
        self.waiting = True
        """Whether a request is waited for, and nothing of it has come."""
        self.receiving = True
        """Whether a request is waited for, or is on its way."""

    async def request(self, *, spent: float = 0.0) -> Request | None:
        """The next request; None where the client has gone, or sends none in time.

        Args:
            spent: Seconds of its time that are gone already.

        Raises:
            RefusedError: It is none, too large, or came too slowly.
        """
        self.waiting = not self._raw
        self.receiving = True
        with trio.move_on_after(max(self.head_patience - spent, 0.0)):
            try:
                request = await self._read()
                self.receiving = False
                return request
            except h11.RemoteProtocolError as problem:
                status = problem.error_status_hint or 400
                if status == 431:
                    raise RefusedError(431, "too_large", "the request's head is too large") from None
                raise RefusedError(400, "bad_request", "this is not a well-formed HTTP/1.1 request") from None
        if self.waiting:
            return None
        raise RefusedError(408, "bad_request", "the request came too slowly")

    async def _read(self) -> Request | None:
        event = await self._event()
        if not isinstance(event, h11.Request):
            return None
        if not event.http_version.startswith(b"1."):  # Of those below 1, and of later minor ones, see RFC 9110, 2.5.
            version = event.http_version.decode("ascii")
            raise RefusedError(505, "bad_request", f"HTTP/{version} is not supported: send HTTP/1.1")
        headers = joined_headers(event.headers)
        trailing, _ = self._h11.trailing_data
        head = bytes(self._raw[: len(self._raw) - len(trailing)])
        if len(head) > LARGEST_HEAD:
            raise RefusedError(431, "too_large", f"a request's head is at most {LARGEST_HEAD} bytes")
        if "transfer-encoding" in headers and "content-length" in headers:
            # RFC 9112, section 6.3: somebody may be read by two servers in two ways.
            raise RefusedError(400, "bad_request", "send Content-Length or Transfer-Encoding, not both")
        if not _WELL_FORMED_TARGET.match(event.target):
            raise RefusedError(400, "bad_request", "the request's target must be a path")
        # One to anything else is ignored (RFC 9110, section 7.8): Java's client asks for h2c with each first request.
        upgrade = "websocket" in headers.get("upgrade", "").lower()
        if upgrade and ("transfer-encoding" in headers or headers.get("content-length", "0") != "0"):
            raise RefusedError(400, "bad_request", "an upgrade has no body")
        body = b""
        if not upgrade:
            body = await self._body(headers)
            trailing = b""
        path, _, query = event.target.decode("ascii").partition("?")
        values, labels = parse_query(query)
        return Request(
            method=event.method.decode("ascii"),
            path=decode_path(path),
            query=values,
            labels=labels,
            headers=headers,
            body=body,
            raw=head,
            trailing=trailing,
        )

    async def _body(self, headers: Mapping[str, str]) -> bytes:
        if headers.get("expect", "").lower() == "100-continue":
            raise RefusedError(417, "bad_request", "Expect: 100-continue is not supported: send the body at once")
        too_large = RefusedError(413, "too_large", f"a body is at most {LARGEST_BODY} bytes")
        if int(headers.get("content-length", "0")) > LARGEST_BODY:  # h11 has seen that it is a number.
            raise too_large
        body = bytearray()
        pieces = chunks = 0
        while isinstance(event := await self._event(), h11.Data):
            body += event.data
            pieces += 1
            chunks += event.chunk_start
            if len(body) > LARGEST_BODY:
                raise too_large
            if chunks > MOST_CHUNKS:
                raise RefusedError(413, "too_large", f"a body has at most {MOST_CHUNKS} chunks")
            if pieces % CHUNKS_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
        if not isinstance(event, h11.EndOfMessage):
            raise RefusedError(400, "bad_request", "the body was cut off")
        return bytes(body)

    async def _event(self) -> object:
        while True:
            if self._h11.their_state is h11.IDLE:
                self._count_lines()
            event = self._h11.next_event()
            if event is not h11.NEED_DATA:
                return event
            data = bytes(await self.transport.receive_some(16384))
            self.waiting = False
            if len(self._raw) < 2 * LARGEST_HEAD:
                self._raw += data
            self._h11.receive_data(data)

    def _count_lines(self) -> None:
        """Counts the lines of a head before it is parsed, which takes long for each.

        Raises:
            RefusedError: There are too many.
        """
        end = _HEAD_END.search(self._raw, max(self._looked_at - 2, 0))
        upto = len(self._raw) if end is None else end.end()
        self._lines += self._raw.count(b"\n", self._looked_at, upto)
        self._looked_at = max(upto, self._looked_at)
        if self._lines > MOST_HEADERS + 2:  # The request's own line, and the empty one.
            raise _too_many_headers()

    async def respond(self, request: Request | None, response: Response, *, last: bool = False) -> bool:
        """Sends a response; True where another request may follow on this connection.

        Raises:
            trio.BrokenResourceError: The client has gone, or does not read.
        """
        body = b"" if response.status in (204, 304) else response.body
        headers = list(response.fields().items())
        if request is None or last:
            headers.append(("Connection", "close"))
        if self._states()[0] not in (h11.IDLE, h11.SEND_RESPONSE):
            return False
        data = self._h11.send(
            h11.Response(status_code=response.status, headers=headers, reason=HTTPStatus(response.status).phrase)
        )
        assert data is not None
        if body and not (request is not None and request.method == "HEAD"):
            data += self._h11.send(h11.Data(data=body)) or b""
        try:
            data += self._h11.send(h11.EndOfMessage()) or b""
        except h11.LocalProtocolError:
            last = True  # A request that was never understood: h11 does not know how its answer is framed.
        await self._send(data)
        if request is None or last or self._states() != (h11.DONE, h11.DONE):
            return False
        self._raw = bytearray(self._h11.trailing_data[0])
        self._lines = self._looked_at = 0
        self._h11.start_next_cycle()
        return True

    def _states(self) -> tuple[object, object]:
        return self._h11.our_state, self._h11.their_state

    async def _send(self, data: bytes) -> None:
        for at in range(0, len(data), PIECE):
            with trio.move_on_after(self._write_patience) as scope:
                await self.transport.send_all(data[at : at + PIECE])
            if scope.cancelled_caught:
                raise trio.BrokenResourceError("the client does not read")


def _too_many_headers() -> RefusedError:
    return RefusedError(431, "too_large", f"a request has at most {MOST_HEADERS} headers, a line each")


def joined_headers(pairs: Collection[tuple[bytes, bytes]]) -> dict[str, str]:
    """The headers of a request by lower-case name.

    Raises:
        RefusedError: There are too many, or one of which there may be only one comes again.
    """
    if len(pairs) > MOST_HEADERS:
        raise _too_many_headers()
    found: dict[str, str] = {}
    for raw_name, raw_value in pairs:
        # A name of other bytes, which over HTTP/2 may come from an ASGI server, is one that nobody asks for.
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        if name in found and name in ("host", "origin", "authorization", "content-length", "sec-websocket-key"):
            raise RefusedError(400, "bad_request", f"the header {name} may be sent only once")
        glue = "; " if name == "cookie" else ", "
        found[name] = f"{found[name]}{glue}{value}" if name in found else value
    return found


def parse_query(text: str) -> tuple[dict[str, str], list[str]]:
    """The first value of each name of a query; and all of its labels, of which there may be several.

    Raises:
        RefusedError: It is not well-formed, or has too many.
    """
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=50)
    except (ValueError, UnicodeDecodeError):
        raise RefusedError(400, "bad_request", "the query is not well-formed") from None
    return dict(reversed(pairs)), [value for name, value in pairs if name == "label"]


def decode_path(path: str) -> str:
    """A path without its percent signs.

    Raises:
        RefusedError: It is not UTF-8.
    """
    try:
        return unquote(path, errors="strict")
    except UnicodeDecodeError:
        raise RefusedError(400, "bad_request", "the path is not UTF-8") from None
