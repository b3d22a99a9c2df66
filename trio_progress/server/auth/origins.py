"""Who may ask at all: from which pages, under which names, by way of which proxies.

A page of another origin must not read or steer sessions with the rights of whoever looks at it: a foreign
`Origin`, and `Sec-Fetch-Site: cross-site`, are refused before anything else, unless the origin was allowed. A
name that somebody else's DNS points here (rebinding) is refused by its `Host`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias, final
from urllib.parse import urlsplit

from ...telemetry.redaction import redacted

Network: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?\Z")

_WITH_PORT = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5}")
"""An address as some proxies write it, Azure's for one."""

MOST_HOPS: Final = 32
"""Proxies in a row that are believed."""

_USUAL: Final = {"http": 80, "https": 443}


def checked_origin(text: object) -> str:
    """An origin as browsers write it in the header: scheme, host, and a port that is not the scheme's own.

    Raises:
        ValueError: It is none.
    """
    scheme, _, rest = text.lower().partition("://") if isinstance(text, str) else ("", "", "")
    match = _HOST.match(rest.removesuffix("/"))
    host = None if match is None else _written(match[1])
    usual = _USUAL.get(scheme)
    if match is None or host is None or usual is None or not 0 < int(match[2] or usual) < 65536:
        raise ValueError(
            "an origin must be like 'https://app.example.org' or 'http://localhost:3000', one for each host, not "
            f"{redacted(repr(text)):.200}"
        )
    port = int(match[2] or usual)
    return f"{scheme}://{host}" + ("" if port == usual else f":{port}")


def _written(host: str) -> str | None:
    """A host as browsers write it; None for what only looks like an IPv6 address."""
    if not host.startswith("["):
        return host
    try:
        return f"[{ipaddress.IPv6Address(host[1:-1]).compressed}]"
    except ValueError:
        return None


@final
class Origins:
    """Which origins and hosts are let in.

    Args:
        origins: Other origins whose pages may read sessions, by CORS.
        hosts: Names under which the server is reached, beside IP addresses and `localhost`.
        encrypted: Whether the server itself speaks TLS, so that a page over plain HTTP cannot be its own.
    """

    def __init__(self, origins: Iterable[str], hosts: Iterable[str], *, encrypted: bool = False) -> None:
        self._schemes = ("https",) if encrypted else ("http", "https")  # A proxy may have taken the TLS off.
        self._origins = frozenset(map(checked_origin, origins))
        named = {str(urlsplit(origin).hostname) for origin in self._origins}
        self._hosts = frozenset(_checked_host(host) for host in hosts) | named

    def hosted(self, headers: Mapping[str, str]) -> bool:
        """Whether the request's `Host` is one of ours."""
        match = _HOST.match(headers.get("host", ""))
        if match is None:
            return False
        name = match[1].lower().rstrip(".")
        if name == "localhost" or name.endswith(".localhost") or name in self._hosts:
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True

    def foreign(self, headers: Mapping[str, str], *, page: bool = False) -> bool:
        """Whether the request comes from a page of an origin that is not let in.

        Args:
            headers: The request's.
            page: Whether it asks for the page itself, which holds nothing and may be linked to from anywhere.
        """
        origin = headers.get("origin")
        if origin is not None:
            return not self._own(origin, headers) and not self.allowed(origin)
        if headers.get("sec-fetch-site", "").lower() != "cross-site":
            return False
        followed = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        return not (page and followed)

    def allowed(self, origin: str | None) -> bool:
        """Whether it is one of the other origins that were allowed."""
        return origin is not None and origin.lower() in self._origins

    def _own(self, origin: str, headers: Mapping[str, str]) -> bool:
        """Whether it is the server's own, by the name that the request has for it."""
        try:
            own = {checked_origin(f"{scheme}://{headers.get('host', '')}") for scheme in self._schemes}
            return checked_origin(origin) in own
        except ValueError:
            return False

    def cors(self, headers: Mapping[str, str]) -> dict[str, str]:
        """What is added to a response, so that a page of an allowed origin can read it."""
        added = {"Vary": "Origin"} if self._origins else {}
        origin = headers.get("origin")
        if self.allowed(origin):
            assert origin is not None
            added["Access-Control-Allow-Origin"] = origin
            added["Access-Control-Expose-Headers"] = "ETag"
            added["Cross-Origin-Resource-Policy"] = "cross-origin"
        return added

    @staticmethod
    def preflight() -> dict[str, str]:
        """What is added to the answer to a preflight."""
        return {
            "Access-Control-Allow-Methods": "GET, HEAD, POST, DELETE",
            "Access-Control-Allow-Headers": "Authorization, Content-Type, Last-Event-ID, If-None-Match",
            "Access-Control-Max-Age": "600",
        }


def _checked_host(host: object) -> str:
    if not isinstance(host, str) or not re.fullmatch(r"[A-Za-z0-9._-]{1,253}", host):
        raise ValueError(f"a host must be a name without a port, such as 'progress.example.org', not {host!r:.200}")
    return host.lower().rstrip(".")


@final
class Proxies:
    """The proxies that are believed in what they say of a client.

    Args:
        trusted: Addresses or networks, such as `10.0.0.0/8`.
    """

    def __init__(self, trusted: Iterable[str]) -> None:
        self._networks: list[Network] = [ipaddress.ip_network(one, strict=False) for one in trusted]

    def trusts(self, address: str) -> bool:
        """Whether the address is a trusted proxy's."""
        return any(_within(address, network) for network in self._networks)

    def client(self, peer: str, headers: Mapping[str, str]) -> str:
        """The client's address: the peer's, or what a trusted one says in `X-Forwarded-For`.

        Of the addresses there the last one counts that is not a trusted proxy's itself: those before it were
        written by whoever sent the request.
        """
        address = peer
        hops = headers.get("x-forwarded-for", "").rsplit(",", MOST_HOPS)
        for hop in map(str.strip, reversed(hops[-MOST_HOPS:])):
            if not self.trusts(address):
                break
            match = _WITH_PORT.fullmatch(hop)
            named = hop if match is None else match[1] or match[2]
            try:
                ipaddress.ip_address(named)
            except ValueError:
                break
            address = named
        return address


def _within(address: str, network: Network) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed) in network


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what is bound to this host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
