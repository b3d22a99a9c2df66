"""Three clients without a token that send what they like, a server, and who asks it how it fares; each a process.

`python -m benchmarks._flooding SECONDS` prints the figures as JSON.
"""

from __future__ import annotations

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
CONNECTIONS: Final = 4
"""Of each client at once."""

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


async def _serve(during: float) -> None:
    """The server's process: tells its port, and at last how far its loop lagged behind, at rest and in the flood."""
    async with (
        open_tracker() as tracker,
        tracker.session("r-1"),
        open_server(tracker, port=0, auth=_hostile.SECRET) as at,
    ):
        print(at.port, flush=True)
        for name, length in (("at rest", REST), ("flood", during)):
            lags = []
            end = trio.current_time() + length
            while trio.current_time() < end:
                due = trio.current_time() + 0.002
                await trio.sleep_until(due)
                lags.append(trio.current_time() - due)
            print(json.dumps({name: _figures(lags)}), flush=True)


REST: Final = 3.0


def _figures(spans: list[float]) -> dict[str, float]:
    spans.sort()
    picked = {"p50": spans[len(spans) // 2], "p99": spans[int(len(spans) * 0.99)], "longest": spans[-1]}
    return {name: span * 1e3 for name, span in picked.items()}


async def _attack(port: int, during: float) -> None:
    """The clients' process."""
    sent: Counter[str] = Counter()

    async def client(rng: random.Random) -> None:
        for nth in itertools.count():
            if nth % 3 == 0:
                said, kind = rng.choice(HEADS), "heads"
            else:
                said, kind = UPGRADE + b"\r\n", "messages"
                said += b"".join(_hostile.frame(rng, _hostile.large(rng, 65_000)) for _ in range(rng.choice((1, 4))))
            address = f"127.0.0.{2 + nth % CLIENTS}"
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", port, local_address=address)
                async with stream, trio.open_nursery() as nursery:
                    nursery.start_soon(_drained, stream, nursery.cancel_scope)
                    sent[kind] += 1
                    sent["MB"] += len(said)
                    await stream.send_all(said)
                    await trio.sleep(0.02)
                    nursery.cancel_scope.cancel()
            except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                sent["connections that broke"] += 1

    with trio.move_on_after(during):
        async with trio.open_nursery() as nursery:
            for n in range(CLIENTS * CONNECTIONS):
                nursery.start_soon(client, random.Random(n))
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
        trio.run(_serve, during)
    elif sys.argv[2:3] == ["attack"]:
        trio.run(_attack, int(sys.argv[3]), during)
    else:
        _figured(during)


def _started(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)  # noqa: S603 - this program


def _figured(during: float) -> None:
    again = [sys.executable, "-m", "benchmarks._flooding", str(during)]
    with _started([*again, "serve"]) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        rest = _figures(trio.run(_ask, port, REST - 0.5))
        lag = {f"{name}, at rest": span for name, span in json.loads(server.stdout.readline())["at rest"].items()}
        with _started([*again, "attack", str(port)]) as attack:
            health = _figures(trio.run(_ask, port, during - 0.5))
            lag |= json.loads(server.stdout.readline())["flood"]
            sent = json.loads(attack.communicate()[0])
    health |= {f"{name}, at rest": span for name, span in rest.items()}
    print(json.dumps({"lag": lag, "health": health, "sent": sent}))


if __name__ == "__main__":
    main()
