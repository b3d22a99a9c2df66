"""Calls to the nodes of a Redis Cluster: as `redis.calls`, each command to the node that has its slot.

1. A call sends its commands to all nodes that it concerns before it reads the first reply: one pipeline a node, in the
   thread that the call is made in.
2. What a command was redirected by is that command's: MOVED is learnt and followed; ASK is followed by commands of one
   key, each behind an ASKING of its own (https://github.com/redis/redis/issues/3203). Where it names no node, who sent
   it is asked where it moves the slot.
3. A script names one more key than it uses, which is never there. While the slot is being moved, Redis so refuses it
   before it has begun (TRYAGAIN, or ASK, which it does not follow): neither of both nodes has all keys then, and a
   script that meets a key of the other one ends in the middle. It is tried again for a moment, and fails if the slot is
   still being moved.
4. A node that does not answer fails the commands that were for it, and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, final

from redis.exceptions import AskError, ClusterDownError, MovedError, ResponseError, TryAgainError

from ...errors import StoreError
from .answers import UnansweredError
from .calls import BUDGET, Calls, RoundTrips, Sent
from .partitions import slot_of
from .scripts import Command, Script
from .server import Node
from .topology import UNNAMED, Topology, target_of

if TYPE_CHECKING:
    from .server import Server

REDIRECTIONS: Final = frozenset({"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"})

MOVING_FOR: Final = 0.3
"""Seconds that a call waits for a slot that is being moved; who calls tries again."""

PAUSE: Final = 0.02
"""Seconds between two tries of the same command."""

NEVER_THERE: Final = "-"
"""The key of a partition that each script names."""

_OF_MANY_KEYS: Final = frozenset({"XREAD", "DEL"})
"""They do not follow ASK: one node has some of their keys, and the other one the others."""


@dataclass(slots=True)
class _Asked:
    """A command, and what became of it."""

    command: Command
    slot: int
    reply: Any = None
    reached: Any = None
    """What its node was asked behind it."""
    asking: Node | None = None
    """The node that ASK has named."""


_UnderWay: TypeAlias = tuple[Node, list[_Asked], Sent | StoreError]
"""A node, what was sent to it, and how it is answered, or why it could not be."""


class ToNodes(NamedTuple):
    """Commands that were sent, each to its node."""

    asked: list[_Asked]
    wait: Sequence[Command]
    under_way: list[_UnderWay]


@final
class Nodes(RoundTrips[ToNodes]):
    """Round trips to the nodes of a Cluster. Safe to be made by several threads at once, and after a fork.

    Args:
        server: Which nodes there are, and how to connect to each.
        timeout: See `Calls`.
        topology: What is known of the nodes; None: nothing yet.
    """

    def __init__(self, server: Server, timeout: float, topology: Topology | None = None) -> None:
        super().__init__(server.address, timeout)
        self._server = server
        self._calls: dict[Node, Calls] = {}
        self._closed = False
        self.topology = Topology(self.address, server.seeds, self.calls_to) if topology is None else topology

    @property
    def broken(self) -> int:
        """How often no answer came from a node."""
        return sum(calls.broken for calls in list(self._calls.values()))

    @property
    def failovers(self) -> int:
        """How often what a node had that did not answer was another one's."""
        return self.topology.failovers

    def calls_to(self, node: Node) -> Calls:
        """The calls to one node."""
        calls = self._calls.get(node)
        if calls is None:
            calls = self._calls.setdefault(node, Calls(self._server.at(node), self._timeout, REDIRECTIONS))
        return calls

    @property
    def is_down(self) -> bool:
        """Whether no node that has slots has answered the last time."""
        return self.topology.is_down

    def look_up(self) -> None:
        """From here on it is known whether there was a failover, unless no node says so."""
        with suppress(StoreError):
            self.topology.node_of(0, time.monotonic() + BUDGET * self._timeout)

    def close(self) -> None:
        """Closes all connections, also those that are in use; later calls raise `StoreError`."""
        self._closed = True
        for calls in list(self._calls.values()):
            calls.close()

    # One call

    def send(self, commands: Sequence[Command], wait: Sequence[Command] = ()) -> ToNodes:
        """Sends each command to its node."""
        if self._closed:
            raise StoreError(f"store {self.address}: it was closed")
        asked = [_Asked(_guarded(command), slot_of(_key(command))) for command in commands]
        return ToNodes(asked, wait, self._send_all(asked, wait))

    def receive(self, sent: ToNodes, until: float) -> list[Any]:
        """A reply for each command, an `UnansweredError` for those whose node has given none."""
        asked, wait, under_way = sent
        moving_until = min(time.monotonic() + MOVING_FOR, until)
        tries = 0
        while True:
            for node, some, each_sent in under_way:
                self._receive(node, some, each_sent, until)
            left = [each for node, some, _ in under_way for each in some if self._leads_on(each, node, until)]
            tries += 1
            if not left:
                break
            if time.monotonic() >= moving_until:
                for each in left:
                    why = f"slot {each.slot} is being moved between nodes ({each.reply})"
                    each.reply = UnansweredError(f"store {self.address}: {why}")
                break
            if tries > 1 or any(isinstance(each.reply, TryAgainError) for each in left):
                time.sleep(PAUSE)
            under_way = self._send_all(left, wait)
        return [each.reply for each in asked] + ([each.reached for each in asked] if wait else [])

    def socket_of(self, sent: ToNodes) -> Any:
        """What can be read from once there is a reply of the first node; None: it was closed, or not reached."""
        node, _, under_way = sent.under_way[0] if sent.under_way else (None, None, None)
        return self.calls_to(node).socket_of(under_way) if node is not None and isinstance(under_way, Sent) else None

    def _send_all(self, asked: Sequence[_Asked], wait: Sequence[Command]) -> list[_UnderWay]:
        until = time.monotonic() + BUDGET * self._timeout
        by_node: dict[Node, list[_Asked]] = {}
        for each in asked:
            try:
                node = each.asking or self.topology.node_of(each.slot, until)
                by_node.setdefault(node, []).append(each)
            except StoreError as error:
                each.reply = UnansweredError(str(error))
        return [(node, some, self._send(node, some, wait)) for node, some in by_node.items()]

    def _send(self, node: Node, some: Sequence[_Asked], wait: Sequence[Command]) -> Sent | StoreError:
        """Sends commands to their node; gives the error where that cannot be."""
        given: list[Command] = []
        for each in some:
            if each.asking is not None:
                given.append(("ASKING",))
            given.append(each.command)
        try:
            self.topology.check(node)
        except StoreError as error:
            return error
        try:
            return self.calls_to(node).send([*given, *wait])
        except StoreError as error:
            self.topology.failed(node, error)
            return error

    def _receive(self, node: Node, some: Sequence[_Asked], sent: Sent | StoreError, until: float) -> None:
        """Notes the replies to commands, or the error in their place, and what the node has answered behind them."""
        error = sent if isinstance(sent, StoreError) else None
        refused = False
        answers: Iterator[Any] = iter(())
        if isinstance(sent, Sent):
            try:
                answers = iter(self.calls_to(node).receive(sent, until))
                self.topology.answered(node)
            except StoreError as failed:
                error = failed
                # What a node refuses in its state (full, without permission) it has answered.
                refused = isinstance(failed.__cause__, ResponseError)
                if not refused:
                    self.topology.failed(node, failed)
        for each in some:
            if error is not None:
                each.reply = UnansweredError(str(error), refused=refused)
            else:
                if each.asking is not None:
                    next(answers)
                each.reply = next(answers)
        reached = next(answers, None)
        for each in some:
            each.reached = reached

    def _leads_on(self, each: _Asked, node: Node, until: float) -> bool:
        """Whether a command that a node has answered is to be sent again; notes where."""
        each.asking = None
        match each.reply:
            case MovedError():
                if (owner := _named_by(each.reply, node)) is None:
                    self.topology.doubt()
                else:
                    self.topology.has_moved(each.slot, owner)
            case AskError():
                if type(each.command[0]) is not Script and each.command[0] not in _OF_MANY_KEYS:
                    each.asking = _named_by(each.reply, node) or self._target_of(each.slot, node, until)
            case TryAgainError():
                pass
            case ClusterDownError():
                self.topology.doubt()
                each.reply = UnansweredError(
                    f"store {self.address}: {node} says that the cluster is down ({each.reply})"
                )
                return False
            case _:
                return False
        return True

    def _target_of(self, slot: int, node: Node, until: float) -> Node | None:
        """Where a node moves a slot, as it says itself; None where it does not."""
        try:
            (reply,) = self.calls_to(node)([("CLUSTER", "NODES")], until)
        except StoreError:
            return None
        return target_of(node, reply, slot)


def _named_by(redirection: AskError, asked: Node) -> Node | None:
    """The node that a redirection leads to; None: one without a name, which is to be found otherwise."""
    if redirection.host == UNNAMED:
        return None
    # A node that does not know the host of another one means its own.
    return Node(redirection.host or asked.host, int(redirection.port))


def _key(command: Command) -> str:
    """A key of a command, or what all keys of its partition begin with."""
    name = command[0]
    if type(name) is Script:
        return str(command[2])
    if name == "XREAD":
        return str(command[command.index("STREAMS") + 1])
    return str(command[1])


def _guarded(command: Command) -> Command:
    """A script names the key that is never there as well."""
    if type(command[0]) is not Script:
        return command
    script, count, *rest = command
    base = f"{rest[0].partition('}')[0]}}}:"
    return (script, count + 1, *rest[:count], f"{base}{NEVER_THERE}", *rest[count:])
