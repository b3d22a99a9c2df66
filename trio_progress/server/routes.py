"""What becomes of each request: the checks in their order, who asks, and then the path.

In this order, and before anything is looked at: `Host`, origin, base path, credentials.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias, final
from urllib.parse import quote

import trio

from ..errors import CorruptEntryError, ProgressError, ProtocolError, SessionActiveError, SessionNotFoundError
from ..protocol.messages import SUBPROTOCOL, Unlisted
from ..protocol.requests import MOST_EVENTS, Subscribe, decode_cancel
from ..protocol.snapshot import ENDED
from ..state import checks
from .answers import (
    UNREADABLE,
    Answer,
    EventStream,
    RefusedError,
    Request,
    Response,
    Upgrade,
    as_json,
    error,
    with_headers,
)
from .auth.authenticator import AuthUnavailableError, UnauthorizedError, cookies_of, token_of
from .auth.grants import VERBS, Credentials, Grant
from .files import matches
from .handshake import check_handshake, takes_sparse
from .list.pages import visible_sessions
from .runtime import ServerRuntime, log_client_request
from .schema import Config, Readiness, SessionList, encoded


@final
@dataclass(frozen=True, slots=True)
class Call:
    """A request by somebody who may ask: with this grant, at this address, about this session if it names one."""

    request: Request
    grant: Grant
    address: str
    session: str = ""


Methods: TypeAlias = Mapping[str, Callable[[Call], Awaitable[Answer]]]
"""What a path takes; HEAD is answered as GET is."""

STREAM_HEADERS: Final[Mapping[str, str]] = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would hold events back
}

_SESSION = re.compile(r"sessions/([^/]+)(?:/(events|cancel))?\Z")


def _content_policy(host: str) -> str:
    # 'self' covers WebSockets in today's browsers; older ones need its name. The host was checked.
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        f"connect-src 'self' ws://{host} wss://{host}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


@final
class Routes:
    """The paths of one server."""

    def __init__(self, runtime: ServerRuntime) -> None:
        self._runtime = runtime
        self._schema = encoded()
        self._paths: Final[dict[str, Methods]] = {
            "sessions": {"GET": self._sessions},
            "events": {"GET": self._list_events},
        }
        if runtime.settings.admin_port is None:
            self._paths["metrics"] = {"GET": self._metrics}
        self._session_paths: Final[dict[str | None, Methods]] = {
            None: {"GET": self._session, "DELETE": self._delete},
            "events": {"GET": self._events},
            "cancel": {"POST": self._cancel},
        }

    async def dispatch(self, request: Request, address: str, *, base: str, trusted: bool) -> Answer | Upgrade:
        """What a request over the main port is answered, with all its headers.

        Args:
            request: What is asked.
            address: The client's.
            base: What all paths begin with, with a slash at its end.
            trusted: Whether it came through a trusted proxy.
        """
        answer: Answer | Upgrade | None = self._answer_anybody(request, base)
        if answer is None:
            answer = await self._answer_known(request, request.path[len(base) :], address, trusted=trusted)
        else:
            await trio.lowlevel.checkpoint()
        if isinstance(answer, Upgrade):
            return answer
        return with_headers(answer, self._runtime.origins.cors(request.headers))

    async def _answer_known(self, request: Request, path: str, address: str, *, trusted: bool) -> Answer | Upgrade:
        """Answers what is to be granted."""
        headers = request.headers
        cookies = cookies_of(headers.get("cookie", ""))
        credentials = Credentials(
            token=token_of(headers),
            headers=headers,
            cookies=cookies,
            address=address,
            trusted=trusted,
            scope=request.scope,
        )
        try:
            if path == "ws":
                return await self._upgrade(request, credentials)
            grant = await self._runtime.auth.grant(credentials)
        except AuthUnavailableError as problem:
            return error(503, "unavailable", str(problem))
        except UnauthorizedError as problem:
            if path == "config":
                return self._config(None)
            return error(401, "unauthorized", str(problem), WWW_Authenticate='Bearer realm="trio-progress"')
        if path == "config":
            return self._config(grant)
        return await self.answer(request, path, grant, address)

    def _answer_anybody(self, request: Request, base: str) -> Response | None:
        """Answers what is not to be looked at any further, and what is for everybody; None for all else."""
        headers, origins = request.headers, self._runtime.origins
        if not origins.hosted(headers):
            return error(421, "not_allowed", "this host name is not served: add it to `hosts` (--hosts)")
        page = request.method == "GET" and request.path in (base, base.rstrip("/"), f"{base}index.html")
        if origins.foreign(headers, page=page):
            return error(403, "not_allowed", "this origin is not allowed: add it to `origins` (--origins)")
        if request.method == "OPTIONS":
            return Response(status=204, headers=origins.preflight() if origins.allowed(headers.get("origin")) else {})
        if base != "/" and request.path == base.rstrip("/"):
            return Response(status=308, headers={"Location": quote(base)})
        if not request.path.startswith(base):
            return error(404, "not_found", "there is no such path")
        path = request.path[len(base) :]
        probe = self._probe(path) if self._runtime.settings.admin_port is None else None
        return probe or self._public(request, path)

    async def _upgrade(self, request: Request, credentials: Credentials) -> Response | Upgrade:
        refused = check_handshake(request)
        if refused is None and self._runtime.draining:
            refused = error(503, "unavailable", "the server stops")
        if refused is not None:
            return refused
        auth = self._runtime.auth
        upgrade = Upgrade(credentials, None, takes_sparse(request))
        try:
            return replace(upgrade, grant=await auth.grant(credentials))
        except UnauthorizedError as problem:
            if problem.expired:
                return replace(upgrade, turned_away=(4005, str(problem)))
            if credentials.token is None and auth.kind == "token":
                return upgrade
            if "authorization" in request.headers or auth.kind == "other":
                raise
            return replace(upgrade, turned_away=(4500, str(problem)))

    def _public(self, request: Request, path: str) -> Response | None:
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

    def admin(self, request: Request) -> Response:
        """What the port of the probes and metrics answers."""
        path = request.path.removeprefix("/")
        if request.method not in ("GET", "HEAD"):
            return _not_allowed("GET, HEAD")
        if path == "metrics":
            return self.metrics(request)
        return self._probe(path) or error(404, "not_found", "there is no such path")

    def _probe(self, path: str) -> Response | None:
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
            store_partitions_down=statistics.store_partitions_down,
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

    def _config(self, grant: Grant | None) -> Response:
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
        return as_json(config, Cache_Control="no-store")

    async def answer(self, request: Request, path: str, grant: Grant, address: str) -> Answer:
        """What is answered to somebody with this grant, at this address."""
        try:
            return await self._answer(Call(request, grant, address), path)
        except RefusedError as refused:
            return refused.response
        except SessionNotFoundError:
            return _not_found()
        except CorruptEntryError:
            return error(500, "unreadable", UNREADABLE)
        except ProgressError:
            return error(503, "unavailable", "the store does not answer now; try again later")

    async def _answer(self, call: Call, path: str) -> Answer:
        methods = self._paths.get(path)
        if methods is None:
            found = _SESSION.match(path)
            if found is None:
                return _not_found()
            try:
                checks.session_id(found[1])
            except ValueError:
                return _not_found()  # Nothing can have that id.
            methods, call = self._session_paths[found[2]], replace(call, session=found[1])
        handler = methods.get("GET" if call.request.method == "HEAD" else call.request.method)
        if handler is None:
            return _not_allowed(", ".join("GET, HEAD" if method == "GET" else method for method in methods))
        return await handler(call)

    async def _metrics(self, call: Call) -> Response:
        if not ("read" in call.grant.verbs and call.grant.everything):
            return error(403, "not_allowed", "metrics are for those who may read all sessions")
        return self.metrics(call.request)

    async def _session(self, call: Call) -> Response:
        snapshot = await self._runtime.seen(call.grant, call.session)
        etag = f'W/"{snapshot.epoch:x}.{snapshot.seq:x}.{snapshot.liveness}"'
        headers = {"ETag": etag, "Cache-Control": "no-cache", "Vary": "Authorization, Cookie"}
        if matches(call.request, etag):
            return Response(status=304, headers=headers)
        return Response(body=snapshot.to_json().encode(), headers=headers)

    async def _sessions(self, call: Call) -> Response:
        request, grant, query = call.request, call.grant, call.request.query
        status, cursor = query.get("status"), query.get("cursor")
        limit = _whole(query, "limit", 1, 1000) or 100
        try:
            limits = self._runtime.tracker.settings.limits
            labels = checks.listed_by(_labels(request), query.get("parent"), limits)
            sessions, after = await visible_sessions(self._runtime.hub, grant, labels, status, limit, cursor)
        except (ValueError, TypeError) as problem:
            raise RefusedError(400, "bad_request", str(problem)) from None
        seen = tuple(one for one in sessions if grant.allows("read", one.id, one.labels))
        return as_json(SessionList(sessions=seen, cursor=after), Cache_Control="no-store")

    async def _list_events(self, call: Call) -> EventStream:
        return _stream(call, labels=_labels(call.request))

    async def _events(self, call: Call) -> Answer:
        request, query = call.request, call.request.query
        since = request.headers.get("last-event-id") or query.get("since") or None
        wait = _flag(query, "wait")
        try:
            snapshot = await self._runtime.seen(call.grant, call.session)
        except SessionNotFoundError:
            if not wait:
                raise
        else:
            if since == snapshot.resume and snapshot.status in ENDED:
                return Response(status=204)  # All was sent; at this an EventSource stops asking.
        return _stream(call, since=since, events=_whole(query, "events", 0, MOST_EVENTS), wait=wait)

    async def _cancel(self, call: Call) -> Response:
        request, session = call.request, call.session
        snapshot = await self._runtime.seen(call.grant, session, "cancel")
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if request.body and kind != "application/json":
            raise RefusedError(400, "bad_request", "the body must be application/json")
        try:
            asked = decode_cancel(request.body)
        except ProtocolError as problem:
            raise RefusedError(400, "bad_request", str(problem)) from None
        await self._runtime.cancel(snapshot, asked.reason, call.address)
        return as_json({"session": session}, 202)

    async def _delete(self, call: Call) -> Response:
        session = call.session
        snapshot = await self._runtime.seen(call.grant, session, "delete")
        log_client_request("delete", session, call.address)
        try:
            await self._runtime.tracker.delete(session)
        except SessionActiveError:
            return error(409, "active", "the session is open: cancel it first")
        self._runtime.forget(Unlisted(session=session), snapshot.labels)
        return Response(status=204)


def _stream(call: Call, **asked: Any) -> EventStream:
    request = Subscribe(session=call.session or "*", max_hz=_pace(call.request.query), **asked)
    return EventStream(
        request=request,
        grant=call.grant,
        headers=dict(STREAM_HEADERS),
        head_only=call.request.method == "HEAD",
        sparse=_flag(call.request.query, "sparse"),
    )


def _not_found() -> Response:
    return error(404, "not_found", "there is no such session, or no such path")


def _not_allowed(allowed: str) -> Response:
    return error(405, "bad_request", f"this path takes {allowed}", Allow=allowed)


def _whole(query: Mapping[str, str], name: str, least: int, most: int) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,6}", text) or not least <= int(text) <= most:
        raise RefusedError(400, "bad_request", f"{name} must be a whole number from {least} to {most}")
    return int(text)


def _pace(query: Mapping[str, str]) -> float | None:
    text = query.get("max_hz")
    if text is None:
        return None
    if not re.fullmatch(r"\d{1,4}(\.\d{1,6})?", text) or not 0 < float(text) <= 1000:
        raise RefusedError(400, "bad_request", "max_hz must be a number above 0 and up to 1000")
    return float(text)


def _flag(query: Mapping[str, str], name: str) -> bool:
    text = query.get(name, "0").lower()
    if text not in ("0", "1", "true", "false"):
        raise RefusedError(400, "bad_request", f"{name} must be 1 or 0")
    return text in ("1", "true")


def _labels(request: Request) -> dict[str, str]:
    found: dict[str, str] = {}
    for label in request.labels:
        name, colon, value = label.partition(":")
        if not colon or not name:
            raise RefusedError(400, "bad_request", "label must be NAME:VALUE")
        found[name] = value
    if len(found) > 32:
        raise RefusedError(400, "bad_request", "at most 32 labels")
    return found
