"""A relay in front of a server, whose connections can lose what they carry: a partition without a firewall."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Relay:
    """Passes connections on to a server, in two threads each.

    While it is `cut`, nothing passes and new connections are accepted and never answered. While `replicas_cut`, what
    the server sends to its replicas is lost, and everything else passes.
    """

    def __init__(self, target: int, port: int) -> None:
        self.cut = False
        self.replicas_cut = False
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", port))
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._sockets.append(near)
                if self.cut:
                    continue
                try:
                    far = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    near.close()
                    continue
                self._sockets.append(far)
                of_replica = threading.Event()
                threading.Thread(target=self._pass, args=(near, far, of_replica, True), daemon=True).start()
                threading.Thread(target=self._pass, args=(far, near, of_replica, False), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, of_replica: threading.Event, up: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if up and b"psync" in data.lower():
                    of_replica.set()
                if self.cut or (self.replicas_cut and of_replica.is_set() and not up):
                    continue
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def close(self) -> None:
        """Ends all connections, and takes no more."""
        for one in (self._listener, *self._sockets):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
