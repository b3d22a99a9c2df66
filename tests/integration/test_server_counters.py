"""What a scrape of the door says agrees with what its clients and a file of SQLite have really got."""

from __future__ import annotations

import json
import socket
import sqlite3
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from tests.doors import Door, Talk, ask, open_door, talk
from tests.support import PATIENCE
from trio_progress import Pipeline

pytestmark = pytest.mark.integration

RESEARCH = Pipeline("research", {"search": 3, "analysis": 2})

AUDIT = """
CREATE TABLE taken (id TEXT, epoch INTEGER, seq INTEGER);
CREATE TRIGGER taken_first AFTER INSERT ON sessions
    BEGIN INSERT INTO taken VALUES (new.id, new.epoch, new.seq); END;
CREATE TRIGGER taken_next AFTER UPDATE OF seq ON sessions
    BEGIN INSERT INTO taken VALUES (new.id, new.epoch, new.seq); END;
"""
"""Has SQLite itself write down every state that it is given."""

MESSAGES = ("snapshot", "update")


async def scraped(door: Door) -> dict[str, float]:
    """What Prometheus would be told, by name and labels."""
    answer = await ask(door.port, "GET", "/metrics")
    assert answer.status == 200
    found = {}
    for family in text_string_to_metric_families(answer.body.decode()):
        for sample in family.samples:
            labels = [value for _, value in sorted(sample.labels.items())]
            found[",".join([sample.name.removeprefix("trio_progress_"), *labels])] = sample.value
    return found


async def follow(client: Talk, **subscription: Any) -> None:
    """Subscribes, and reads to the end."""
    await client.say(type="subscribe", wait=True, **subscription)
    await client.until("end", within=30)


async def come_and_go(door: Door, seen: list[dict[str, Any]]) -> None:
    """Reads a little, goes, and comes back with its token, until the end."""
    since: dict[str, str] = {}
    while True:
        async with talk(door.port) as client:
            await client.say(type="subscribe", session="r-1", wait=True, **since)
            while sum(message["type"] == "update" for message in client.seen) < 6:
                if (await client.next(within=30))["type"] == "end":
                    break
            await client.say(type="unsubscribe", session="r-1")
            await client.say(type="ping", data="last")
            await client.until("pong")
        seen += client.seen
        if any(message["type"] == "end" for message in client.seen):
            return
        since = {"since": [m["resume"] for m in client.seen if "resume" in m][-1]}


async def read_events(door: Door, seen: list[dict[str, Any]]) -> None:
    """Reads the other session as server-sent events, to the end of the response."""
    stream = await trio.open_tcp_stream("127.0.0.1", door.port)
    async with stream:
        await stream.send_all(b"GET /sessions/r-2/events?wait=1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        data = b""
        with trio.fail_after(PATIENCE):
            async for more in stream:
                data += more
    seen += [json.loads(line[5:]) for line in data.decode().splitlines() if line.startswith("data:")]


async def work(door: Door, session_id: str, *, burst: int) -> None:
    async with door.tracker.session(session_id, RESEARCH) as session:
        with session.phase("search", total=40) as phase:
            for n in range(40):
                phase.advance()
                if n % burst == 0:
                    for _ in range(burst):
                        session.emit("found", {"n": n})
                await trio.sleep(0.01)
        with session.phase("analysis", total=3) as phase:
            phase.advance(3)
        phase.advance()  # Too late.


async def test_the_counts_of_the_door_agree_with_what_websockets_and_sqlite_got(tmp_path: Path) -> None:
    path = tmp_path / "progress.db"
    given = {"store": f"sqlite:{path}", "event_limit": 8, "persist_interval": 0.1}
    seen: list[dict[str, Any]] = []
    async with open_door(tracker_settings=given) as door:
        audit = sqlite3.connect(path, isolation_level=None, timeout=30)
        audit.executescript(AUDIT)
        async with talk(door.port) as fast, talk(door.port) as slow, talk(door.port) as many:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(follow, fast, session="r-1"))
                nursery.start_soon(partial(follow, slow, session="r-1", max_hz=4))
                nursery.start_soon(partial(follow, many, session="r-2"))
                nursery.start_soon(come_and_go, door, seen)
                nursery.start_soon(read_events, door, seen)
                with trio.fail_after(PATIENCE):
                    while door.tracker.statistics().subscribers < 5:  # noqa: ASYNC110 - the tracker tells nobody
                        await trio.sleep(0.01)
                async with trio.open_nursery() as sessions:
                    sessions.start_soon(partial(work, door, "r-1", burst=4))
                    sessions.start_soon(partial(work, door, "r-2", burst=20))
            for client in (fast, slow, many):
                seen += client.seen
        final = [await door.tracker.snapshot(name) for name in ("r-1", "r-2")]
        counted = await scraped(door)
        rows = audit.execute("SELECT id, epoch, seq FROM taken").fetchall()
        audit.close()
    updates = [message for message in seen if message["type"] == "update"]
    whole = [message for message in seen if message["type"] == "snapshot"]
    assert counted["broadcasts_total"] == len(updates) + len(whole)
    assert counted["broadcasts_conflated_total"] == sum(m["seq"] - m["from"] - 1 for m in updates) > 0
    assert counted["delivery_lag_seconds_count"] == len(updates)
    lost = sum(message["dropped"] for message in seen if message["type"] == "gap")
    assert counted["broadcasts_dropped_total,event"] == lost > 0
    assert counted["broadcasts_dropped_total,subscriber"] == 0
    assert counted["states_total"] == sum(snapshot.seq for snapshot in final)
    assert counted["persists_total"] == len(rows) > 4
    last = {name: (epoch, seq) for name, epoch, seq in rows}
    assert last == {snapshot.id: (snapshot.epoch, snapshot.seq) for snapshot in final}
    assert counted["persists_skipped_total,coalesced"] == counted["states_total"] - len(rows)
    assert counted["sessions_ended_total,research,completed"] == 2
    assert counted["phase_seconds_count,search,research"] == 2
    assert counted["late_updates_total"] == 2
    assert counted["subscribers"] == counted["final_states_lost_total"] == 0


async def stuck(door: Door, path: str) -> trio.SocketStream:
    """A connection with little room for what is sent to it, on which a subscription stands and nothing is read."""
    before = door.tracker.statistics().subscribers
    sock = trio.socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await sock.connect(("127.0.0.1", door.port))
    stream = trio.SocketStream(sock)
    await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    with trio.fail_after(PATIENCE):
        while door.tracker.statistics().subscribers == before:  # noqa: ASYNC110 - the tracker tells nobody
            await trio.sleep(0.01)
    return stream


async def test_each_client_that_is_let_go_because_it_does_not_read_is_counted_once() -> None:
    async with open_door(write_timeout=1.0, tracker_settings={"broadcast_interval": 0.005}) as door:
        tracker = door.tracker
        async with tracker.session("r-1") as session, talk(door.port) as reader:
            await reader.say(type="subscribe", session="r-1")
            await reader.until("snapshot")
            one = await stuck(door, "/sessions/r-1/events")
            other = await stuck(door, "/events")
            gone = await stuck(door, "/sessions/r-1/events")
            await gone.aclose()  # Who leaves by itself is not dropped.

            async def read() -> None:
                while True:
                    await reader.next(within=30)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                with trio.fail_after(PATIENCE):
                    while tracker.statistics().subscribers > 1:
                        for n in range(8):
                            session.set(**{f"pad_{n}": str(trio.current_time()) * 800})
                        await trio.sleep(0.005)
                nursery.cancel_scope.cancel()
            counted = await scraped(door)
            assert counted["broadcasts_dropped_total,subscriber"] == 2
            assert counted["broadcasts_dropped_total,event"] == 0
            await reader.say(type="ping", data="still here")
            await reader.until("pong")
            await one.aclose()
            await other.aclose()
