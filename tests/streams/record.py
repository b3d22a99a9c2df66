"""Records what a server sends of a session: `python tests/streams/record.py` writes the streams beside this file anew.

A stream is a file of messages as they came over the wire, one a line. `states.json` has a digest of the state after
each of them; recording holds the last one against what the tracker itself says. `null`: the message was refused.
Both `protocol/merge.py` and `server/static/merge.js` run over the streams in tests.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import trio
import trio.testing

from trio_progress import (
    Bookmark,
    End,
    Pipeline,
    ProgressTracker,
    ProtocolError,
    Session,
    Snapshot,
    Update,
    open_tracker,
)
from trio_progress.protocol.merge import merge
from trio_progress.protocol.messages import Message, decode_message, encode_message
from trio_progress.state.limits import Limits
from trio_progress.testing import memory_client

HERE = Path(__file__).parent
DIGESTS = HERE / "states.json"
BEGUN = 1_767_225_600.0
"""The wall clock's stamp at the beginning of each recording."""

_CANONICAL = msgspec.json.Encoder(order="deterministic")


def read(name: str) -> list[Message]:
    """The messages of a recorded stream."""
    return [decode_message(line) for line in (HERE / f"{name}.jsonl").read_bytes().splitlines()]


def names() -> list[str]:
    """The recorded streams."""
    return sorted(path.stem for path in HERE.glob("*.jsonl"))


def digest(state: Snapshot | None) -> str:
    """The state in 16 letters, its resume token included."""
    return hashlib.sha256(_CANONICAL.encode(state)).hexdigest()[:16]


def states(messages: list[Message]) -> list[tuple[Snapshot | None, bool]]:
    """The state after each message, and whether that message was taken."""
    state: Snapshot | None = None
    found: list[tuple[Snapshot | None, bool]] = []
    for message in messages:
        try:
            state = merge(state, message)
            found.append((state, True))
        except ProtocolError:
            found.append((state, False))
    return found


def digests(messages: list[Message]) -> list[str | None]:
    """What `states.json` holds of a stream."""
    return [digest(state) if taken else None for state, taken in states(messages)]


# What is recorded


@dataclass(frozen=True)
class Reader:
    """A subscriber: how long it sleeps between two messages, and how often it vanishes and comes back."""

    pauses: tuple[float, ...] = (0.0,)
    vanishes: float = 0.0
    away: float = 0.0
    attempts: int = 1
    sparse: bool = False


async def _phases(session: Session, rng: random.Random, *, deep: bool) -> None:
    for number in range(rng.randint(5, 7)):
        with session.phase(f"phase {number}", total=rng.choice([None, 50])) as phase:
            for part in range(rng.randint(3, 5)):
                with phase.phase(f"part-{part}/é", total=10, unit="page") as below:
                    below.advance(rng.randint(0, 10))
                    below.skip(rng.randint(0, 2))
                    below.set(rate_limit=rng.random(), where=None)
                    if deep and rng.random() < 0.5:
                        with below.phase("__proto__") as deepest:
                            deepest.update(done=rng.random(), message="<b>")
                    await trio.sleep(rng.choice([0.0, 0.1, 0.25]))
                phase.advance(rng.randint(0, 5))
                session.increment("found", rng.randint(0, 3))
        session.emit("phase.over", {"number": number})


async def nested(tracker: ProgressTracker, rng: random.Random) -> None:
    async with tracker.session("r", title="nested phases that fold", labels={"user": "u1"}) as session:
        await _phases(session, rng, deep=True)
        session.set_result({"report": "…", "n": [1, 2.5, None]})


async def attempts(tracker: ProgressTracker, rng: random.Random) -> None:
    """A session that fails and is gone on with, in phases that fail and are entered again."""
    for attempt in range(3):
        async with tracker.session(
            "r", Pipeline("research", ["search", "report"]), resume="always" if attempt else "never"
        ) as session:
            for again in range(2):
                if session.phases["search"].status == "completed":
                    break
                try:
                    with session.phase("search", total=4) as phase:
                        for step in range(4):
                            with phase.phase(f"site-{attempt}-{again}-{step}"):
                                phase.advance()
                                await trio.sleep(0.3)
                            if step == 2 and attempt == 0:
                                raise OSError("no route")
                except OSError:
                    session.save({"attempt": attempt, "again": again})
            if attempt < 2:
                session.fail("not yet")
            else:
                with session.phase("report"):
                    await trio.sleep(0.3)
        await trio.sleep(3)


async def quiet(tracker: ProgressTracker, rng: random.Random) -> None:
    """Heartbeats over long pauses, in which phases stall and go on."""
    async with tracker.session("r") as session:
        for number in range(3):
            with session.phase(f"wait {number}", total=2) as phase:
                phase.advance()
                await trio.sleep(rng.choice([2.3, 4.1]))
                phase.advance()
                await trio.sleep(0.7)


async def chatty(tracker: ProgressTracker, rng: random.Random) -> None:
    """More custom events than a slow reader is kept."""
    async with tracker.session("r") as session:
        for number in range(4):
            with session.phase(f"p{number}"):
                for n in range(rng.randint(5, 25)):
                    session.emit("line", n)
                await trio.sleep(0.4)


async def large(tracker: ProgressTracker, rng: random.Random) -> None:
    """Large values in phases that fold, in the session and in its result, which change now and then."""
    async with tracker.session("r") as session:
        session.set_result({"rows": [[1, 2.5, None]] * 40})
        for number in range(5):
            with session.phase(f"phase {number}") as phase:
                phase.set(__proto__="<b>" * 100, where="é" * rng.randint(250, 260))
                for part in range(5):
                    with phase.phase(f"part-{part}") as below:
                        below.set(log="l" * 300, n=part)
                        for step in range(rng.randint(1, 3)):
                            below.advance()
                            await trio.sleep(rng.choice([0.1, 0.25]))
                            if step == 1:
                                below.set(log=rng.choice(["l" * 300, ["m" * 300], None]))
                    if rng.random() < 0.3:
                        session.set(note="n" * rng.choice([5, 300, 400]))
            if number == 2:
                session.set_result("r" * 500)


Work = Callable[[ProgressTracker, random.Random], Awaitable[None]]
STREAMS: dict[str, tuple[Work, Reader]] = {
    "nested": (nested, Reader()),
    "nested-slow": (nested, Reader(pauses=(0.0, 0.4, 1.5))),
    "resumed": (nested, Reader(pauses=(0.0, 0.1), vanishes=0.15, away=0.35)),
    "attempts": (attempts, Reader(attempts=3)),
    "quiet": (quiet, Reader()),
    "chatty": (chatty, Reader(pauses=(0.6, 1.0))),
    "large": (large, Reader(sparse=True)),
    "large-resumed": (large, Reader(pauses=(0.0, 0.3, 1.0), vanishes=0.1, away=0.35, sparse=True)),
}


async def _record(work: Work, reader: Reader, rng: random.Random) -> tuple[list[Message], Snapshot]:
    messages: list[Message] = []

    async def follow(tracker: ProgressTracker) -> None:
        since, ends = None, 0
        while True:
            async with memory_client(tracker, sparse=reader.sparse) as client:
                await client.subscribe("r", since=since, wait=True)
                async for message in client:
                    again = decode_message(encode_message(message))
                    messages.append(again)
                    since = getattr(again, "resume", None) or since
                    if isinstance(again, End):
                        ends += 1
                        break
                    if rng.random() < reader.vanishes:
                        client.vanish()
                        break
                    await trio.sleep(rng.choice(reader.pauses))
            if ends == reader.attempts:
                return
            # After an end, until the next attempt has begun.
            await trio.sleep(3.1 if isinstance(messages[-1], End) else reader.away)

    async with (
        open_tracker(
            event_limit=8,
            limits=Limits(phases=12),
            heartbeat_interval=1.0,
            stall_after=1.5,
            wall_clock=lambda: BEGUN + trio.current_time(),
        ) as tracker,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(follow, tracker)
        await work(tracker, rng)
        final = await tracker.snapshot("r")
    return messages, final


def _disturbed(messages: list[Message], rng: random.Random) -> list[Message]:
    """The stream as it comes through something that loses, repeats, swaps and alters; now and then a snapshot helps."""
    found: list[Message] = []
    held: list[Message] = []
    for original, (state, _) in zip(messages, states(messages), strict=True):
        message = original
        chance = rng.random()
        if isinstance(message, Update) and chance < 0.1:
            if rng.random() < 0.5 and state is not None:
                found.append(state)
            continue
        if isinstance(message, Update) and chance < 0.2 and message.phases:
            path = (*message.phases[0].path, "nobody", "below")
            found.append(msgspec.structs.replace(message, phases=(_moved(message.phases[0], path), *message.phases)))
        if isinstance(message, Update) and chance > 0.9:
            head = msgspec.structs.replace(message.head, epoch=message.head.epoch + 1)
            found.append(msgspec.structs.replace(message, head=head))
        if isinstance(message, Bookmark):  # Whose two clocks are seldom news at once.
            message = msgspec.structs.replace(message, progressed_at=message.heartbeat_at)
        if chance > 0.8:
            held.append(message)
            continue
        found.extend([message, message] if 0.3 < chance < 0.4 else [message])
        found.extend(held)
        held.clear()
        if rng.random() < 0.15 and state is not None:
            found.append(state)
    return [*found, *held]


def _keeping(messages: list[Message], rng: random.Random) -> list[Message]:
    """The stream with updates that keep what the state before may not have."""
    found: list[Message] = []
    for message in messages:
        if isinstance(message, Update) and message.kept is not msgspec.UNSET and rng.random() < 0.3:
            name = rng.choice(["fields.nobody", "title", "result", "fields.note", ""])
            found.append(msgspec.structs.replace(message, kept=(*message.kept, name)))
        found.append(message)
    return found


def _moved(phase: Any, path: tuple[str, ...]) -> Any:
    return msgspec.structs.replace(phase, path=path, name=path[-1])


def main() -> None:
    """Writes all streams, and what they come to."""
    made: dict[str, list[Message]] = {}
    for number, (name, (work, reader)) in enumerate(STREAMS.items()):
        clock = trio.testing.MockClock(autojump_threshold=0)
        messages, final = trio.run(_record, work, reader, random.Random(number), clock=clock)
        merged = states(messages)[-1][0]
        assert all(taken for _, taken in states(messages)), name
        assert merged is not None
        assert merged.resuming("") == final.resuming(""), name
        made[name] = messages
    made["disturbed"] = _disturbed(
        made["resumed"] + made["nested"] + made["attempts"] + made["quiet"], random.Random(7)
    )
    made["large-disturbed"] = _disturbed(_keeping(made["large-resumed"], random.Random(8)), random.Random(9))
    for name, messages in made.items():
        (HERE / f"{name}.jsonl").write_bytes(b"".join(encode_message(one) + b"\n" for one in messages))
    kept = {name: digests(read(name)) for name in sorted(made)}
    DIGESTS.write_text(json.dumps(kept, indent=0) + "\n", "utf-8")
    for name, messages in made.items():
        kinds = [type(one).__name__ for one in messages]
        refused = sum(one is None for one in kept[name])
        print(name, {kind: kinds.count(kind) for kind in sorted(set(kinds))}, f"{refused} refused")


if __name__ == "__main__":
    main()
