"""The clients of the fan-out suites, in a process of their own: bare sockets that read all that comes."""

from __future__ import annotations

import base64
import json
import os
import re
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Iterable
from multiprocessing.connection import Connection
from typing import Final

PATHS: Final = {
    "ours": "/ws",
    "ours, by Hypercorn": "/ws",
    "ours, list": "/ws",
    "socket.io": "/socket.io/?EIO=4&transport=websocket",
}
"""By contender; all others take `/`."""

SUBSCRIBED: Final = {"ours": "measured", "ours, by Hypercorn": "measured", "ours, list": "*"}
"""By contender of ours, what is subscribed to."""

MOST_HELD: Final = 128 * 1024 * 1024
"""Bytes that may wait to be looked through."""

_NUMBER = re.compile(rb'"n": ?(\d+)[,}]')


def masked(text: bytes) -> bytes:
    """A client's text frame."""
    size = len(text)
    head = struct.pack("!BB", 0x81, 0x80 | size) if size < 126 else struct.pack("!BBH", 0x81, 0xFE, size)
    return head + bytes(4) + text


def connected(contender: str, port: int) -> socket.socket:
    """A WebSocket to the contender that is about to be told."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=30)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    key = base64.b64encode(os.urandom(16)).decode()
    protocol = "Sec-WebSocket-Protocol: trio-progress.v1\r\n" if contender in SUBSCRIBED else ""
    sock.sendall(
        f"GET {PATHS.get(contender, '/')} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\n"
        f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{protocol}\r\n".encode()
    )
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(65536)
        if not more:
            raise ConnectionError(f"{contender} has closed: {data[:200]!r}")
        data += more
    if b" 101 " not in data.partition(b"\r\n")[0]:
        raise ConnectionError(f"{contender} does not take a WebSocket: {data[:200]!r}")
    if contender in SUBSCRIBED:
        sock.sendall(masked(json.dumps({"type": "subscribe", "session": SUBSCRIBED[contender]}).encode()))
    elif contender == "socket.io":
        sock.sendall(masked(b"40"))
    return sock


def drink(contender: str, port: int, clients: int, stuck: int, timed: bool, control: Connection) -> None:
    """Connects, says so, and reads until told to stop; then says what came.

    Args:
        contender: What is spoken to.
        port: Where it is.
        clients: How many connections.
        stuck: So many of them never read.
        timed: Whether to note when each client was told of which number (`"n":` in the payload).
        control: Is sent "connected", and at the end what came: by client, a list of numbers and moments.
    """
    socks = [connected(contender, port) for _ in range(clients)]
    poll = select.epoll()
    for sock in socks[stuck:]:
        sock.setblocking(False)
        poll.register(sock.fileno(), select.EPOLLIN)
    by_fd = {sock.fileno(): sock for sock in socks[stuck:]}
    diary = Diary(by_fd)
    volume = 0
    control.send("connected")
    poll.register(control.fileno(), select.EPOLLIN)
    stopped = False
    while not stopped:
        events = poll.poll(0 if diary.unread else None)
        now = time.monotonic()  # By now all of these have it; that one process reads for all is not their wait.
        if not events:
            diary.read(16)
        for fd, _ in events:
            if fd == control.fileno():
                control.recv()
                stopped = True
                continue
            try:
                data = by_fd[fd].recv(262_144)
            except BlockingIOError:
                continue
            if not data:
                poll.unregister(fd)
                continue
            volume += len(data)
            if timed:
                diary.note(fd, now, data)
    control.send((volume, diary.told()))
    for sock in socks:
        sock.close()


class Diary:
    """Which number came when, by client. What came is looked through when nothing comes, to keep nothing waiting."""

    def __init__(self, clients: Iterable[int]) -> None:
        self._told: dict[int, list[tuple[int, float]]] = {client: [] for client in clients}
        self._tails = dict.fromkeys(self._told, b"")
        self.unread: deque[tuple[int, float, bytes]] = deque()
        """What was not looked through yet."""
        self._held = 0

    def note(self, client: int, moment: float, data: bytes) -> None:
        """Some bytes came."""
        self.unread.append((client, moment, data))
        self._held += len(data)
        if self._held > MOST_HELD:
            self.read(len(self.unread))

    def told(self) -> list[list[tuple[int, float]]]:
        """By client: each number, and when it came."""
        self.read(len(self.unread))
        return list(self._told.values())

    def read(self, most: int) -> None:
        """Looks through as many of what came."""
        for _ in range(min(most, len(self.unread))):
            client, moment, data = self.unread.popleft()
            self._held -= len(data)
            text = self._tails[client] + data
            # The last number that is whole, which one more character behind it shows.
            found = _NUMBER.match(text, at) if (at := text.rfind(b'"n":')) >= 0 else None
            if found is not None:
                self._told[client].append((int(found[1]), moment))
                self._tails[client] = text[found.end() :][-32:]
            else:
                self._tails[client] = text[-32:]
