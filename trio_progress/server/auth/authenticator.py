"""Who asks, and what they may do: the authenticators of a server, asked one after another under a deadline."""

from __future__ import annotations

import base64
import binascii
import logging
import time
from collections.abc import Callable, Sequence
from typing import Final, Literal, final

import trio

from ...telemetry.logs import Throttle, log_event
from .grants import ALL, Authenticate, Credentials, Grant
from .tokens import SharedSecret, SignedTokens

PATIENCE: Final = 10.0
"""Seconds that an authenticator of one's own may take."""

UNAVAILABLE: Final = "authentication is temporarily unavailable; try again"

LOOK_EVERY: Final = 30.0
"""Seconds after which the wall clock is looked at again: it may be set, and a machine may sleep."""

BEARER: Final = "bearer."
"""What a subprotocol that carries a token begins with."""


class UnauthorizedError(Exception):
    """There is no grant; the text says why, and is sent to the client."""

    def __init__(self, why: str, *, expired: bool = False) -> None:
        super().__init__(why)
        self.expired = expired


class AuthUnavailableError(Exception):
    """An authenticator did not answer, or has failed."""


@final
class Trusted:
    """Lets in whom a trusted proxy names in a header: for single sign-on in front of the server.

    Args:
        header: The header's name; believed only from `trusted_proxies`, which must strip it from what clients send.
        grant: What a user may, by name; None for nothing. Unless given, everybody may read and cancel the sessions
            that carry their name in the label `user`.

    Raises:
        ValueError, TypeError: The header has no name, or `grant` is no function.
    """

    wants_token = False

    def __init__(self, header: str, grant: Callable[[str], Grant | None] | None = None) -> None:
        given: object = header
        if not isinstance(given, str) or not given.strip():
            raise ValueError(f"header must be the name of a header, such as 'X-Forwarded-User', not {header!r:.200}")
        if grant is not None and not callable(grant):
            raise TypeError(f"grant must be a function that takes a user's name, or None, not {grant!r:.200}")
        self._header = header.strip().lower()
        self._grant = _own_sessions if grant is None else grant

    async def __call__(self, credentials: Credentials) -> Grant | None:
        """The user's grant."""
        await trio.lowlevel.checkpoint()
        name = credentials.headers.get(self._header, "").strip()
        return self._grant(name) if credentials.trusted and name else None


def _own_sessions(name: str) -> Grant:
    return Grant(verbs=frozenset({"read", "cancel"}), labels={"user": name}, name=name)


@final
class Auth:
    """All authenticators of a server.

    Args:
        given: None for nobody asked; a secret, which is then good as a token and for signing tokens; an
            authenticator, or several of all these.

    Raises:
        ValueError, TypeError: It is none of them.
    """

    def __init__(self, given: object, wall_clock: Callable[[], float] = time.time) -> None:
        self._wall_clock = wall_clock
        self._throttle = Throttle()
        self._authenticators: list[Authenticate] = [] if given is None else _authenticators(given, wall_clock)
        if given is not None and not self._authenticators:
            raise ValueError("auth is empty: give None to ask nobody, which is for loopback only")

    @property
    def kind(self) -> Literal["none", "token", "other"]:
        """What a page has to know of it."""
        if not self._authenticators:
            return "none"
        wants_token = any(getattr(one, "wants_token", False) for one in self._authenticators)
        return "token" if wants_token else "other"

    async def grant(self, credentials: Credentials) -> Grant:
        """What the credentials grant.

        Raises:
            UnauthorizedError: Nothing.
            AuthUnavailableError: That cannot be said now.
        """
        if not self._authenticators:
            await trio.lowlevel.checkpoint()
            return ALL
        expired = False
        for authenticate in self._authenticators:
            grant = await self._ask(authenticate, credentials)
            if grant is not None and not grant.expired(self._wall_clock()):
                return grant
            expired = expired or grant is not None
        if expired:
            raise UnauthorizedError("the token has expired: get a new one", expired=True)
        raise UnauthorizedError("a token is required" if credentials.token is None else "the token is not valid")

    async def until_expired(self, grant: Grant) -> None:
        """Waits until the grant has ended; for ever, if it does not end."""
        if grant.expires_at is None:
            await trio.sleep_forever()
        else:
            while not grant.expired(now := self._wall_clock()):  # noqa: ASYNC110 - no event tells of a clock's time
                await trio.sleep(min(max(grant.expires_at - now, 0.001), LOOK_EVERY))
            await trio.lowlevel.checkpoint()

    async def _ask(self, authenticate: Authenticate, credentials: Credentials) -> Grant | None:
        with trio.move_on_after(PATIENCE):
            try:
                grant: object = await authenticate(credentials)
            except Exception as error:
                self._log_failure(authenticate, "has failed", error)
                raise AuthUnavailableError(UNAVAILABLE) from error
            if grant is not None and not isinstance(grant, Grant):
                self._log_failure(authenticate, "has given neither a Grant nor None")
                raise AuthUnavailableError(UNAVAILABLE)
            return grant
        self._log_failure(authenticate, f"did not answer in {PATIENCE:g} s")
        raise AuthUnavailableError(UNAVAILABLE)

    def _log_failure(self, authenticate: Authenticate, what: str, error: Exception | None = None) -> None:
        """Logs it, now and then: anybody can make it come as often as they ask."""
        # Its repr may hold what it was given, a key.
        named = authenticate if hasattr(authenticate, "__qualname__") else type(authenticate)
        name = f"{named.__module__}.{named.__qualname__}"
        text = "the authenticator %s %s"
        log_event(logging.ERROR, "authenticator_failed", text, name, what, throttle=self._throttle, error=error)


def _authenticators(given: object, wall_clock: Callable[[], float]) -> list[Authenticate]:
    if isinstance(given, str):
        return [SharedSecret(given), SignedTokens(given, wall_clock=wall_clock)]
    if isinstance(given, Sequence):
        return [found for one in given for found in _authenticators(one, wall_clock)]
    if callable(given):
        return [given]
    raise TypeError(
        "auth must be None, a secret, SharedSecret(...), SignedTokens(...), an async function that takes "
        f"Credentials, or several of these; not a {type(given).__name__}"
    )


def token_of(headers: dict[str, str]) -> str | None:
    """The bearer token in the headers: in `Authorization`, or among the WebSocket subprotocols."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    for protocol in headers.get("sec-websocket-protocol", "").split(","):
        name = protocol.strip()
        if name.startswith(BEARER):
            return _decoded(name.removeprefix(BEARER))
    return None


def _decoded(text: str) -> str:
    """A token in base64url; what is none becomes a token that nobody has."""
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("utf-8")
    except (binascii.Error, ValueError):
        return "\N{REPLACEMENT CHARACTER}"


def cookies_of(header: str) -> dict[str, str]:
    """The cookies in a `Cookie` header, by name; the first of each, as browsers put the most special one first."""
    found: dict[str, str] = {}
    for pair in header.split(";"):
        name, equals, value = pair.strip().partition("=")
        if equals and name:
            found.setdefault(name, value.strip('"'))
    return found
