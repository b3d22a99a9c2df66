"""The settings of a server, checked once."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, TypedDict, final

from ..settings import check_names
from ..state import checks
from ..state.quantities import integer
from .auth.authenticator import Auth
from .auth.origins import Origins, Proxies, is_loopback

DEFAULT_PORT = 8765

_BASE = re.compile(r"(?=/)(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~-]+)*/?")
"""What browsers and proxies pass on as it is."""


class ServerOptions(TypedDict, total=False):
    """The keywords of `ServerSettings`, for the type of what hands them on."""

    host: str
    auth: object
    ssl_context: ssl.SSLContext | None
    base_path: str
    origins: Iterable[str]
    hosts: Iterable[str]
    trusted_proxies: Iterable[str]
    admin_port: int | None
    admin_host: str
    keepalive: float
    request_timeout: float
    auth_timeout: float
    write_timeout: float
    drain_timeout: float | None
    max_connections: int
    max_connections_per_address: int | None
    max_subscriptions: int
    message_rate: float
    message_burst: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """The keywords of `serve` and `open_server`; all times in seconds.

    Args:
        host: What is bound; only this machine can reach the default.
        auth: Who is let in; see `Auth`. None asks nobody, which is for loopback only.
        ssl_context: For TLS; made by `ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)`, with a certificate.
        base_path: What all paths begin with, behind a proxy that passes it on: `/progress`.
        origins: Other origins whose pages may read sessions, such as `https://app.example.org`.
        hosts: Names under which the server is reached, beside IP addresses and `localhost`.
        trusted_proxies: Addresses or networks of proxies that are believed in `X-Forwarded-For`.
        admin_port: Probes and metrics have this port for themselves, and are not on the other one. It asks for
            no token, origin or host.
        admin_host: What that one is bound to.
        keepalive: How often a silent connection is asked for a sign of life; it has as long to give it.
        request_timeout: How long a request's head may take to come, and a connection may be idle.
        auth_timeout: How long the first message may take where it must say who asks.
        write_timeout: How long a peer may stay unwritable before it is dropped.
        drain_timeout: How long a stop waits for the sessions that are watched to end; above the tracker's
            `flush_timeout`, by a second unless given.
        max_connections: Connections at once; fewer where the limit on descriptors leaves no more.
        max_connections_per_address: Of one client's address; unless given 500, or a quarter of all if that is less.
        max_subscriptions: Of one connection.
        message_rate: Messages and pings a second that a client may send, on average.
        message_burst: At once.
    """

    host: str = "127.0.0.1"
    auth: object = None
    ssl_context: ssl.SSLContext | None = None
    base_path: str = "/"
    origins: Iterable[str] = ()
    hosts: Iterable[str] = ()
    trusted_proxies: Iterable[str] = ()
    admin_port: int | None = None
    admin_host: str = "127.0.0.1"
    keepalive: float = 20.0
    request_timeout: float = 10.0
    auth_timeout: float = 5.0
    write_timeout: float = 10.0
    drain_timeout: float | None = None
    max_connections: int = 10_000
    max_connections_per_address: int | None = None
    max_subscriptions: int = 100
    message_rate: float = 20.0
    message_burst: int = 200

    def __post_init__(self) -> None:
        given: dict[str, float] = {
            name: checks.number(name, getattr(self, name), above=0)
            for name in ("keepalive", "request_timeout", "auth_timeout", "write_timeout", "message_rate")
        }
        if self.drain_timeout is not None:
            given["drain_timeout"] = checks.number("drain_timeout", self.drain_timeout)
        for name in ("max_connections", "max_connections_per_address", "max_subscriptions", "message_burst"):
            if getattr(self, name) is not None or name != "max_connections_per_address":
                given[name] = checks.whole(name, getattr(self, name))
        for name, value in given.items():
            object.__setattr__(self, name, value)  # As a plain number, whatever came.
        for name in ("origins", "hosts", "trusted_proxies"):
            texts: Any = getattr(self, name)
            if isinstance(texts, (str, bytes)):
                raise TypeError(f"{name} must be several texts, such as [{texts!r:.100}], not one")
            object.__setattr__(self, name, tuple(texts))
        if not _BASE.fullmatch(self.base_path):
            raise ValueError(
                "base_path must begin with a slash, such as '/progress', and have nothing but A-Z a-z 0-9 . _ ~ - "
                f"between slashes, not {self.base_path!r:.200}"
            )
        object.__setattr__(self, "base_path", self.base_path.rstrip("/") + "/")
        if self.ssl_context is not None and not isinstance(self.ssl_context, ssl.SSLContext):
            raise TypeError(f"ssl_context must be an ssl.SSLContext or None, not {self.ssl_context!r:.200}")
        if not self.host:
            raise ValueError("host must be an address such as '127.0.0.1', or '0.0.0.0' for all of this machine")
        if self.auth is None and not is_loopback(self.host):
            raise ValueError(
                f"{self.host} can be reached from other machines, so `auth` is required: give `auth`, such as "
                "a secret of 32 characters or SignedTokens(...), or bind to 127.0.0.1"
            )
        # What is wrong in these is to be said at the call as well.
        Auth(self.auth)
        Origins(self.origins, self.hosts)
        Proxies(self.trusted_proxies)


def check_options(call: str, given: Iterable[str]) -> None:
    """Says which keyword is none of `ServerSettings`.

    Raises:
        TypeError: One is not known.
    """
    check_names(call, given, [one.name for one in fields(ServerSettings)])


def checked_port(what: str, port: object) -> int:
    """A port to bind; 0 for one that is free.

    Raises:
        ValueError: It is none.
    """
    plain = None if isinstance(port, bool) else integer(port)
    if plain is None or not 0 <= plain <= 65535:
        raise ValueError(f"{what} must be a whole number from 0 (any that is free) to 65535, not {port!r:.200}")
    return plain
