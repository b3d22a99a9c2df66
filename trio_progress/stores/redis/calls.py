"""Calls to Redis that block: many commands in one round trip, each bounded in time, none repeated by itself.

1. A call takes a connection, sends its commands in one go and reads a reply for each. When anything goes wrong
   in between, be it a timeout or an exception of any kind, the connection is closed: what it still has to say
   is nobody's. The replies of one call can so never become another's. Those that lie idle are closed with it: what
   has broken one has likely broken them, and each would cost a call to find out.
2. Nothing is retried here. redis-py would, by default ten times and with pauses, in a thread that cannot be
   cancelled; who calls has its own way to try again.
3. An error in a reply belongs to its command. One that is the server's state (full, a replica, loading) is
   everybody's, and is raised.
4. Where Sentinel says which server is the primary, it is asked anew after everything that puts that in doubt: no
   answer, a broken connection, and what one answers that is not the primary, or that its replicas have left.
5. No message contains a password, or a URL that may have one.
"""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Container, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar, final

import redis
from redis.exceptions import AuthenticationError, NoScriptError, RedisError, ResponseError

from ...errors import StoreError
from .answers import UnansweredError, answered
from .scripts import Command, Script, Steps

if TYPE_CHECKING:
    from redis.connection import ConnectionPool

    from .server import Server

T = TypeVar("T")
U = TypeVar("U")

BUDGET: Final = 2
"""Timeouts that a call takes at most, with the look-up of the primary, the connecting and all replies."""

_ELSEWHERE: Final = frozenset({"READONLY", "MASTERDOWN", "NOREPLICAS", "LOADING"})
"""What is answered by one that was the primary, or is not yet: behind a name, a proxy or Sentinel it is another one."""

_EVERYBODYS: Final = re.compile(
    r"\b(OOM|READONLY|MISCONF|NOREPLICAS|LOADING|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|MOVED|ASK|BUSY|NOPERM|NOAUTH)\b"
    r"|ACL fail"
)
"""What an error begins with, or has in it where a script met it, when no command of ours would fare better."""

ADVICE: Final = {
    "OOM": "it is full (maxmemory); give it more, or keep sessions for a shorter time (`retention`)",
    "READONLY": "it is a replica that cannot be written; give the address of the primary, or wait for the failover",
    "MISCONF": "it does not take writes, for it cannot save them to its disk",
    "NOREPLICAS": "it does not take writes, for too few replicas follow it (min-replicas-to-write)",
    "LOADING": "it has just started, and still loads its data",
    "MASTERDOWN": "it is a replica that has lost its primary",
    "CLUSTERDOWN": "the cluster is down",
    "TRYAGAIN": "the cluster is being resharded",
    "MOVED": "it is a node of a Redis Cluster: give redis-cluster://HOST:PORT,HOST:PORT/ with some of its nodes",
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


class LateError(TimeoutError):
    """Not all replies came within the time of their call; says how many did."""


class Sent(NamedTuple):
    """Commands that were sent, and the connection that their replies are awaited on."""

    commands: Sequence[Command]
    pool: ConnectionPool
    connection: Any


class RoundTrips(ABC, Generic[U]):
    """Calls that send commands and wait for their replies: to one server, or to the nodes of a Cluster.

    Args:
        address: Of the store.
        timeout: Seconds without an answer after which a call gives up; it has twice that in all, whatever it waits for.
            Within a reply it is seconds without a byte.
    """

    def __init__(self, address: str, timeout: float) -> None:
        self.address = address
        self._timeout = timeout

    @abstractmethod
    def send(self, commands: Sequence[Command], wait: Sequence[Command] = ()) -> U:
        """Sends commands, so that something else can be done until they are answered.

        Args:
            commands: What is sent in one go.
            wait: What each server is asked behind them.

        Raises:
            StoreError: Redis cannot be reached.
        """

    @abstractmethod
    def receive(self, sent: U, until: float) -> list[Any]:
        """A reply for each command that was sent.

        Behind them what each server was asked, for all commands or, if there are several servers, for each.

        Raises:
            StoreError: Redis did not answer, or can do none of it; any of it may have been done.
        """

    @abstractmethod
    def socket_of(self, sent: U) -> Any:
        """What can be read from once there is a reply; None: it was closed."""

    @property
    @abstractmethod
    def broken(self) -> int:
        """How often no answer came, or one that says that another server is the primary."""

    @property
    @abstractmethod
    def failovers(self) -> int:
        """How often the primary of something was another one than before."""

    @property
    def is_down(self) -> bool:
        """Whether it is known that nothing answers."""
        return False

    @abstractmethod
    def look_up(self) -> None:
        """From here on it is known whether there was a failover.

        Raises:
            StoreError: Redis did not answer.
        """

    @abstractmethod
    def close(self) -> None:
        """Closes all connections, also those that are in use; later calls raise `StoreError`."""

    def __call__(self, commands: Sequence[Command], until: float | None = None) -> list[Any]:
        """A reply for each command; an error that is that command's alone stands for its reply.

        Scripts that the server does not know yet are made after everything else.

        Args:
            commands: What is sent in one go.
            until: When it is to be done, by `time.monotonic()`; unless given, in twice the timeout.

        Raises:
            StoreError: Redis did not answer, or can do none of it; any of it may have been done.
        """
        if not commands:
            return []
        until = time.monotonic() + BUDGET * self._timeout if until is None else until
        return answered(self.receive(self.send(commands), until))

    def run(self, steps: Sequence[Steps[T]]) -> list[T]:
        """Takes all of them to their end, with as many round trips as the longest needs, in twice the timeout.

        Raises:
            StoreError: Redis did not answer, or can do none of it; any of it may have been done.
        """
        return answered(self.run_replicated(steps, 0)[0])

    def run_replicated(
        self, steps: Sequence[Steps[T]], replicas: int
    ) -> tuple[Sequence[T | UnansweredError], Sequence[int]]:
        """The same, and how many replicas had what each wrote; at most half the timeout is waited for so many.

        What a node of a Cluster has not answered is raised in the steps that wait for it, and is their result unless
        they can do without. All others go on.

        Raises:
            StoreError: Redis did not answer, or can do none of it; any of it may have been done.
        """
        # In the same round trip: Redis waits for what was written on the connection that asks.
        wait: Sequence[Command] = [("WAIT", replicas, max(int(self._timeout * 500), 1))] if replicas else []
        had = [replicas] * len(steps)
        until = time.monotonic() + BUDGET * self._timeout
        results: dict[int, T | UnansweredError] = {}
        replies: dict[int, Sequence[Any] | UnansweredError | None] = dict.fromkeys(range(len(steps)))
        while replies:
            asked: list[tuple[int, Sequence[Command]]] = []
            for which, reply in replies.items():
                try:
                    step = steps[which]
                    asked.append((which, step.throw(reply) if isinstance(reply, UnansweredError) else step.send(reply)))
                except StopIteration as end:
                    results[which] = end.value
                except UnansweredError as error:
                    results[which] = error
            replies = {}
            if asked:
                sent = self.send([command for _, commands in asked for command in commands], wait)
                answers = self.receive(sent, until)
                count = sum(len(commands) for _, commands in asked)
                place = 0
                for which, commands in asked:
                    given = answers[place : place + len(commands)]
                    replies[which] = next((each for each in given if isinstance(each, UnansweredError)), given)
                    if wait and commands:  # One answer for all, or one for each command.
                        reached = answers[count] if len(answers) == count + 1 else answers[count + place]
                        had[which] = min(had[which], reached if isinstance(reached, int) else 0)
                    place += len(commands)
        return [results[which] for which in range(len(steps))], had


@final
class Calls(RoundTrips[Sent]):
    """Round trips to one Redis. Safe to be made by several threads at once, and after a fork.

    Args:
        server: Where.
        timeout: See `RoundTrips`.
        left: Codes of errors that stand for the reply of their command, though others might meet them.
    """

    def __init__(self, server: Server, timeout: float, left: Container[str] = ()) -> None:
        super().__init__(server.address, timeout)
        self._server = server
        self._left = left
        self._pool: ConnectionPool | None = None
        self._closed = False
        self._broken = 0

    def send(self, commands: Sequence[Command], wait: Sequence[Command] = ()) -> Sent:
        """Sends commands in one go."""
        commands = [*commands, *wait]
        if self._closed:
            raise StoreError(f"store {self.address}: it was closed")
        pool = self._pool
        connection = None
        try:
            if pool is None:
                pool = self._pool = self._server.pool(self._timeout)
            connection = pool.get_connection()
            connection.send_packed_command(
                connection.pack_commands(
                    [("EVALSHA", each[0].sha, *each[1:]) if type(each[0]) is Script else each for each in commands]
                )
            )
            sent = Sent(commands, pool, connection)
            connection = None
        except (RedisError, OSError) as error:
            self._doubt(pool)
            raise _explained(self.address, error, self._timeout) from error
        finally:
            if connection is not None and pool is not None:
                connection.disconnect()
                pool.release(connection)
        return sent

    def receive(self, sent: Sent, until: float) -> list[Any]:
        """A reply for each command that was sent."""
        commands, pool, connection = sent
        replies: list[Any] = []
        failed: list[int] = []
        whole = False
        try:
            for _ in commands:
                left = until - time.monotonic()
                if left < self._timeout and not connection.can_read(max(left, 0.0)):
                    raise LateError(
                        f"{len(replies)} of {len(commands)} replies came within {BUDGET * self._timeout:g} s"
                    )
                try:
                    replies.append(connection.read_response())
                except ResponseError as error:
                    failed.append(len(replies))
                    replies.append(error)
            # Otherwise no call will come that it could be kept for.
            whole = pool is self._pool and not self._closed
        except (RedisError, OSError) as error:
            self._doubt(pool)
            raise _explained(self.address, error, self._timeout) from error
        finally:
            if not whole:
                connection.disconnect()
            pool.release(connection)
        unknown: list[int] = []
        for place in failed:
            reply = replies[place]
            if isinstance(reply, NoScriptError):
                unknown.append(place)
            elif (code := _everybodys(reply)) is not None and code not in self._left:
                if code in _ELSEWHERE:
                    self._doubt(pool)
                raise _explained(self.address, reply, self._timeout) from reply
        texts: list[Command] = [("EVAL", commands[place][0].text, *commands[place][1:]) for place in unknown]
        if texts and commands[-1][0] == "WAIT":
            # It is for what is written on the same connection, and before it.
            unknown.append(len(commands) - 1)
            texts.append(commands[-1])
        for place, reply in zip(unknown, self(texts, until), strict=True):
            replies[place] = reply
        return replies

    def _doubt(self, pool: ConnectionPool | None) -> None:
        """Closes what lies idle; the next call asks which server is the primary, where there is somebody to ask."""
        self._broken += 1
        if pool is not None:
            pool.disconnect(inuse_connections=False)
            if self._server.moves and pool is self._pool:
                self._pool = None

    def socket_of(self, sent: Sent) -> Any:
        """What can be read from once there is a reply; None: it was closed."""
        return sent.connection._sock  # redis-py has no public name for it, and can only wait for one at a time.

    @property
    def broken(self) -> int:
        """How often no answer came, or one that says that another server is the primary."""
        return self._broken

    @property
    def failovers(self) -> int:
        """How often the primary was another one than before."""
        return self._server.failovers

    def look_up(self) -> None:
        """From here on it is known whether there was a failover.

        Raises:
            StoreError: Redis did not answer.
        """
        self([("TIME",)])

    def close(self) -> None:
        """Closes all connections, also those that are in use; later calls raise `StoreError`."""
        self._closed = True
        if self._pool is not None:
            self._pool.disconnect()


def _everybodys(reply: object) -> str | None:
    """The code of an error that is the server's state, so that all commands meet it; None: any other reply."""
    found = _EVERYBODYS.search(_text(reply)) if isinstance(reply, ResponseError) else None
    return None if found is None else found[1] or "NOPERM"


def _explained(address: str, error: Exception, timeout: float) -> StoreError:
    """What went wrong, and what can be done about it."""
    text = _text(error)
    advice = ADVICE.get(_everybodys(error) or "")
    if isinstance(error, AuthenticationError):
        advice = "the user or the password is wrong, or one is needed: redis://USER:PASSWORD@HOST:PORT/DB"
    elif isinstance(error, redis.BusyLoadingError):
        advice = ADVICE["LOADING"]
    elif isinstance(error, (redis.TimeoutError, TimeoutError)) and not isinstance(error, LateError):
        advice = f"it has not answered for {timeout:g} s"
    elif "CERTIFICATE_VERIFY_FAILED" in text:
        advice = "its certificate is not that of a host of this name, or of none that is trusted (?ssl_ca_certs=FILE)"
    return StoreError(f"store {address}: {f'{advice} ({text})' if advice else text}")


def _text(error: Exception) -> str:
    """What an error says, with the code that redis-py takes off some of them."""
    code = getattr(error, "status_code", None) or _CODES.get(type(error))
    text = str(error)
    return f"{code} {text}" if code and not text.startswith(code) else text
