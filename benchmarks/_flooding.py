"""Three clients without a token that send what they like, a server, and who asks it how it fares; each a process.

`python -m benchmarks._flooding SECONDS` prints the figures as JSON.
"""

from __future__ import annotations

import gc
import itertools
import json
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Final

import trio

from trio_progress import open_tracker
from trio_progress.server import open_server

from . import _hostile
from ._fuzzing import UPGRADE

ROOT: Final = Path(__file__).resolve().parents[1]
CLIENTS: Final = 3
HEADS: Final = (
    b"GET /sessions HTTP/1.1\r\nHost: localhost\r\n" + b"a:\r\n" * 8000 + b"\r\n",
    b"GET /sessions HTTP/1.1\r\nHost: localhost\r\n" + b"a: b\r\n" * 90 + b"\r\n",
    b"GET /sessions HTTP/1.1\r\nHost: localhost\r\nCookie: " + b"a=;" * 10_000 + b"\r\n\r\n",
    b"GET /sessions HTTP/1.1\r\nHost: localhost\r\nAccept: " + b"," * 30_000 + b"\r\n\r\n",
    b"GET /sessions HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: " + b"," * 30_000 + b"\r\n\r\n",
    b"GET /sessions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + b"a." * 15_000 + b"\r\n\r\n",
    b"GET /" + b"%41" * 10_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST /sessions/a/cancel HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"1\r\na\r\n" * 60_000,
)


class _Steps(trio.abc.Instrument):
    """How much CPU time each step of a task has taken: what holds the loop, whatever else the machine does."""

    def __init__(self) -> None:
        self.began = time.thread_time()
        self.took: list[float] = []

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """A step begins."""
        self.began = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """It has ended."""
        self.took.append(time.thread_time() - self.began)


async def _serve() -> None:
    """The server's process: tells its port, and for each line that it reads, how its loop has lagged since the last."""
    lags: list[float] = []
    steps = _Steps()

    async def watch() -> None:
        while True:
            due = trio.current_time() + 0.002
            await trio.sleep_until(due)
            lags.append(trio.current_time() - due)

    async with (
        open_tracker() as tracker,
        tracker.session("r-1"),
        open_server(tracker, port=0, auth=_hostile.SECRET) as at,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(watch)
        gc.collect()
        gc.freeze()  # As `trio-progress serve` does.
        trio.lowlevel.add_instrument(steps)
        print(at.port, flush=True)
        while await trio.to_thread.run_sync(sys.stdin.readline):
            print(json.dumps(_figures(lags) | {"a step": max(steps.took, default=0.0) * 1e3}), flush=True)
            lags.clear()
            steps.took.clear()
        nursery.cancel_scope.cancel()


REST: Final = 3.0
"""Seconds for which the same is measured before, or for as long as is attacked."""


def _figures(spans: list[float]) -> dict[str, float]:
    spans = sorted(spans) or [0.0]
    picked = {"p50": spans[len(spans) // 2], "p99": spans[int(len(spans) * 0.99)], "longest": spans[-1]}
    return {name: span * 1e3 for name, span in picked.items()}


async def _attack(port: int, during: float) -> None:
    """The clients' process."""
    sent: Counter[str] = Counter()

    async def client(n: int) -> None:
        rng = random.Random(n)
        for nth in itertools.count():
            if nth % 3 == 0:
                said, kind = rng.choice(HEADS), "heads"
            else:
                said, kind = UPGRADE + b"\r\n", "messages"
                said += b"".join(_hostile.frame(rng, _hostile.large(rng, 65_000)) for _ in range(rng.choice((1, 4))))
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", port, local_address=f"127.0.0.{2 + n}")
                async with stream, trio.open_nursery() as nursery:
                    nursery.start_soon(_drained, stream, nursery.cancel_scope)
                    sent[kind] += 1
                    sent["MB"] += len(said)
                    await stream.send_all(said)
                    await trio.sleep(0.02)
                    nursery.cancel_scope.cancel()
            except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                sent["connections that broke"] += 1

    print("ready", flush=True)
    with trio.move_on_after(during):
        async with trio.open_nursery() as nursery:
            for n in range(CLIENTS):
                nursery.start_soon(client, n)
    sent["MB"] //= 1_000_000
    print(json.dumps(sent), flush=True)


async def _drained(stream: trio.SocketStream, scope: trio.CancelScope) -> None:
    while await stream.receive_some(65536):
        pass
    scope.cancel()


async def _ask(port: int, during: float) -> list[float]:
    """Asks `/healthz` again and again, each time on a connection of its own; tells how long the answers took."""
    took = []
    end = time.monotonic() + during
    while time.monotonic() < end:
        began = trio.current_time()
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = b""
            while more := await stream.receive_some():
                answer += more
            assert answer.startswith(b"HTTP/1.1 200"), answer
        took.append(trio.current_time() - began)
        await trio.sleep(0.05)
    return took


def main() -> None:
    """One of the three processes; without a role, the one that starts the others and asks."""
    during = float(sys.argv[1])
    if sys.argv[2:3] == ["serve"]:
        trio.run(_serve)
    elif sys.argv[2:3] == ["attack"]:
        trio.run(_attack, int(sys.argv[3]), during)
    else:
        _figured(during)


def _started(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603 - this program
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _figured(during: float) -> None:
    again = [sys.executable, "-m", "benchmarks._flooding", str(during)]
    with _started([*again, "serve"]) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        given, told = server.stdin, server.stdout

        def lag() -> dict[str, float]:
            given.write("\n")
            given.flush()
            figures: dict[str, float] = json.loads(told.readline())
            return figures

        port = int(told.readline())
        lag()
        health = {f"{name}, at rest": span for name, span in _figures(trio.run(_ask, port, min(REST, during))).items()}
        lags = {f"{name}, at rest": span for name, span in lag().items()}
        with _started([*again, "attack", str(port)]) as attack:
            assert attack.stdout is not None
            attack.stdout.readline()  # It is ready: starting costs more than what it is to do.
            lag()
            health |= _figures(trio.run(_ask, port, during))
            lags |= lag()
            sent = json.loads(attack.stdout.readline())
        given.close()
    print(json.dumps({"lag": lags, "health": health, "sent": sent}))


if __name__ == "__main__":
    main()
