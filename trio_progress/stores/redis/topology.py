"""Which node of a Redis Cluster has which slot, and which nodes do not answer.

1. Any node that answers is asked by CLUSTER SLOTS, in a random order, so that many processes that doubt at the same
   moment do not all ask the same one (https://github.com/redis/redis-py/issues/4049); at most once in `LEARN_EVERY`.
2. What a node says of one slot (MOVED) is taken at once, and is a reason to ask for all: slots seldom move alone.
3. A node that did not answer is left alone for a pause that grows: its sessions' calls fail at once meanwhile, so that
   the others do not wait for it in the same call. What it had is another node's as soon as one that answers says so.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

from ...errors import StoreError
from ...telemetry.logs import Throttle, log_event
from .partitions import SLOTS
from .server import Node

if TYPE_CHECKING:
    from .calls import Calls

LEARN_EVERY: Final = 0.5
"""Seconds between two times that the nodes are asked who has what, but for a random part of them."""

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 4.0
"""Seconds for which a node that did not answer is left alone."""


class _Down(NamedTuple):
    """A node did not answer."""

    until: float
    pause: float
    error: StoreError


UNNAMED: Final = "?"
"""In the place of the host of a node that is to be told by a name and has none: `cluster-preferred-endpoint-type`."""


@final
class Topology:
    """What is known of the nodes. Safe to be used by several threads, and after a fork.

    Args:
        address: Of the store, for messages.
        seeds: The nodes that its URL or client names.
        calls_to: Gives the short calls to a node.
    """

    def __init__(self, address: str, seeds: Sequence[Node], calls_to: Callable[[Node], Calls]) -> None:
        self._address = address
        self._seeds = seeds
        self._calls_to = calls_to
        self._lock = threading.Lock()
        self._starts: list[int] = []
        self._ranges: list[tuple[int, Node]] = []
        """The last slot of each range, and its owner."""
        self._moved: dict[int, Node] = {}
        """What nodes have said of single slots since."""
        self._down: dict[Node, _Down] = {}
        self._doubted = True
        self._next = float("-inf")
        """When the nodes may be asked again."""
        self._throttle = Throttle()
        self._random = random.Random()  # noqa: S311 - it decides who is asked, nothing else
        self.slots: Sequence[int] = ()
        """Those of the partitions of the store, once it is known how many there are."""
        self.failovers = 0
        """How often what a node had that did not answer was another one's."""

    def node_of(self, slot: int, until: float) -> Node:
        """The node that has a slot.

        Raises:
            StoreError: No node says so.
        """
        if self._doubted and time.monotonic() >= self._next:
            self._learn(until)
        node = self._known(slot)
        if node is None:
            raise StoreError(
                f"store {self._address}: no node has slot {slot} of {SLOTS}; see what "
                "`redis-cli --cluster check HOST:PORT` says"
            )
        return node

    def check(self, node: Node) -> None:
        """Sees that a node is not one that is left alone now.

        Raises:
            StoreError: It is; this is what was wrong.
        """
        down = self._down.get(node)
        if down is not None and time.monotonic() < down.until:
            raise StoreError(str(down.error)) from down.error

    def has_moved(self, slot: int, node: Node) -> None:
        """A node has said whose a slot is."""
        with self._lock:
            self._moved[slot] = node
            self._doubted = True

    def doubt(self) -> None:
        """Nodes are to be asked again who has what."""
        self._doubted = True

    def failed(self, node: Node, error: StoreError) -> None:
        """A node did not answer."""
        with self._lock:
            before = self._down.get(node)
            pause = FIRST_PAUSE if before is None else min(2 * before.pause, LONGEST_PAUSE)
            self._down[node] = _Down(time.monotonic() + pause, pause, error)
            self._doubted = True
        if before is None:
            had = ", ".join(str(number) for number, slot in enumerate(self.slots) if self._known(slot) == node)
            what = f"the sessions in its partitions ({had})" if had else "its sessions"
            text = "a node of the store does not answer, %s wait: %s"
            self._log(logging.WARNING, "store_down", node, text, what, error, reason=error)

    def answered(self, node: Node) -> None:
        """A node has answered."""
        if node in self._down:
            with self._lock:
                there = self._down.pop(node, None)
            if there is not None:
                self._log(logging.INFO, "store_up", node, "the node %s of the store answers again", node)

    def _log(self, level: int, event: str, node: Node, text: str, *args: object, reason: object = None) -> None:
        log_event(level, event, text, *args, throttle=self._throttle, kind=f"{event} {node}", reason=reason)

    @property
    def partitions_down(self) -> Sequence[int]:
        """The partitions of which no node is known, or one that did not answer the last time."""
        return [
            number
            for number, slot in enumerate(self.slots)
            if (node := self._known(slot)) is None or node in self._down
        ]

    @property
    def is_down(self) -> bool:
        """Whether no node that has slots has answered the last time."""
        return self._owners() <= self._down.keys()

    def _owners(self) -> set[Node]:
        """The nodes that have slots, as far as is known."""
        return {owner for _, owner in self._ranges} | set(self._moved.values())

    def _known(self, slot: int) -> Node | None:
        if (node := self._moved.get(slot)) is not None:
            return node
        ranges = self._ranges
        place = bisect_right(self._starts, slot) - 1
        if 0 <= place < len(ranges) and slot <= ranges[place][0]:
            return ranges[place][1]
        return None

    def _learn(self, until: float) -> None:
        """Asks one node after the other who has what, until one says so.

        Raises:
            StoreError: None does, and nothing is known from before.
        """
        with self._lock:
            if time.monotonic() < self._next:
                return  # Somebody else has just asked, or does.
            self._next = time.monotonic() + LEARN_EVERY * self._random.uniform(1.0, 1.5)
        known = list(dict.fromkeys([*(owner for _, owner in self._ranges), *self._seeds]))
        self._random.shuffle(known)
        known.sort(key=lambda node: node in self._down)
        errors: list[StoreError] = []
        for node in known:
            if errors and time.monotonic() >= until:
                break
            try:
                (reply,) = self._calls_to(node)([("CLUSTER", "SLOTS")], until)
            except StoreError as error:
                self.failed(node, error)
                errors.append(error)
                continue
            try:
                ranges = _ranges(node, reply)
            except (TypeError, ValueError, LookupError, AttributeError):
                errors.append(
                    StoreError(f"store {self._address}: {node} is no node of a Redis Cluster: {reply!r:.200}")
                )
                continue
            self.answered(node)
            self._take_in(ranges)
            return
        if not self._ranges:
            raise StoreError(f"{errors[0]}" + (f" (and {len(errors) - 1} more nodes)" if len(errors) > 1 else ""))

    def _take_in(self, ranges: list[tuple[int, int, Node]]) -> None:
        with self._lock:
            lost = {owner for _, owner in self._ranges if owner in self._down}
            owners = {owner for _, _, owner in ranges}
            self.failovers += bool(lost - owners)
            self._ranges = [(end, owner) for _, end, owner in ranges]
            self._starts = [begin for begin, _, _ in ranges]
            self._moved.clear()
            self._doubted = bool(owners & self._down.keys())
        for node in lost - owners:
            self._log(logging.INFO, "store_up", node, "another node of the store has what %s had", node)


def target_of(asked: Node, reply: object, slot: int) -> Node | None:
    """Where the node that was asked for CLUSTER NODES moves a slot; None: nowhere, or that is not to be read there."""
    lines = [line.split() for line in reply.decode("utf-8", "replace").splitlines()] if type(reply) is bytes else []
    own = next((line for line in lines if len(line) > 2 and "myself" in line[2].split(",")), [])
    moved = next((each[:-1].rpartition("->-")[2] for each in own if each.startswith(f"[{slot}->-")), None)
    for line in lines:
        if line[:1] == [moved] and len(line) > 1:
            host, _, port = line[1].partition("@")[0].rpartition(":")
            return Node(host or asked.host, int(port)) if port.isdecimal() else None
    return None


def _ranges(asked: Node, reply: object) -> list[tuple[int, int, Node]]:
    """The ranges of slots that a node knows, each with its owner, in order.

    Raises:
        TypeError, ValueError, LookupError, AttributeError: It is no answer of a node.
    """
    if not isinstance(reply, list):
        raise TypeError("no list")
    found = []
    for begin, end, (host, port, *more), *_ in reply:
        found.append((int(begin), int(end), Node(_host(asked, host, more), int(port))))
    return sorted(found)


def _host(asked: Node, host: bytes | None, more: Sequence[Any]) -> str:
    """Where a node is to be reached; `more` is its id, and from Redis 7 on pairs of what else is known of it."""
    if not host:
        return asked.host  # A node that does not know its own address means the one that it was asked at.
    if host != UNNAMED.encode():
        return host.decode()
    known = more[1] if len(more) > 1 else {}
    if isinstance(known, list):
        known = dict(zip(known[::2], known[1::2], strict=True))
    ip: bytes = known.get(b"ip", b"")
    return ip.decode() or asked.host
