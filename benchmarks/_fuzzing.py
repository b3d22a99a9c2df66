"""The process that is fuzzed: a server on a SQLite file, and clients that send what `_hostile` makes of each seed.

`python -m benchmarks._fuzzing SEED COUNT` tells how far it is, a JSON a line: its parent sees whether it lives.
"""

from __future__ import annotations

import json
import logging
import random
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import trio

from trio_progress import ProgressError, ProgressTracker, Session, issue_token, open_tracker
from trio_progress.protocol.messages import Position, decode_message
from trio_progress.server import SharedSecret, SignedTokens, open_server
from trio_progress.state.record import decode_event, decode_head, decode_record
from trio_progress.stores.decoding import CorruptEntries, decode_id
from trio_progress.stores.redis import reads as redis_reads
from trio_progress.stores.sqlite import rows as sqlite_rows
from trio_progress.stores.sqlite.machine import MachineClock

from . import _hostile

BATCH: Final = 200
"""Inputs between two looks at the whole: some take seconds, and each look waits for the last."""
AT_ONCE: Final = 16
PATIENCE: Final = 30.0
"""Seconds that an answer may take: those of the server's own patience, three times, on a machine that is busy."""

QUICK: Final[dict[str, Any]] = {"heartbeat_interval": 0.5, "lost_after": 2.0, "persist_interval": 0.5}
"""So that the tracker also writes off what is lost, of what stands in the file."""

KEPT: Final = "kept-throughout"
"""A session of which no input speaks."""

KINDS: Final = ("head", "frames", "token", "row")

UPGRADE: Final = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: trio-progress.v1\r\n"
)

EVENT: Final = b'{"n":1,"seq":1,"name":"found","data":{"x":1},"at":"2026-01-01T00:00:00Z"}'
UPDATE: Final = b'{"type":"bookmark","session":"r-1","seq":3,"resume":"1.3.0","liveness":"ok","heartbeat_at":null}'


class FailureError(Exception):
    """A promise was broken; the text says which."""


class Tracebacks(logging.Handler):
    """Keeps what was logged with a traceback."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps it if it has one."""
        if record.exc_info or record.exc_text:
            self.texts.append(self.format(record)[-4000:])


@dataclass
class Fuzzed:
    """What is fuzzed, and what came of it."""

    tracker: ProgressTracker
    session: Session
    port: int
    rows: sqlite3.Connection
    record: bytes
    tokens: list[str]
    tracebacks: Tracebacks
    statuses: Counter[str] = field(default_factory=Counter)
    inputs: Counter[str] = field(default_factory=Counter)
    slowest: dict[str, float] = field(default_factory=dict)
    lags: list[float] = field(default_factory=list)


@asynccontextmanager
async def fuzzed() -> AsyncIterator[Fuzzed]:
    """A server to be fuzzed, on a file of its own."""
    tracebacks = Tracebacks()
    logging.getLogger().addHandler(tracebacks)
    logging.getLogger("trio_progress").propagate = True
    auth = [SharedSecret(_hostile.SECRET), SignedTokens(_hostile.SECRET)]
    with tempfile.TemporaryDirectory(prefix="trio-progress-") as folder:
        path = Path(folder) / "fuzzed.db"
        async with (
            open_tracker(f"sqlite:{path}", **QUICK) as tracker,
            tracker.session(KEPT) as kept,
            trio.open_nursery() as nursery,
        ):
            await nursery.start(_owned, tracker)
            async with open_server(tracker, port=0, auth=auth) as server:
                with closing(sqlite3.connect(path, isolation_level=None)) as rows:
                    rows.execute("PRAGMA synchronous = OFF")
                    (record,) = rows.execute("SELECT record FROM sessions WHERE id = 'r-1'").fetchone()
                    tokens = [issue_token(_hostile.SECRET, ["read"], sessions=["nobody"], ttl=86_400)]
                    yield Fuzzed(tracker, kept, server.port, rows, bytes(record), tokens, tracebacks)
            nursery.cancel_scope.cancel()
    logging.getLogger().removeHandler(tracebacks)


async def _owned(tracker: ProgressTracker, *, task_status: trio.TaskStatus[None]) -> None:
    """The session that everybody speaks of: some cancel it, and then it is begun again."""
    while True:
        async with tracker.session("r-1", labels={"user": "u1"}) as session:
            session.emit("found", {"x": 1})
            with session.phase("search", total=9) as phase:
                phase.advance()
                with phase.phase("below"):
                    await session.flush()
                    if task_status is not trio.TASK_STATUS_IGNORED:
                        task_status.started()
                        task_status = trio.TASK_STATUS_IGNORED
                    await trio.sleep_forever()


async def one(on: Fuzzed, seed: int) -> None:
    """Sends the input of one seed, and looks at what comes of it.

    Raises:
        FailureError: A promise was broken.
    """
    rng = random.Random(seed)
    kind = rng.choice(KINDS)
    on.inputs[kind] += 1
    if kind == "head":
        await _head(on, rng)
    elif kind == "frames":
        await _frames(on, rng)
    elif kind == "token":
        await _token(on, rng)
    else:
        _decoders(on, rng)
        if rng.random() < 0.3:
            await _row(on, rng)


async def _exchanged(on: Fuzzed, said: bytes, source: int) -> bytes:
    """All that the server answers."""
    answer = b""
    with trio.move_on_after(PATIENCE) as scope:
        try:
            # From many addresses, or the ports of one would run out.
            stream = await trio.open_tcp_stream("127.0.0.1", on.port, local_address=f"127.0.0.{2 + source % 200}")
        except OSError as error:
            raise FailureError(f"the server takes no connection: {error}") from None
        async with stream:

            async def send() -> None:
                try:
                    await stream.send_all(said)
                    await stream.send_eof()
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass

            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                try:
                    while more := await stream.receive_some(65536):
                        answer += more
                except trio.BrokenResourceError:
                    pass
                nursery.cancel_scope.cancel()
    if scope.cancelled_caught:
        raise FailureError(f"no end of the answer within {PATIENCE} s: {answer[-200:]!r}")
    return answer


async def _head(on: Fuzzed, rng: random.Random) -> None:
    said = _hostile.head(rng)
    answer = await _exchanged(on, said, rng.randrange(200))
    _look(on, answer)


def _look(on: Fuzzed, answer: bytes) -> None:
    """Looks at the responses over HTTP."""
    while answer:
        start, _, rest = answer.partition(b"\r\n\r\n")
        lines = start.decode("latin-1").split("\r\n")
        words = lines[0].split(" ", 2)
        if len(words) < 2 or words[0] != "HTTP/1.1" or not words[1].isdecimal() or int(words[1]) not in set(HTTPStatus):
            raise FailureError(f"this is no answer: {lines[0]!r:.200}")
        status = int(words[1])
        on.statuses[str(status)] += 1
        headers = dict(line.lower().split(": ", 1) for line in lines[1:])
        if status == 101 or headers.get("content-type", "").startswith("text/event-stream"):
            return
        size = int(headers.get("content-length", "0"))
        if len(rest) < size or rest.startswith(b"HTTP/1.1 "):  # Of HEAD, or cut off by the client's own end.
            return
        body, answer = rest[:size], rest[size:]
        if status >= 400:
            _reasoned(status, body)


def _reasoned(status: int, body: bytes) -> None:
    try:
        said = json.loads(body) if body else {}
    except ValueError:
        said = {}
    reason = said.get("message") or (said and "ready" in said)
    if body and not reason:
        raise FailureError(f"{status} without a reason: {body!r:.200}")
    if status >= 500 and not reason:
        raise FailureError(f"{status} without a reason")


async def _frames(on: Fuzzed, rng: random.Random) -> None:
    lets_in = b"Authorization: Bearer " + _hostile.SECRET.encode() + b"\r\n" if rng.random() < 0.5 else b""
    said = UPGRADE + lets_in + b"\r\n" + _hostile.frames(rng)
    if rng.random() < 0.8:
        said += _hostile.frame(rng, (1000).to_bytes(2, "big"), 8)
    answer = await _exchanged(on, said, rng.randrange(200))
    _look(on, answer)
    at = answer.find(b"\x88")
    if at >= 0 and at + 4 <= len(answer):
        on.statuses[f"close {int.from_bytes(answer[at + 2 : at + 4], 'big')}"] += 1


async def _token(on: Fuzzed, rng: random.Random) -> None:
    token = _hostile.token(rng, [*on.tokens, _hostile.SECRET])
    said = f"GET /sessions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    answer = await _exchanged(on, said.encode("latin-1"), rng.randrange(200))
    _look(on, answer)
    given = token.partition("\r\n")[0].strip()  # What stands behind it is another line of the head.
    if answer.startswith(b"HTTP/1.1 200") and b'"r-1"' in answer and given != _hostile.SECRET:
        raise FailureError(f"a token that nobody has given lets in: {token!r:.300}")


def _decoders(on: Fuzzed, rng: random.Random) -> None:
    """What reads stored rows and replies, called as it is: it may refuse, by its own errors."""
    record, event = _hostile.record(rng, on.record), _hostile.record(rng, EVENT)
    clock = MachineClock()

    def column(valid: object) -> Any:
        return _hostile.column(rng, valid)

    row = [column(5), column(3), column(1.0e9), column(b"boot"), column(1.0), column(1.0), column(4e9), column(record)]
    entry = [column(b"5-3"), column([b"d", column(record), b"h", column(b"1.5")])]
    reply = [
        column(b"5"),
        *entry,
        column(b"1.5"),
        column(b"2.5"),
        column([[b"5-1", [b"1", column(event)]], column([])]),
    ]
    calls: dict[str, Callable[[], object]] = {
        "sqlite row": lambda: sqlite_rows.stored("r-1", row, clock),
        "sqlite id": lambda: decode_id(column(b"r-1")),
        "redis reply": lambda: redis_reads.found("r-1", column(reply)),
        "redis ask": lambda: redis_reads.ask(
            column([b"i", column(b"r-1"), b"a", column(b"cancel"), b"r", column(b"x")])
        ),
        "redis durations": lambda: redis_reads.history_in(
            "p", column([b"a", column(b"1.5"), column(b"b")]), CorruptEntries("fuzz")
        ),
        "record": lambda: decode_record("r-1", 5, 3, record),
        "head": lambda: decode_head("r-1", 5, 3, record),
        "event": lambda: decode_event(event),
        "message": lambda: decode_message(_hostile.record(rng, UPDATE)),
        "position": lambda: Position.parse(_hostile.changed(rng, b"1f.3.0").decode("latin-1")),
    }
    for what, call in calls.items():
        began = time.process_time()
        try:
            call()
        except ProgressError:
            pass
        except Exception as error:
            raise FailureError(f"{what}: {type(error).__name__}: {error!s:.300}") from error
        took = time.process_time() - began
        on.slowest[what] = max(on.slowest.get(what, 0.0), took)


async def _row(on: Fuzzed, rng: random.Random) -> None:
    """A row in the file, and what is answered to who asks for it, and for the list."""
    name = f"x-{rng.randrange(16)}"
    given = (5, 3, time.time(), None, None, None, time.time() + 600, "me", "running", None, "{}", time.time())
    values = [
        name,
        *(_hostile.column(rng, one) for one in given),
        _hostile.record(rng, on.record.replace(b'"r-1"', f'"{name}"'.encode(), 1)),
    ]
    for _ in range(100):
        try:
            on.rows.execute(f"INSERT OR REPLACE INTO sessions VALUES ({', '.join('?' * len(values))})", values)  # noqa: S608
            on.rows.execute("INSERT OR REPLACE INTO events VALUES (?, ?, ?)", (name, 1, _hostile.record(rng, EVENT)))
            break
        except (sqlite3.IntegrityError, OverflowError, UnicodeEncodeError):
            return  # The file itself refuses it.
        except sqlite3.OperationalError:  # The tracker writes just now.
            await trio.sleep(0.01)
    if rng.random() < 0.2:
        await _resumed(on, name)
    for path in (f"/sessions/{name}", "/sessions?limit=20"):
        said = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {_hostile.SECRET}\r\n"
        _look(on, await _exchanged(on, f"{said}Connection: close\r\n\r\n".encode(), rng.randrange(200)))


async def _resumed(on: Fuzzed, name: str) -> None:
    """A new attempt goes on from a row, whatever it holds, or is refused."""
    with trio.fail_after(PATIENCE):
        try:
            async with on.tracker.session(name, resume="always") as session:
                session.snapshot()
        except ProgressError:
            pass
        except Exception as error:
            raise FailureError(f"going on from a row: {type(error).__name__}: {error!s:.300}") from error


async def batch(on: Fuzzed, first: int, count: int) -> None:
    """Sends the inputs of so many seeds, several at once.

    Raises:
        FailureError: A promise was broken.
    """
    limit = trio.CapacityLimiter(AT_ONCE)
    failures: list[FailureError] = []

    async def limited(seed: int) -> None:
        async with limit:
            try:
                await one(on, seed)
            except FailureError as failure:
                failures.append(failure)
                failure.add_note(str(seed))

    async with trio.open_nursery() as nursery:
        for seed in range(first, first + count):
            nursery.start_soon(limited, seed)
    if failures:
        raise failures[0]
    if on.tracebacks.texts:
        text = on.tracebacks.texts[0]
        on.tracebacks.texts.clear()
        raise FailureError(f"a traceback was logged:\n{text}")
    answer = await _exchanged(on, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", first)
    if not answer.startswith(b"HTTP/1.1 200"):
        raise FailureError(f"/healthz answers {answer!r:.100}")


def living() -> tuple[int, int]:
    """Tasks and descriptors; those of the SQLite file aside, which SQLite opens late and closes later still."""
    descriptors = 0
    for one_of_ours in Path("/proc/self/fd").iterdir():
        try:
            descriptors += "fuzzed.db" not in str(one_of_ours.readlink())
        except FileNotFoundError:  # What has listed them.
            pass
    return trio.lowlevel.current_statistics().tasks_living, descriptors


async def settled(on: Fuzzed, before: tuple[int, int] | None) -> tuple[int, int]:
    """Tasks and descriptors once they are as before, or do not come back to that."""
    for _ in range(400):
        now = living()
        if before is not None and now[0] <= before[0] and now[1] <= before[1]:
            return now
        await trio.sleep(0.02)
        if before is None and not on.tracker.statistics().subscribers and now == living():
            break
    return living()


async def fuzz(seed: int, count: int, tell: Callable[[dict[str, Any]], None]) -> None:
    """Sends the inputs of so many seeds, and tells how far it is, what has failed, and at last what came of it."""
    async with fuzzed() as on, trio.open_nursery() as nursery:
        nursery.start_soon(_watch_lag, on)
        with suppress(FailureError):  # It comes again.
            await batch(on, 0, 300)  # What is opened once and kept, is open.
        on.tracebacks.texts.clear()
        before = await settled(on, None)
        for counted in (on.statuses, on.inputs, on.lags, on.slowest):
            counted.clear()
        for first in range(seed, seed + count, BATCH):
            size = min(BATCH, seed + count - first)
            tell({"begun": first, "count": size})
            try:
                await batch(on, first, size)
            except FailureError as failure:
                await _narrowed(on, first, size, failure, tell)
        after = await settled(on, before)
        with trio.fail_after(10):
            on.session.set(still="here")
            await on.session.flush()
        lags = sorted(on.lags) or [0.0]
        nursery.cancel_scope.cancel()
    tell(
        {
            "done": count,
            "inputs": on.inputs,
            "statuses": on.statuses,
            "before": before,
            "after": after,
            "slowest": on.slowest,
            "lag p99": lags[int(len(lags) * 0.99)],
            "lag max": lags[-1],
        }
    )


async def _narrowed(
    on: Fuzzed, first: int, count: int, failure: FailureError, tell: Callable[[dict[str, Any]], None]
) -> None:
    """Tells which single input of a batch it was, if one alone does it."""
    for seed in range(first, first + count):
        try:
            await batch(on, seed, 1)
        except FailureError as again:
            tell({"failed": seed, "count": 1, "why": str(again)})
            return
    tell({"failed": first, "count": count, "why": str(failure)})


async def _watch_lag(on: Fuzzed) -> None:
    while True:
        due = trio.current_time() + 0.005
        await trio.sleep_until(due)
        on.lags.append(trio.current_time() - due)


def main() -> None:
    """What the parent runs."""

    def tell(what: dict[str, Any]) -> None:
        print(json.dumps(what), flush=True)

    trio.run(fuzz, int(sys.argv[1]), int(sys.argv[2]), tell)


if __name__ == "__main__":
    main()
