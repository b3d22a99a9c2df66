"""Where a Redis is, by a URL or a client: the server itself, the primary that Sentinel names, or nodes of a Cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import redis
from redis.connection import Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection, parse_url
from redis.exceptions import RedisError
from redis.sentinel import SentinelConnectionPool

from ...telemetry.redaction import redacted
from .keys import DEFAULT_PREFIX
from .sentinel import Sentinels, bounded, check_primary, settings_of, verified

_SCHEMES: Final = {
    "redis": (False, ""),
    "rediss": (True, ""),
    "redis-sentinel": (False, "sentinel"),
    "rediss-sentinel": (True, "sentinel"),
    "redis-cluster": (False, "cluster"),
    "rediss-cluster": (True, "cluster"),
}
"""What a URL begins with: whether it is TLS, and whether the hosts are sentinels, or nodes of a Cluster."""

_OURS: Final = (
    "prefix",
    "partitions",
    "service",
    "wait_replicas",
    "decode_responses",
    "retry_on_timeout",
    "retry_on_error",
    "protocol",
    "max_connections",
)
"""Options of a URL that are not for the connections."""

MAX_HOSTS: Final = 100
"""Sentinels or nodes that a URL may name."""

_NO_URL: Final = (
    "this URL names no Redis, expected redis://[USER:PASSWORD@]HOST[:PORT][/DB][?prefix=tp], or rediss:// for TLS; "
    "with Sentinel redis-sentinel://[USER:PASSWORD@]HOST:26379,HOST:26379[/DB]?service=mymaster "
    f"(at most {MAX_HOSTS} hosts), a Cluster redis-cluster://[USER:PASSWORD@]HOST:PORT,HOST:PORT/ without a DB; "
    "in a password / # ? @ are written %2F %23 %3F %40, and options need values of their kind"
)
"""Says nothing of what the URL is: any part of it may be a password that was not escaped."""


class Node(NamedTuple):
    """Where a node of a Cluster is."""

    host: str
    port: int

    def __str__(self) -> str:
        return _joined(self.host, self.port)


@final
class Server:
    """How to connect to one Redis: makes the pools that calls take their connections from.

    Args:
        settings: What a pool is made with, for each anew.
        address: The URL without secrets.
        sentinels: They say which server is the primary; None: the settings name the server.
        seeds: Nodes of a Cluster, of which any knows the others; none: it is no Cluster.
    """

    __slots__ = ("_found", "_sentinels", "_settings", "address", "failovers", "seeds")

    def __init__(
        self, settings: dict[str, Any], address: str, sentinels: Sentinels | None = None, seeds: Sequence[Node] = ()
    ) -> None:
        self._settings = settings
        self._sentinels = sentinels
        self.seeds = seeds
        self._found: tuple[str, int] | None = None
        self.failovers = 0
        """How often the primary was another one than before."""
        self.address = address

    @property
    def moves(self) -> bool:
        """Whether it may be another server each time that a pool is made."""
        return self._sentinels is not None

    def at(self, node: Node) -> Server:
        """One node of the Cluster."""
        return Server(self._settings | {"host": node.host, "port": node.port}, f"{self.address} (node {node})")

    @classmethod
    def of_url(cls, url: str, prefix: str | None) -> tuple[Server, dict[str, str]]:
        """The server that a URL names, and the options of it that are ours; of prefixes the given one counts.

        Raises:
            ValueError: `url` names no Redis.
        """
        try:
            parts = urlsplit(url)
            options = dict(parse_qsl(parts.query, keep_blank_values=True))
            secure, kind = _SCHEMES[parts.scheme]
            by_sentinel = kind == "sentinel"
            user, hosts = _hosts_of(parts.netloc, 26379 if by_sentinel else 6379)
            # One host only, and none of the options that are for Sentinel: that is what redis-py understands.
            netloc = f"{user}{'localhost' if kind else parts.netloc.removeprefix(user)}"
            mine = {name: value for name, value in options.items() if not name.startswith("sentinel_")}
            plain = parts._replace(scheme="rediss" if secure else "redis", netloc=netloc, query=urlencode(mine))
            settings = parse_url(urlunsplit(plain))
            settings.setdefault("port", 6379)
        except (KeyError, ValueError):
            raise ValueError(_NO_URL) from None
        database = parts.path.strip("/")
        # What stands behind a bare # or ? may be the rest of a password, and what stands before it a port.
        cut = parts.fragment or any("@" in name or ("@" in options[name] and "pass" not in name) for name in options)
        if (len(hosts) > 1 and not kind) or not hosts or cut or database.strip("0123456789"):
            raise ValueError(_NO_URL)
        if kind == "cluster" and settings.pop("db", 0):
            raise ValueError("a Redis Cluster has no databases but 0: leave the number out of the URL")
        for name in _OURS:
            settings.pop(name, None)
        ours: dict[str, str] = {
            name: options[name] for name in ("prefix", "wait_replicas", "partitions") if name in options
        }
        ours["prefix"] = options.get("prefix", DEFAULT_PREFIX) if prefix is None else prefix
        shown = ",".join(_joined(*host) for host in sorted(hosts))
        named = {} if ours["prefix"] == DEFAULT_PREFIX else {"prefix": ours["prefix"]}
        if by_sentinel:
            service = options.get("service", "") or "mymaster"
            address = f"{parts.scheme}://{shown}/{settings.get('db') or 0}?{urlencode({'service': service} | named)}"
            server = cls(settings, address, Sentinels.at(hosts, service, _of_sentinels(settings, options), address))
        elif kind == "cluster":
            address = f"{parts.scheme}://{shown}/{'?' if named else ''}{urlencode(named)}"
            server = cls(settings, address, seeds=[Node(*host) for host in hosts])
        else:
            server = cls(settings, _address(settings, ours["prefix"]))
        server._check()
        return server, ours

    @classmethod
    def of_client(cls, client: redis.Redis | redis.RedisCluster, prefix: str) -> Server:
        """How a client connects, for connections of our own: the client itself is left as it is.

        Raises:
            TypeError: It is another kind of client.
        """
        given: object = client
        if isinstance(given, redis.RedisCluster):
            return cls._of_cluster(given, prefix)
        pool = given.connection_pool if isinstance(given, redis.Redis) else None
        if not isinstance(pool, ConnectionPool):
            raise TypeError(
                "a Redis store needs a URL, or a client redis.Redis or redis.RedisCluster (not one of redis.asyncio), "
                f"not {redacted(repr(client)):.200}"
            )
        settings = settings_of(pool)
        if isinstance(pool, SentinelConnectionPool):
            if not pool.is_master:
                raise TypeError(
                    f"a Redis store writes, so it needs the primary of {pool.service_name!r}: `master_for()`, not "
                    "`slave_for()` or `replica_for()`"
                )
            secure = issubclass(pool.connection_class, SSLConnection)
            settings["connection_class"] = SSLConnection if secure else Connection
            address = _address({"host": pool.service_name}, prefix, "sentinel")
            return cls(settings, address, Sentinels.of(pool.sentinel_manager, pool.service_name, address))
        return cls(settings, _address(settings, prefix))

    @classmethod
    def _of_cluster(cls, client: redis.RedisCluster, prefix: str) -> Server:
        nodes = client.get_nodes()
        pool = client.get_redis_connection(nodes[0]).connection_pool
        settings = settings_of(pool)
        for name in ("host", "port", "db"):
            settings.pop(name, None)
        # The client's own would have replicas be read from.
        settings.pop("redis_connect_func", None)
        if (theirs := client.user_on_connect_func) is not None:
            settings["redis_connect_func"] = partial(_greet, theirs)
        scheme = "rediss-cluster" if issubclass(pool.connection_class, SSLConnection) else "redis-cluster"
        suffix = "" if prefix == DEFAULT_PREFIX else f"?{urlencode({'prefix': prefix})}"
        seeds = sorted(Node(node.host, int(node.port)) for node in nodes)
        return cls(settings, f"{scheme}://{','.join(map(str, seeds))}/{suffix}", seeds=seeds)

    def _check(self) -> None:
        """Makes a connection object, which does not connect: wrong options are known at once."""
        try:
            ConnectionPool(**self._settings | bounded(1.0)).make_connection()
        except (TypeError, RedisError) as error:
            raise ValueError(f"this URL has an option that redis-py does not take: {error}") from None

    def pool(self, timeout: float) -> ConnectionPool:
        """A pool whose connections give up after so many seconds without an answer.

        Where Sentinel says which server is the primary, it is asked now, for as many seconds at most.

        Raises:
            StoreError: No sentinel knows the primary.
        """
        kind = self._settings.get("connection_class", Connection)
        settings = verified(kind, self._settings) | bounded(timeout)
        if self._sentinels is not None:
            host, port = found = self._sentinels.find(timeout)
            self.failovers += self._found not in (None, found)
            self._found = found
            theirs = settings.get("redis_connect_func")
            settings |= {"host": host, "port": port, "redis_connect_func": lambda new: check_primary(new, theirs)}
        return ConnectionPool(max_connections=2**16, **settings)


def _greet(theirs: Callable[[Any], object], connection: Any) -> None:
    """Greets as redis-py does, and then as a client's own function does."""
    connection.on_connect()
    theirs(connection)


def _address(settings: dict[str, Any], prefix: str, scheme: str | None = None) -> str:
    kind = settings.get("connection_class", Connection)
    suffix = "" if prefix == DEFAULT_PREFIX else f"?{urlencode({'prefix': prefix})}"
    database = settings.get("db") or 0
    if issubclass(kind, UnixDomainSocketConnection):
        return f"unix://{settings.get('path', '')}/{database}{suffix}"
    if scheme is not None:
        return f"{scheme}://{settings['host']}/{database}{suffix}"
    scheme = "rediss" if issubclass(kind, SSLConnection) else "redis"
    return f"{scheme}://{_joined(settings.get('host', 'localhost'), settings.get('port', 6379))}/{database}{suffix}"


def _joined(host: str, port: int) -> str:
    return f"{f'[{host}]' if ':' in host else host}:{port}"


def _hosts_of(netloc: str, port: int) -> tuple[str, list[tuple[str, int]]]:
    """User and password of a URL, with the @ behind them, and its hosts.

    Raises:
        ValueError: A port is not a number, or there are more than `MAX_HOSTS` hosts.
    """
    user, at, rest = netloc.rpartition("@")
    named = rest.split(",")
    if len(named) > MAX_HOSTS:
        raise ValueError(f"{len(named)} hosts, at most {MAX_HOSTS}")
    hosts = [urlsplit(f"//{host}") for host in named]
    return user + at, [(host.hostname, host.port or port) for host in hosts if host.hostname]


def _of_sentinels(settings: dict[str, Any], options: dict[str, str]) -> dict[str, Any]:
    """How to connect to the sentinels of a URL: with the same TLS, and with a user and a password of their own."""
    kept = {name: value for name, value in settings.items() if name.startswith(("ssl", "socket", "connection_class"))}
    own = {name.removeprefix("sentinel_"): value for name, value in options.items() if name.startswith("sentinel_")}
    if not own.keys() <= {"username", "password"}:
        raise ValueError(
            "a URL for Sentinel has no options of the sentinels but sentinel_username and sentinel_password"
        )
    return kept | own
