"""Calls to Redis that block: many commands in one round trip, each bounded in time, none repeated by itself.

1. A call takes a connection, sends its commands in one go and reads a reply for each. When anything goes wrong
   in between, be it a timeout or an exception of any kind, the connection is closed: what it still has to say
   is nobody's. The replies of one call can so never become another's. Those that lie idle are closed with it: what
   has broken one has likely broken them, and each would cost a call to find out.
2. Nothing is retried here. redis-py would, by default ten times and with pauses, in a thread that cannot be
   cancelled; who calls has its own way to try again.
3. An error in a reply belongs to its command. One that is the server's state (full, a replica, loading) is
   everybody's, and is raised.
4. No message contains a password, or a URL that may have one.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any, Final, TypeVar, final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import redis
from redis.backoff import NoBackoff
from redis.connection import Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection, parse_url
from redis.exceptions import AuthenticationError, NoScriptError, RedisError, ResponseError
from redis.retry import Retry
from redis.sentinel import SentinelConnectionPool

from ...errors import StoreError
from ...telemetry.redaction import redacted
from .keys import DEFAULT_PREFIX
from .scripts import Command, Script, Steps

T = TypeVar("T")

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
    "NOPERM": "its user may not do this; docs/guides/redis-operating.md has the ACL rule that it needs",
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


@final
class Calls:
    """Round trips to one Redis. Safe to be made by several threads at once, and after a fork.

    Args:
        server: Where.
        timeout: Seconds without an answer after which a call gives up; one with many replies has three times that
            in all, by the end of each. Within a reply it is seconds without a byte.
    """

    def __init__(self, server: Server, timeout: float) -> None:
        self.address = server.address
        self._timeout = timeout
        self._pool = server.pool(timeout)
        self._closed = False

    def __call__(self, commands: Sequence[Command]) -> list[Any]:
        """A reply for each command; an error that is that command's alone stands for its reply.

        Scripts that the server does not know yet are made after everything else.

        Raises:
            StoreError: Redis did not answer, or can do none of it; any of it may have been done.
        """
        if not commands:
            return []
        if self._closed:
            raise StoreError(f"store {self.address}: it was closed")
        until = time.monotonic() + 3 * self._timeout
        connection = None
        replies: list[Any] = []
        failed: list[int] = []
        try:
            connection = self._pool.get_connection()
            connection.send_packed_command(
                connection.pack_commands(
                    [("EVALSHA", each[0].sha, *each[1:]) if type(each[0]) is Script else each for each in commands]
                )
            )
            for _ in commands:
                try:
                    replies.append(connection.read_response())
                except ResponseError as error:
                    failed.append(len(replies))
                    replies.append(error)
                if time.monotonic() > until:
                    raise TimeoutError(f"no more than {len(replies)} replies within {3 * self._timeout:g} s")
            if not self._closed:
                self._pool.release(connection)
                connection = None
        except (RedisError, OSError) as error:
            self._pool.disconnect(inuse_connections=False)
            raise _explained(self.address, error, self._timeout) from error
        finally:
            if connection is not None:
                connection.disconnect()
                self._pool.release(connection)
        unknown: list[int] = []
        for place in failed:
            reply = replies[place]
            if isinstance(reply, NoScriptError):
                unknown.append(place)
            elif (code := _everybodys(reply)) is not None:
                if code in ("READONLY", "MASTERDOWN"):
                    # Behind a name, or a proxy, another one may be the primary by now.
                    self._pool.disconnect(inuse_connections=False)
                raise _explained(self.address, reply, self._timeout) from reply
        texts = [("EVAL", commands[place][0].text, *commands[place][1:]) for place in unknown]
        for place, reply in zip(unknown, self(texts), strict=True):
            replies[place] = reply
        return replies

    def run(self, steps: Sequence[Steps[T]]) -> list[T]:
        """Takes all of them to their end, with as many round trips as the longest needs.

        Raises:
            StoreError: Redis did not answer, or can do none of it; any of it may have been done.
        """
        results: dict[int, T] = {}
        replies: dict[int, Sequence[Any] | None] = dict.fromkeys(range(len(steps)))
        while replies:
            asked: list[tuple[int, Sequence[Command]]] = []
            for which, reply in replies.items():
                try:
                    asked.append((which, steps[which].send(reply)))
                except StopIteration as end:
                    results[which] = end.value
            answers = iter(self([command for _, commands in asked for command in commands]))
            replies = {which: [next(answers) for _ in commands] for which, commands in asked}
        return [results[which] for which in range(len(steps))]

    def close(self) -> None:
        """Closes all connections, also those that are in use; later calls raise `StoreError`."""
        self._closed = True
        self._pool.disconnect()


def _everybodys(reply: object) -> str | None:
    """The code of an error that is the server's state, so that all commands meet it; None: any other reply."""
    found = _EVERYBODYS.search(_text(reply)) if isinstance(reply, ResponseError) else None
    return None if found is None else found[1] or "NOPERM"


def _explained(address: str, error: Exception, timeout: float) -> StoreError:
    """What went wrong, and what can be done about it."""
    text = _text(error)
    advice = _ADVICE.get(_everybodys(error) or "")
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
