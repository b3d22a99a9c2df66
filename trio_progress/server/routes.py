"""What is answered to each request, once it is known that the asker may ask at all."""

from __future__ import annotations

import importlib
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias, final

import msgspec

from ..errors import CorruptEntryError, ProgressError, ProtocolError, SessionActiveError, SessionNotFoundError
from ..protocol.messages import Unlisted
from ..protocol.requests import decode_cancel
from ..protocol.snapshot import ENDED, Snapshot, as_text
from ..state import checks
from .auth.grants import VERBS, Grant
from .files import matches
from .http import Request, Response, as_json, error
from .list.pages import sessions_shared
from .outbox import UNREADABLE
from .runtime import ServerRuntime, note_asked
from .schema import Config, Readiness, SessionList, encoded
from .sse import EventStream
from .websocket import SUBPROTOCOL

Answer: TypeAlias = Response | EventStream
Handler: TypeAlias = "Callable[[Request, Grant, str], Awaitable[Answer]]"

STREAM_HEADERS: Final[Mapping[str, str]] = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "Connection": "close",
    "X-Accel-Buffering": "no",  # nginx would hold events back
}

_SESSION = re.compile(r"sessions/([^/]+)(?:/(events|cancel))?\Z")


def _content_policy(host: str) -> str:
    # 'self' covers WebSockets in today's browsers; those before were told by name. The host was checked.
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        f"connect-src 'self' ws://{host} wss://{host}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


class RefusedError(Exception):
    """The request is answered with this error."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


def bad(message: str) -> RefusedError:
    """What was asked is out of range."""
    return RefusedError(error(400, "bad_request", message))


@final
class Routes:
    """The paths of one server."""

    def __init__(self, runtime: ServerRuntime) -> None:
        self._runtime = runtime
        self._schema = encoded()

    def public(self, request: Request, path: str) -> Response | None:
        """What needs no grant: the page and what it is made of, the schema; None for everything else."""
        files = self._runtime.files
        name = {"": "index.html", "index.html": "index.html"}.get(path, path.removeprefix("static/"))
        if path == "schema.json":
            response = Response(body=self._schema)
        elif (path in ("", "index.html") or path.startswith("static/")) and name in files:
            response = files[name].response(request)
        else:
            return None
        if request.method not in ("GET", "HEAD"):
            return _not_allowed("GET, HEAD")
        if name.endswith(".html"):
            response.headers["Content-Security-Policy"] = _content_policy(request.headers.get("host", ""))
        return response

    def probe(self, request: Request, path: str) -> Response | None:
        """The probes, which say nothing of any session; None for everything else."""
        if path == "healthz":
            return Response(body=b"ok\n", content_type="text/plain; charset=utf-8")
        if path == "readyz":
            return self._readiness()
        return None

    def _readiness(self) -> Response:
        statistics, stopping = self._runtime.tracker.statistics(), self._runtime.draining
        readiness = Readiness(
            ready=statistics.store_up and not stopping,
            stopping=stopping,
            store_up=statistics.store_up,
            read_lag=round(statistics.read_lag, 3),
            sessions_followed=statistics.sessions_followed,
        )
        return as_json(readiness, 200 if readiness.ready else 503, Cache_Control="no-store")

    def metrics(self, request: Request) -> Response:
        """What a scrape is given."""
        try:
            exposition = importlib.import_module("trio_progress.metrics").exposition
        except ModuleNotFoundError:
            return error(404, "not_found", "metrics need the extra: pip install 'trio-progress[metrics]'")
        content_type, body = exposition(self._runtime.tracker, request.headers.get("accept"))
        return Response(body=body, content_type=content_type)

    def config(self, grant: Grant | None) -> Response:
        """What a page needs to know."""
        auth = self._runtime.auth.kind
        config = Config(
            protocol=SUBPROTOCOL,
            auth=auth,
            authenticated=grant is not None,
            name=None if grant is None else grant.name,
            verbs=() if grant is None else tuple(verb for verb in VERBS if verb in grant.verbs),
            keepalive=self._runtime.settings.keepalive,
        )
        response = as_json(config)
        response.headers["Cache-Control"] = "no-store"
        return response

    async def answer(self, request: Request, path: str, grant: Grant, address: str) -> Answer:
        """What is answered to somebody with this grant, at this address."""
        try:
            return await self._answer(request, path, grant, address)
        except RefusedError as refused:
            return refused.response
        except SessionNotFoundError:
            return _not_found()
        except CorruptEntryError:
            return error(500, "unreadable", UNREADABLE)
        except ProgressError:
            return error(503, "unavailable", "the store does not answer now: try again later")

    async def _answer(self, request: Request, path: str, grant: Grant, address: str) -> Answer:
        method = "GET" if request.method == "HEAD" else request.method
        if path == "metrics" and method == "GET":
            if not ("read" in grant.verbs and grant.everything):
                return error(403, "not_allowed", "metrics are for those who may read all sessions")
            return self.metrics(request)
        if path == "sessions":
            return await self._sessions(request, grant) if method == "GET" else _not_allowed("GET, HEAD")
        if path == "events":
            return self._list_events(request, grant) if method == "GET" else _not_allowed("GET, HEAD")
        found = _SESSION.match(path)
        if found is None:
            return _not_found()
        session, what = found[1], found[2]
        try:
            checks.session_id(session)
        except ValueError:
            return _not_found()  # Nothing can have that id.
        if what is None and method == "GET":
            return await self._session(request, grant, session)
        if what is None and method == "DELETE":
            return await self._delete(grant, session, address)
        if what == "events" and method == "GET":
            return await self._events(request, grant, session)
        if what == "cancel" and method == "POST":
            return await self._cancel(request, grant, session, address)
        return _not_allowed({None: "GET, HEAD, DELETE", "events": "GET, HEAD", "cancel": "POST"}[what])

    async def _seen(self, grant: Grant, session: str) -> Snapshot:
        """The session, if there is one that may be seen.

        Raises:
            SessionNotFoundError: There is none, or it may not be seen.
        """
        feed = await self._runtime.hub.seen(session, lambda labels: grant.allows("read", session, labels))
        return feed.source.snapshot()

    async def _session(self, request: Request, grant: Grant, session: str) -> Response:
        snapshot = await self._seen(grant, session)
        etag = f'W/"{snapshot.epoch:x}.{snapshot.seq:x}.{snapshot.liveness}"'
        headers = {"ETag": etag, "Cache-Control": "no-cache", "Vary": "Authorization, Cookie"}
        if matches(request, etag):
            return Response(status=304, headers=headers)
        return Response(body=msgspec.json.encode(snapshot, enc_hook=as_text), headers=headers)

    async def _sessions(self, request: Request, grant: Grant) -> Response:
        query = request.query
        status, cursor = query.get("status"), query.get("cursor")
        limit = _whole(query, "limit", 1, 1000) or 100
        try:
            labels = checks.labels(_labels(request), self._runtime.tracker.settings.limits)
            sessions, after = await sessions_shared(self._runtime.hub, grant, labels, status, limit, cursor)
        except (ValueError, TypeError) as problem:
            raise bad(str(problem)) from None
        seen = tuple(one for one in sessions if grant.allows("read", one.id, one.labels))
        response = as_json(SessionList(sessions=seen, cursor=after))
        response.headers["Cache-Control"] = "no-store"
        return response

    def _list_events(self, request: Request, grant: Grant) -> EventStream:
        return EventStream(
            session=None,
            grant=grant,
            max_hz=_pace(request.query),
            labels=_labels(request),
            headers=dict(STREAM_HEADERS),
            head_only=request.method == "HEAD",
        )

    async def _events(self, request: Request, grant: Grant, session: str) -> Answer:
        query = request.query
        since = request.headers.get("last-event-id") or query.get("since") or None
        wait = _flag(query, "wait")
        try:
            snapshot = await self._seen(grant, session)
        except SessionNotFoundError:
            if not wait:
                raise
        else:
            if since == snapshot.resume and snapshot.status in ENDED:
                return Response(status=204)  # All was told; at this an EventSource stops asking.
        max_hz = _pace(query)
        return EventStream(
            session=session,
            grant=grant,
            since=since,
            interval=0.0 if max_hz is None else 1.0 / max_hz,
            events=_whole(query, "events", 0, 10_000),
            wait=wait,
            labels={},
            headers=dict(STREAM_HEADERS),
            head_only=request.method == "HEAD",
        )

    async def _cancel(self, request: Request, grant: Grant, session: str, address: str) -> Response:
        snapshot = await self._seen(grant, session)
        if not grant.allows("cancel", session, snapshot.labels):
            return error(403, "not_allowed", "you may not cancel this session")
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if request.body and kind != "application/json":
            raise bad("the body must be application/json")
        try:
            asked = decode_cancel(request.body)
        except ProtocolError as problem:
            raise bad(str(problem)) from None
        if snapshot.status in ENDED:
            return error(409, "ended", f"the session has ended already: {snapshot.status}")
        note_asked("cancel", session, address)
        await self._runtime.tracker.cancel(session, asked.reason)
        return as_json({"session": session}, 202)

    async def _delete(self, grant: Grant, session: str, address: str) -> Response:
        snapshot = await self._seen(grant, session)
        if not grant.allows("delete", session, snapshot.labels):
            return error(403, "not_allowed", "you may not delete this session")
        note_asked("delete", session, address)
        try:
            await self._runtime.tracker.delete(session)
        except SessionActiveError:
            return error(409, "active", "the session is open: cancel it first")
        self._runtime.forget(Unlisted(session=session), snapshot.labels)
        return Response(status=204)


def _not_found() -> Response:
    return error(404, "not_found", "there is no such session, or no such path")


def _not_allowed(allowed: str) -> Response:
    return error(405, "bad_request", f"this path takes {allowed}", Allow=allowed)


def _whole(query: Mapping[str, str], name: str, least: int, most: int) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    if not re.fullmatch(r"\d{1,6}", text) or not least <= int(text) <= most:
        raise bad(f"{name} must be a whole number from {least} to {most}")
    return int(text)


def _pace(query: Mapping[str, str]) -> float | None:
    text = query.get("max_hz")
    if text is None:
        return None
    if not re.fullmatch(r"\d{1,4}(\.\d{1,6})?", text) or not 0 < float(text) <= 1000:
        raise bad("max_hz must be a number above 0 and up to 1000")
    return float(text)


def _flag(query: Mapping[str, str], name: str) -> bool:
    text = query.get(name, "0").lower()
    if text not in ("0", "1", "true", "false"):
        raise bad(f"{name} must be 1 or 0")
    return text in ("1", "true")


def _labels(request: Request) -> dict[str, str]:
    found: dict[str, str] = {}
    for label in request.labels:
        name, colon, value = label.partition(":")
        if not colon or not name:
            raise bad("label must be NAME:VALUE")
        found[name] = value
    if len(found) > 32:
        raise bad("at most 32 labels")
    return found
