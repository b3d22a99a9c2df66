"""What is large costs once on the wire, for clients that say that they take updates without what they have."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import h11
import pytest
import trio

from tests.doors import SUBPROTOCOL, Talk, ask, both_doors, open_door, talk
from tests.support import PATIENCE
from trio_progress import Phase, Session, Snapshot, Update
from trio_progress.client.subscription import connect
from trio_progress.protocol.merge import merge
from trio_progress.protocol.messages import SPARSE, decode_message

pytestmark = pytest.mark.integration

RESULT = {"report": "r" * 100_000}
TEXT = "t" * 10_000
ALL = 120_000
"""Characters of what is large in the session."""

STEPS = 12


class Client:
    """A WebSocket client, the state that it has come to, and what it was sent."""

    def __init__(self, talking: Talk) -> None:
        self.talking = talking
        self.state: Snapshot | None = None
        self.kept: set[str] = set()

    async def until(self, done: int) -> None:
        """Reads until the phase has come so far."""
        with trio.fail_after(PATIENCE):
            while self.state is None or not self.state.phases or self.state.phases[0].done < done:
                message = decode_message(json.dumps(await self.talking.next()))
                self.state = merge(self.state, message)
                if isinstance(message, Update):
                    self.kept.update(message.kept or (), *(phase.kept for phase in message.phases))

    @property
    def sent(self) -> int:
        """Characters of all messages."""
        return sum(len(json.dumps(message)) for message in self.talking.seen)


def fill(session: Session, phase: Phase) -> None:
    session.set_result(RESULT)
    session.set(note=TEXT)
    phase.set(log=TEXT, host="h1")


@both_doors
async def test_who_says_so_is_sent_what_is_large_once_and_who_says_nothing_each_time() -> None:
    async with (
        open_door() as door,
        door.tracker.session("r") as session,
        talk(door.port, subprotocols=(SUBPROTOCOL, SPARSE)) as one,
        talk(door.port) as other,
    ):
        assert one.connection.subprotocol == other.connection.subprotocol == SUBPROTOCOL
        sparse, whole = Client(one), Client(other)
        with session.phase("fetch", total=STEPS) as phase:
            for client in (sparse, whole):
                await client.talking.say(type="subscribe", session="r")
            fill(session, phase)
            for done in range(1, STEPS):
                phase.advance()
                for client in (sparse, whole):
                    await client.until(done)
        assert sparse.state is not None
        assert whole.state is not None
        assert sparse.state.fields == whole.state.fields == {"note": TEXT}
        assert sparse.state.result == whole.state.result == RESULT
        assert sparse.state.phases == whole.state.phases
        assert sparse.kept == {"result", "fields.note", "fields.log"}
        assert not whole.kept
        assert sparse.sent < 1.5 * ALL
        assert whole.sent > (STEPS - 2) * ALL


async def body_of(stream: trio.SocketStream, path: str) -> AsyncGenerator[bytes, None]:
    """The body of a response, as it comes."""
    connection = h11.Connection(h11.CLIENT)
    request = h11.Request(method="GET", target=path, headers=[("Host", "localhost")])
    await stream.send_all((connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b""))
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some(1 << 20))
        elif isinstance(event, h11.Data):
            yield bytes(event.data)


async def events_until(port: int, query: str, phase: Phase) -> tuple[list[dict[str, Any]], int]:
    """The messages of a stream of events while a phase goes on, and how many characters they are."""
    rest, messages = b"", []
    state: Snapshot | None = None
    until = int(phase.done) + STEPS
    async with (
        await trio.open_tcp_stream("127.0.0.1", port) as stream,
        aclosing(body_of(stream, f"/sessions/r/events?{query}")) as body,
    ):
        with trio.fail_after(PATIENCE):
            async for data in body:
                *events, rest = (rest + data).split(b"\n\n")
                for text in filter(None, (event.partition(b"data: ")[2] for event in events)):
                    messages.append(json.loads(text))
                    state = merge(state, decode_message(text))
                if state is not None and state.phases[0].done == phase.done:
                    if phase.done == until:
                        break
                    phase.advance()
    return messages, sum(len(json.dumps(message)) for message in messages)


@both_doors
async def test_a_stream_of_events_says_so_by_a_parameter() -> None:
    async with open_door() as door, door.tracker.session("r") as session:
        with session.phase("fetch", total=100) as phase:
            fill(session, phase)
            sparse, bytes_of_sparse = await events_until(door.port, "sparse=1", phase)
            whole, bytes_of_whole = await events_until(door.port, "sparse=0", phase)
        assert any("result" in message.get("kept", ()) for message in sparse)
        assert not any("kept" in message for message in whole)
        assert bytes_of_sparse < 1.5 * ALL < (STEPS - 2) * ALL < bytes_of_whole
        assert (await ask(door.port, "GET", "/sessions/r/events?sparse=maybe")).status == 400


async def test_connect_hands_over_whole_updates_of_sparse_ones() -> None:
    async with open_door() as door, door.tracker.session("r") as session:
        with session.phase("fetch", total=STEPS) as phase:
            fill(session, phase)
            async with connect(f"ws://127.0.0.1:{door.port}", "r") as stream:
                updates: list[Update] = []
                with trio.fail_after(PATIENCE):
                    async for message in stream:
                        if isinstance(message, Snapshot):
                            phase.advance()
                        elif isinstance(message, Update):
                            updates.append(message)
                            if phase.done >= STEPS - 1:
                                break
                            phase.advance()
                assert stream.state is not None
                assert stream.state.result == RESULT
        assert len(updates) > 1
        for update in updates:
            assert not update.kept
            assert update.head.result == RESULT
            assert update.head.fields == {"note": TEXT}
            assert [(each.fields, each.kept) for each in update.phases] == [({"log": TEXT, "host": "h1"}, ())]
