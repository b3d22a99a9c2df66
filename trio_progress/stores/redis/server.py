"""One Redis: how connections to it are made, and what its errors mean to whoever runs it.

No message contains a password, or a URL that may have one.
"""

from __future__ import annotations

import re
from typing import Any, Final, final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import redis
from redis.backoff import NoBackoff
from redis.connection import Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection, parse_url
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.retry import Retry
from redis.sentinel import SentinelConnectionPool

from ...errors import StoreError
from ...telemetry.redaction import redacted
from .keys import DEFAULT_PREFIX

_OURS: Final = ("prefix", "decode_responses", "retry_on_timeout", "retry_on_error", "protocol", "max_connections")
"""Options of a URL that are not for the connections."""

_TIED: Final = re.compile(
    r"retry|cache|protocol|decode_responses|connection_pool|event_dispatcher|himport_registry"
    r"|maint|orig_|oss_cluster|legacy_responses|health_check_interval"
)
"""Settings of a client's connections that are tied to that client, or are ours to make."""

_NO_URL: Final = (
    "this URL names no Redis, expected redis://[USER:PASSWORD@]HOST[:PORT][/DB][?prefix=tp], or rediss:// for TLS; "
    "in a password / # ? @ are written %2F %23 %3F %40, and options need values of their kind"
)
"""Says nothing of what the URL is: any part of it may be a password that was not escaped."""

_EVERYBODYS: Final = re.compile(
    r"\b(OOM|READONLY|MISCONF|NOREPLICAS|LOADING|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|MOVED|ASK|BUSY|NOPERM|NOAUTH)\b"
    r"|ACL fail"
)
"""What an error begins with, or has in it where a script met it, when no command of ours would fare better."""

_ADVICE: Final = {
    "OOM": "it is full (maxmemory); give it more, or keep sessions for a shorter time (`retention`)",
    "READONLY": "it is a replica that cannot be written; give the address of the primary, or wait for the failover",
    "MISCONF": "it does not take writes, for it cannot save them to its disk",
    "NOREPLICAS": "it does not take writes, for too few replicas follow it (min-replicas-to-write)",
    "LOADING": "it has just started, and still loads its data",
    "MASTERDOWN": "it is a replica that has lost its primary",
    "CLUSTERDOWN": "the cluster is down",
    "TRYAGAIN": "the cluster is being resharded",
    "MOVED": "it is one node of a cluster, and another one has these keys; give the address of that node",
    "ASK": "the cluster is being resharded",
    "BUSY": "it is held up by somebody's script",
    "NOAUTH": "it needs a password: redis://USER:PASSWORD@HOST:PORT/DB",
    "NOPERM": "its user may not do this; README has the ACL rule that it needs",
}

_CODES: Final[dict[type[Exception], str]] = {
    redis.exceptions.OutOfMemoryError: "OOM",
    redis.exceptions.ReadOnlyError: "READONLY",
    redis.exceptions.NoPermissionError: "NOPERM",
    redis.exceptions.MasterDownError: "MASTERDOWN",
    redis.exceptions.ClusterDownError: "CLUSTERDOWN",
    redis.exceptions.TryAgainError: "TRYAGAIN",
    redis.exceptions.MovedError: "MOVED",
    redis.exceptions.AskError: "ASK",
}
"""What older versions of redis-py take off an error's text, and do not keep."""


@final
class Server:
    """How to connect to one Redis: makes the pools that calls take their connections from.

    Args:
        kind: The class of the pools.
        settings: What it is made with, for each pool anew.
        address: The URL without secrets.
    """

    __slots__ = ("_kind", "_settings", "address")

    def __init__(self, kind: type[ConnectionPool], settings: dict[str, Any], address: str) -> None:
        self._kind = kind
        self._settings = settings
        self.address = address

    @classmethod
    def of_url(cls, url: str, prefix: str | None) -> tuple[Server, str]:
        """The server that a URL names, and the key prefix: the given one, or that of the URL (`?prefix=tp`).

        Raises:
            ValueError: `url` names no Redis.
        """
        try:
            parts = urlsplit(url)
            options = dict(parse_qsl(parts.query, keep_blank_values=True))
            settings = parse_url(urlunsplit(parts))
            settings.setdefault("port", 6379)
        except ValueError:
            raise ValueError(_NO_URL) from None
        database = parts.path.strip("/")
        # What stands behind a bare # or ? may be the rest of a password, and what stands before it a port.
        cut = parts.fragment or any("@" in name or ("@" in options[name] and "pass" not in name) for name in options)
        if parts.scheme not in ("redis", "rediss") or not parts.hostname or cut or database.strip("0123456789"):
            raise ValueError(_NO_URL)
        for name in _OURS:
            settings.pop(name, None)
        prefix = options.get("prefix", DEFAULT_PREFIX) if prefix is None else prefix
        server = cls(ConnectionPool, settings, _address(settings, prefix))
        server._check()
        return server, prefix

    @classmethod
    def of_client(cls, client: redis.Redis, prefix: str) -> Server:
        """How a client connects, for connections of our own: the client itself is left as it is.

        Raises:
            TypeError: It is another kind of client.
        """
        given: object = client
        pool = given.connection_pool if isinstance(given, redis.Redis) else None
        if not isinstance(pool, ConnectionPool):
            raise TypeError(
                "a Redis store needs a URL or a redis.Redis client (not one of redis.asyncio, nor a RedisCluster), "
                f"not {redacted(repr(client)):.200}"
            )
        settings = {name: value for name, value in pool.connection_kwargs.items() if not _TIED.search(name)}
        if isinstance(pool, SentinelConnectionPool):
            settings |= {
                "service_name": pool.service_name,
                "sentinel_manager": pool.sentinel_manager,
                "is_master": pool.is_master,
                "check_connection": pool.check_connection,
                "connection_class": pool.connection_class,
            }
            return cls(SentinelConnectionPool, settings, _address({"host": pool.service_name}, prefix, "sentinel"))
        settings["connection_class"] = pool.connection_class
        return cls(ConnectionPool, settings, _address(settings, prefix))

    def _check(self) -> None:
        """Makes a connection object, which does not connect: wrong options are known at once."""
        try:
            pool = self.pool(1.0)
            pool.make_connection()
        except (TypeError, RedisError) as error:
            raise ValueError(f"this URL has an option that redis-py does not take: {error}") from None

    def pool(self, timeout: float) -> ConnectionPool:
        """A pool whose connections give up after so many seconds without an answer."""
        settings = self._settings | {
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
            "retry": Retry(NoBackoff(), 0),
            "decode_responses": False,
            # The replies of RESP2 are the same in all versions of redis-py and Redis.
            "protocol": 2,
            "max_connections": 2**16,
        }
        if issubclass(settings.get("connection_class", Connection), SSLConnection):
            # What the library's default is depends on its version.
            settings.setdefault("ssl_check_hostname", settings.get("ssl_cert_reqs", "required") not in ("none", 0))
        return self._kind(**settings)


def _address(settings: dict[str, Any], prefix: str, scheme: str | None = None) -> str:
    kind = settings.get("connection_class", Connection)
    suffix = "" if prefix == DEFAULT_PREFIX else f"?{urlencode({'prefix': prefix})}"
    database = settings.get("db") or 0
    if issubclass(kind, UnixDomainSocketConnection):
        return f"unix://{settings.get('path', '')}/{database}{suffix}"
    if scheme is not None:
        return f"{scheme}://{settings['host']}/{database}{suffix}"
    scheme = "rediss" if issubclass(kind, SSLConnection) else "redis"
    host = settings.get("host", "localhost")
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{settings.get('port', 6379)}/{database}{suffix}"


def everybodys(reply: object) -> str | None:
    """The code of an error that no command of ours would fare better with; None: any other reply.

    A full server, a replica, one that is loading.
    """
    found = _EVERYBODYS.search(_text(reply)) if isinstance(reply, ResponseError) else None
    return None if found is None else found[1] or "NOPERM"


def explained(address: str, error: Exception, timeout: float) -> StoreError:
    """What went wrong, and what can be done about it.

    Args:
        address: The server's.
        error: From redis-py, or the system.
        timeout: Seconds that were waited for an answer.
    """
    text = _text(error)
    advice = _ADVICE.get(everybodys(error) or "")
    if isinstance(error, AuthenticationError):
        advice = "the user or the password is wrong, or one is needed: redis://USER:PASSWORD@HOST:PORT/DB"
    elif isinstance(error, redis.BusyLoadingError):
        advice = _ADVICE["LOADING"]
    elif isinstance(error, (redis.TimeoutError, TimeoutError)):
        advice = f"it has not answered for {timeout:g} s"
    elif "CERTIFICATE_VERIFY_FAILED" in text:
        advice = "its certificate is not that of a host of this name, or of none that is trusted (?ssl_ca_certs=FILE)"
    return StoreError(f"store {address}: {f'{advice} ({text})' if advice else text}")


def _text(error: Exception) -> str:
    """What an error says, with the code that redis-py takes off some of them."""
    code = getattr(error, "status_code", None) or _CODES.get(type(error))
    text = str(error)
    return f"{code} {text}" if code and not text.startswith(code) else text
