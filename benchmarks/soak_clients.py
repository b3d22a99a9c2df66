"""The clients of the soak, in a process of their own: they merge what they are told, leave and come back.

All is said over bare sockets, and each frame is taken apart here. What is told to a thousand is decoded and merged
once: a state is known by the state before it and the message. Whoever comes anew has a state of its own, until it has
proved to be the one that others have: else each would soon be merged by itself, more than one process can do.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import select
import socket
import struct
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Final

from trio_progress import Snapshot, Update, decode_message
from trio_progress.errors import ProtocolError
from trio_progress.protocol.messages import End, Subscribed

from .soak_server import Soak, essence

KNOWN: Final = 512
"""Messages, and states by way and by number, that are kept for those who are told the same."""

STALLING: Final = 6.0
"""Seconds that a client which does not read stays, and write_timeout: of being dropped it learns nothing."""

STEP: Final = 0.1
"""Seconds between two times at which clients leave and come back."""

LATE: Final = 15.0
"""Seconds in which all must have heard of the end."""


@dataclass(slots=True)
class Outcome:
    """What the clients have seen."""

    seen: Counter[str] = field(default_factory=Counter)
    states: Counter[bytes] = field(default_factory=Counter)
    """Of those who heard of the end: what they have then."""


def masked(payload: bytes, opcode: int = 1) -> bytes:
    """A client's frame."""
    size = len(payload)
    head = (
        struct.pack("!BB", 0x80 | opcode, 0x80 | size) if size < 126 else struct.pack("!BBH", 0x80 | opcode, 254, size)
    )
    return head + bytes(4) + payload


class Merged:
    """States by the state before and the message, each made once."""

    def __init__(self) -> None:
        self._messages: dict[bytes, object] = {}
        self._states: dict[tuple[int, bytes], tuple[Snapshot, Snapshot]] = {}
        self._proved: dict[bytes, Snapshot] = {}

    def message(self, payload: bytes) -> object:
        """The message."""
        known = self._messages.get(payload)
        if known is None:
            if len(self._messages) >= KNOWN:
                self._messages.clear()
            known = self._messages[payload] = decode_message(payload)
        return known

    def after(self, state: Snapshot, payload: bytes, update: Update) -> Snapshot:
        """The state after an update.

        Raises:
            ProtocolError: It does not fit.
        """
        known = self._states.get((id(state), payload))
        if known is None:
            if len(self._states) >= KNOWN:
                self._states.clear()
            known = self._states[id(state), payload] = (state, self.proved(update.apply(state)))
        return known[1]

    def proved(self, state: Snapshot) -> Snapshot:
        """The one that others have already, if this is proved to be the same; else itself."""
        if len(self._proved) >= KNOWN:
            self._proved.clear()
        return self._proved.setdefault(hashlib.blake2b(essence(state)).digest(), state)


class Client:
    """One client; its socket changes whenever it comes back."""

    def __init__(self, crowd: Crowd, *, stalled: bool) -> None:
        self.stalled = stalled
        self.state: Snapshot | None = None
        self.ended = False
        self._resume = ""
        self._crowd = crowd
        self._buffer = b""
        self._headed = False
        self.come(resume=False)

    def come(self, *, resume: bool) -> None:
        """Connects and subscribes, in one breath."""
        self.sock = sock = socket.socket()
        if self.stalled:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", self._crowd.port))
        asked: dict[str, object] = {"type": "subscribe", "session": "bulky" if self.stalled else "soak", "events": 10}
        if resume and self.state is not None:
            asked["since"] = self._resume
        else:
            self.state = None
        key = base64.b64encode(os.urandom(16)).decode()
        sock.sendall(
            f"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
            f"Sec-WebSocket-Protocol: trio-progress.v1\r\n\r\n".encode()
            + masked(json.dumps(asked).encode())
        )
        sock.setblocking(False)
        self._buffer, self._headed = b"", False
        self.since = time.monotonic()
        self._crowd.came(self)

    def leave(self, *, politely: bool) -> None:
        """Closes the connection, with a CLOSE before it or without a word."""
        self._crowd.left(self)
        if politely:
            try:
                self.sock.send(masked(b"\x03\xe8", 8))
            except OSError:
                pass
        self.sock.close()

    def read(self) -> bool:
        """Takes in what has come. False: the server has closed."""
        try:
            data = self.sock.recv(262_144)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._buffer += data
        if not self._headed:
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            if not found:
                return bool(data)
            if b" 101 " not in head.partition(b"\r\n")[0]:
                raise ConnectionError(f"no WebSocket: {head[:200]!r}")
            self._headed, self._buffer = True, rest
        while (taken := _whole(self._buffer)) is not None:
            opcode, payload, self._buffer = taken
            if opcode == 9:
                self.sock.send(masked(payload, 10))
            elif opcode == 8:
                why = f"closed with {int.from_bytes(payload[:2], 'big')}: {payload[2:].decode()}"
                self._crowd.outcome.seen[why] += 1
            elif opcode == 1:
                self._told(payload)
        return bool(data)

    def _told(self, payload: bytes) -> None:
        seen = self._crowd.outcome.seen
        message = self._crowd.merged.message(payload)
        seen["messages"] += 1
        if isinstance(message, Subscribed):
            seen["resumed" if message.recovered else "begun anew"] += 1
        elif isinstance(message, Snapshot):
            self.state, self._resume = self._crowd.merged.proved(message), message.resume
        elif isinstance(message, Update):
            self._resume = message.resume
            try:
                assert self.state is not None
                self.state = self._crowd.merged.after(self.state, payload, message)
            except (ProtocolError, AssertionError):
                seen["updates that do not fit"] += 1
        elif isinstance(message, End):
            self.ended = True


def _whole(data: bytes) -> tuple[int, bytes, bytes] | None:
    """The first frame, and the rest; None where it is not whole yet."""
    if len(data) < 2:
        return None
    size, start = data[1], 2
    if size >= 126:
        width = 2 if size == 126 else 8
        size, start = int.from_bytes(data[2 : 2 + width], "big"), 2 + width
    if len(data) < start + size:
        return None
    return data[0] & 15, data[start : start + size], data[start + size :]


class Crowd:
    """All clients, and what they have seen."""

    def __init__(self, soak: Soak, port: int) -> None:
        self.port = port
        self.merged = Merged()
        self.outcome = Outcome()
        self._poll = select.epoll()
        self._by_fd: dict[int, Client] = {}
        self._soak = soak
        number = soak.clients - soak.stalled
        self.readers = [Client(self, stalled=False) for _ in range(number)]
        self.stalled = [Client(self, stalled=True) for _ in range(soak.stalled)]

    def came(self, client: Client) -> None:
        """It has a connection."""
        self.outcome.seen["connections"] += 1
        fd = client.sock.fileno()
        self._by_fd[fd] = client
        self._poll.register(fd, select.EPOLLRDHUP | (0 if client.stalled else select.EPOLLIN))

    def left(self, client: Client) -> None:
        """It is about to close it."""
        fd = client.sock.fileno()
        self._poll.unregister(fd)
        del self._by_fd[fd]

    def listen(self, until: float) -> None:
        """Reads for all until then, and has those that were sent away come back."""
        while (patience := until - time.monotonic()) > 0:
            for fd, _ in self._poll.poll(patience):
                client = self._by_fd.get(fd)
                if client is not None and (client.stalled or not client.read()):
                    self.outcome.seen["readers dropped"] += not client.stalled
                    client.leave(politely=False)
                    client.come(resume=True)

    def come_and_go(self, seconds: float) -> None:
        """Reads for all, while some leave and come back."""
        end = time.monotonic() + seconds
        owed = 0.0
        while (now := time.monotonic()) < end:
            owed += self._soak.leaving * len(self.readers) * STEP
            for client in random.sample(self.readers, min(int(owed), len(self.readers))):
                client.leave(politely=random.random() < 0.5)
                client.come(resume=random.random() < 0.5)
            owed -= int(owed)
            for client in [one for one in self.stalled if now - one.since > STALLING + self._soak.write_timeout]:
                client.leave(politely=False)
                client.come(resume=False)
            self.listen(min(now + STEP, end))

    def settle(self) -> None:
        """Reads until all have heard of the end, or it has become late; then all leave."""
        end = time.monotonic() + LATE
        while not all(client.ended for client in self.readers) and time.monotonic() < end:
            self.listen(time.monotonic() + STEP)
        for client in self.readers:
            if client.ended and client.state is not None:
                self.outcome.states[essence(client.state)] += 1
        for client in (*self.readers, *self.stalled):
            client.leave(politely=False)


def visit(soak: Soak, port: int, control: Connection) -> None:
    """For each number of seconds that it is sent: comes, stays, says "there", and after the end what was seen."""
    try:
        while (seconds := control.recv()) is not None:
            crowd = Crowd(soak, port)
            crowd.come_and_go(seconds)
            control.send("there")
            crowd.settle()
            control.send(crowd.outcome)
    except BaseException as error:  # noqa: ASYNC103 - the other process raises it
        control.send(error)
        sys.exit(1)
