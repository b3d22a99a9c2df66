"""Which server is the primary: what the sentinels say, within a time that holds for all of them together.

1. All sentinels are asked at once, each in a thread of its own, which ends by itself: one that is gone, or that accepts
   and says nothing, holds up nobody. The first answer is good after a moment in which others may contradict it; of
   several the one of the newest configuration counts: who is cut off from the others may not know of a failover.
2. Each new connection is asked by ROLE whether it is to a primary, as the specification for clients of Sentinel has it:
   https://redis.io/docs/latest/develop/reference/sentinel-clients/
3. redis-py's own look-up is not used: it asks one sentinel after the other, by clients that wait without a timeout and
   ten times unless told otherwise, and by a command that is not meant for it
   (https://github.com/redis/redis-py/issues/626).
"""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, final

from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection
from redis.exceptions import NoPermissionError, ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import Sentinel

from ...errors import StoreError
from ...telemetry.redaction import redacted

if TYPE_CHECKING:
    from redis.connection import ConnectionPool

GATHER: Final = 0.05
"""Seconds, at most, in which others may contradict the first sentinel that has answered."""

_TIED: Final = re.compile(
    r"retry|cache|protocol|decode_responses|connection_pool|event_dispatcher|himport_registry"
    r"|maint|orig_|oss_cluster|legacy_responses|health_check_interval"
)
"""Settings of a client's connections that are tied to that client, or are ours to make."""


class Found(NamedTuple):
    """What one sentinel says."""

    epoch: int
    """The number of its configuration; each failover has a higher one."""
    host: str
    port: int


Asker: TypeAlias = Callable[[float], Found]
"""Asks one sentinel, for as many seconds; raises where it does not know."""


@final
class Sentinels:
    """Those who know which server is the primary of a service.

    Args:
        askers: One for each.
        address: The store's, for messages.
    """

    def __init__(self, askers: Sequence[Asker], address: str) -> None:
        self._askers = askers
        self._address = address

    @classmethod
    def at(cls, hosts: Sequence[tuple[str, int]], service: str, settings: dict[str, Any], address: str) -> Sentinels:
        """Those of a URL; `settings` are of the connections to them."""
        return cls([_asker(settings | {"host": host, "port": port}, service) for host, port in hosts], address)

    @classmethod
    def of(cls, manager: Any, service: str, address: str) -> Sentinels:
        """Those of redis-py's `Sentinel`; of another object that does its work, what its `discover_master()` says."""
        if type(manager) is not Sentinel:
            return cls([lambda timeout: Found(0, *manager.discover_master(service))], address)
        least, forced = manager.min_other_sentinels, getattr(manager, "_force_master_ip", None)
        clients = manager.sentinels
        return cls([_asker(settings_of(each.connection_pool), service, least, forced) for each in clients], address)

    def find(self, timeout: float) -> tuple[str, int]:
        """Host and port of the primary, within so many seconds.

        Raises:
            StoreError: No sentinel knows it.
        """
        answers: queue.SimpleQueue[Found | Exception] = queue.SimpleQueue()

        def ask(asker: Asker) -> None:
            try:
                answers.put(asker(timeout))
            except Exception as error:
                answers.put(error)

        until = time.monotonic() + timeout
        for asker in self._askers:
            threading.Thread(target=ask, args=(asker,), name="asks a sentinel", daemon=True).start()
        found: list[Found] = []
        errors: list[Exception] = []
        for _ in self._askers:
            try:
                answer = answers.get(timeout=max(until - time.monotonic(), 0.0))
            except queue.Empty:
                break
            if isinstance(answer, Found):
                until = min(until, time.monotonic() + GATHER) if not found else until
                found.append(answer)
            elif not isinstance(answer, RedisTimeoutError):  # It is as silent as one that is waited for.
                errors.append(answer)
        if found:
            return max(found, key=lambda each: each.epoch)[1:]
        silent = len(self._askers) - len(errors)
        why = [f"{silent} of {len(self._askers)} sentinels did not answer within {timeout:g} s"] if silent else []
        raise StoreError(
            f"store {self._address}: no sentinel says which server is the primary: "
            + redacted("; ".join(why + [str(error) for error in errors]))
        )


def settings_of(pool: ConnectionPool) -> dict[str, Any]:
    """How a client connects, without what is that client's alone."""
    settings = {name: value for name, value in pool.connection_kwargs.items() if not _TIED.search(name)}
    return settings | {"connection_class": pool.connection_class}


def bounded(timeout: float) -> dict[str, Any]:
    """Settings for connections that give up after so many seconds, and do not try again by themselves."""
    return {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),
        "decode_responses": False,
        # The replies of RESP2 are the same in all versions of redis-py and Redis.
        "protocol": 2,
    }


def verified(kind: type[Any], settings: dict[str, Any]) -> dict[str, Any]:
    """With host names checked, where it is TLS and the settings do not say otherwise."""
    if issubclass(kind, SSLConnection):
        # What the library's default is depends on its version.
        wanted = settings.get("ssl_cert_reqs", "required") not in ("none", 0)
        return {"ssl_check_hostname": wanted} | settings
    return settings


def _asker(settings: dict[str, Any], service: str, least: int = 0, forced: str | None = None) -> Asker:
    """Asks a sentinel.

    Args:
        settings: Of the connection to it.
        service: The name of the primary.
        least: Other sentinels that it must know.
        forced: The host that is taken in place of the one that it says.
    """
    given = {name: value for name, value in settings.items() if name not in ("connection_class", "db")}
    kind = settings.get("connection_class", Connection)

    def ask(timeout: float) -> Found:
        connection = kind(**verified(kind, given) | bounded(timeout))
        where = f"{given.get('host')}:{given.get('port')}"
        try:
            connection.connect()
            connection.send_packed_command(
                connection.pack_commands(
                    [("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service), ("SENTINEL", "MASTER", service)]
                )
            )
            address = connection.read_response()
            try:
                state = connection.read_response()
            except ResponseError:  # It does not know the name, or tells us no more than the address.
                state = []
        finally:
            connection.disconnect()
        if not isinstance(address, list) or len(address) != 2:
            raise StoreError(f"{where} knows no primary {service!r}")
        known = dict(zip(state[::2], state[1::2], strict=False))
        if least and int(known.get(b"num-other-sentinels", 0)) < least:
            raise StoreError(f"{where} sees fewer than {least} other sentinels")
        return Found(int(known.get(b"config-epoch", 0)), forced or address[0].decode(), int(address[1]))

    return ask


def check_primary(connection: Any, connect: Callable[[Any], object] | None) -> None:
    """Called with each new connection: refuses one to a replica, which would only be read from, and fall behind.

    Args:
        connection: Connected, but not greeted yet.
        connect: The function that greets in the place of redis-py's own.

    Raises:
        ReadOnlyError: It is none.
    """
    if connect is None:
        connection.on_connect()
    else:
        connect(connection)
    connection.send_command("ROLE")
    try:
        role = connection.read_response()
    except NoPermissionError:  # Of a user whom an older version of the docs has made; writing will tell.
        return
    if not isinstance(role, list) or role[0] != b"master":
        raise ReadOnlyError("READONLY the server that Sentinel names is no primary, or not yet")
