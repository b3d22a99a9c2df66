"""What becomes of a request: the checks in their order, who asks, and then the routes.

In this order, and before anything is looked at: `Host`, origin, base path, credentials.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Final, final

import trio

from ..protocol.messages import SUBPROTOCOL
from .answers import Answer, Request, Response, Upgrade, error
from .auth.authenticator import AuthUnavailableError, UnauthorizedError, cookies_of, token_of
from .auth.grants import Credentials

if TYPE_CHECKING:
    from .routes import Routes
    from .runtime import ServerRuntime


@final
class Dispatcher:
    """Decides what becomes of each request that comes over the main port."""

    def __init__(self, runtime: ServerRuntime, routes: Routes) -> None:
        self._runtime = runtime
        self._routes = routes
        self._base: Final = runtime.settings.base_path

    async def dispatch(self, request: Request, address: str, *, trusted: bool) -> Answer | Upgrade:
        """What a request is answered.

        Args:
            request: What is asked.
            address: The client's.
            trusted: Whether it came through a trusted proxy.
        """
        answered = self._answer_anybody(request)
        if answered is not None:
            await trio.lowlevel.checkpoint()
            return answered
        headers = request.headers
        credentials = Credentials(
            token=token_of(headers),
            headers=headers,
            cookies=cookies_of(headers.get("cookie", "")),
            address=address,
            trusted=trusted,
        )
        path = request.path[len(self._base) :]
        if path == "ws":
            return await self._upgrade(request, credentials)
        try:
            grant = await self._runtime.auth.grant(credentials)
        except UnauthorizedError as problem:
            return self._routes.config(None) if path == "config" else unauthorized(problem)
        except AuthUnavailableError as problem:
            return error(503, "unavailable", str(problem))
        if path == "config":
            return self._routes.config(grant)
        return await self._routes.answer(request, path, grant, address)

    def _answer_anybody(self, request: Request) -> Response | None:
        """Answers what is not to be looked at any further, and what is for everybody; None for all else."""
        base, headers, origins = self._base, request.headers, self._runtime.origins
        if not origins.hosted(headers):
            return error(421, "not_allowed", "this host name is not served: add it to `hosts` (--hosts)")
        page = request.method == "GET" and request.path in (base, base.rstrip("/"), f"{base}index.html")
        if origins.foreign(headers, page=page):
            return error(403, "not_allowed", "this origin is not allowed: add it to `origins` (--origins)")
        if request.method == "OPTIONS":
            return Response(status=204, headers=origins.preflight() if origins.allowed(headers.get("origin")) else {})
        if base != "/" and request.path == base.rstrip("/"):
            return Response(status=308, headers={"Location": base})
        if not request.path.startswith(base):
            return error(404, "not_found", "there is no such path")
        path = request.path[len(base) :]
        probe = self._routes.probe(path) if self._runtime.settings.admin_port is None else None
        return probe or self._routes.public(request, path)

    async def _upgrade(self, request: Request, credentials: Credentials) -> Response | Upgrade:
        refused = _check_upgrade(request)
        if refused is None and self._runtime.draining:
            refused = error(503, "unavailable", "the server stops")
        if refused is not None:
            return refused
        auth = self._runtime.auth
        try:
            return Upgrade(credentials, await auth.grant(credentials))
        except AuthUnavailableError as problem:
            return error(503, "unavailable", str(problem))
        except UnauthorizedError as problem:
            if problem.expired:
                return Upgrade(credentials, None, (4005, str(problem)))
            if credentials.token is None and auth.kind == "token":
                return Upgrade(credentials, None)
            if "authorization" in request.headers or auth.kind == "other":
                return unauthorized(problem)
            return Upgrade(credentials, None, (4500, str(problem)))


def unauthorized(problem: UnauthorizedError) -> Response:
    """The answer to somebody who may see nothing."""
    return error(401, "unauthorized", str(problem), WWW_Authenticate='Bearer realm="trio-progress"')


def _check_upgrade(request: Request) -> Response | None:
    """Refuses what is no handshake of this protocol (RFC 6455, section 4.2.1)."""
    headers = request.headers
    if request.method != "GET" or not request.upgrades:
        return error(426, "bad_request", "this path takes only WebSockets", Upgrade="websocket")
    if headers.get("sec-websocket-version") != "13":
        return error(426, "bad_request", "Sec-WebSocket-Version must be 13", Sec_WebSocket_Version="13")
    if not _is_key(headers.get("sec-websocket-key", "")):
        return error(400, "bad_request", "Sec-WebSocket-Key must be 16 bytes in base64")
    if SUBPROTOCOL not in map(str.strip, headers.get("sec-websocket-protocol", "").split(",")):
        return error(400, "bad_request", f"Sec-WebSocket-Protocol must offer {SUBPROTOCOL}")
    return None


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False
