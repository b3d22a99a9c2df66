"""Replays schedules to the two asyncio models, on the virtual loop."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from itertools import pairwise
from operator import itemgetter
from typing import Final

from . import loop
from .old import ROOM, ConnectionManager, OldTracker, Redis, Socket, overall, snapshot_of
from .outcome import NEVER, Cancelled, Look, Replay, Stays
from .schedule import Call, Schedule, Stay

ID: Final = "r-42"

PATIENCE: Final = 600.0
"""Seconds that messages may take to arrive in the end."""

AFTERWARDS: Final = 35.0
"""Seconds after which there is counted what beats on; some heartbeats."""


class AsyncioModel:
    """One of the two models as a contender.

    Args:
        kind: Which.
        room: Messages that a client's socket takes before a sender has to wait.
    """

    def __init__(self, kind: type[OldTracker], room: int = ROOM) -> None:
        self._kind = kind
        self._room = room

    def replay(self, schedule: Schedule, seed: int) -> Replay:
        """Replays a schedule. The seed decides nothing more: the loop's order is asyncio's own."""
        return loop.run(_Replaying(self._kind, schedule, self._room).run())

    def stays(self, stays: Sequence[Stay], seed: int) -> Stays:
        """Lets each caller start the research, and clean it up."""
        return loop.run(_stays(self._kind, stays))

    def cancelled(self, seed: int) -> Cancelled:
        """A run is cancelled about when it sets its second phase."""
        return loop.run(_cancelled(self._kind, random.Random(seed).randrange(4)))


class _Replaying:
    def __init__(self, kind: type[OldTracker], schedule: Schedule, room: int) -> None:
        self._schedule = schedule
        self._room = room
        self._manager = ConnectionManager()
        self._redis = Redis()
        self._tracker = kind(self._manager, self._redis)
        self._found = Replay()
        self._moments = _Moments()

    async def run(self) -> Replay:
        schedule, tracker, found = self._schedule, self._tracker, self._found
        sockets = [Socket(client.pace, self._room) for client in schedule.clients]
        self._manager.connections[ID] = sockets
        readers = [asyncio.create_task(socket.read()) for socket in sockets]
        await tracker.start_research(ID)
        async with asyncio.TaskGroup() as group:
            for calls in schedule.by_caller.values():
                group.create_task(self._call(calls))
            group.create_task(self._look())
        await self._moments.until(schedule.end)
        data = tracker.research_progress[ID]
        final = snapshot_of(data)
        await tracker.cleanup(ID)
        async with asyncio.timeout(PATIENCE):
            await tracker.settle(lambda: all(socket.idle for socket in sockets))
        await asyncio.sleep(max(client.pace for client in schedule.clients) * 2)
        for reader in readers:
            reader.cancel()
        await asyncio.wait(readers)
        found.stored_at = [at for at, _ in self._redis.stored]
        found.final_stored = bool(self._redis.stored) and self._redis.stored[-1][1] == final
        found.sent, found.lost = self._manager.sent, self._manager.lost
        found.left_behind = tracker.left_behind
        last_call = schedule.calls[-1].at
        for client, socket in zip(schedule.clients, sockets, strict=True):
            numbers = [message["updates"] for _, message in socket.received]
            found.reordered += sum(then < number for number, then in pairwise(numbers))
            right = bool(numbers) and socket.received[-1][1] == final
            found.wrong_end += not right
            if not client.slow:
                found.lag = max(found.lag, socket.received[-1][0] - last_call if right else NEVER)
        found.history = hash(tuple((at, message["updates"]) for s in sockets for at, message in s.received))
        return found

    async def _call(self, calls: Sequence[tuple[int, Call]]) -> None:
        for place, call in calls:
            await self._moments.until(call.at, place)
            begun = _now()
            progress = 100 * call.done / call.total if call.total else 0.0
            await self._tracker.update_progress(ID, call.phase, progress)
            self._found.longest_call = max(self._found.longest_call, _now() - begun)

    async def _look(self) -> None:
        data = self._tracker.research_progress[ID]
        for moment in self._schedule.looks:
            await self._moments.until(moment)
            self._found.looks.append(Look(moment, overall(data), frozenset(data["completed_phases"])))
            self._found.tasks = max(self._found.tasks, len(asyncio.all_tasks()))


async def _stays(kind: type[OldTracker], stays: Sequence[Stay]) -> Stays:
    found = Stays()
    tracker = kind(ConnectionManager(), Redis())

    moments = _Moments()

    async def stay(one: Stay) -> None:
        await moments.until(one.at)
        await tracker.start_research(ID)
        await asyncio.sleep(one.seconds)
        try:
            await tracker.cleanup(ID)
        except KeyError:
            found.errors += 1

    async with asyncio.TaskGroup() as group:
        for one in stays:
            group.create_task(stay(one))
    await asyncio.sleep(AFTERWARDS)
    found.heartbeats_left = sum(task.get_name() == f"heartbeat of {ID}" for task in asyncio.all_tasks())
    return found


async def _cancelled(kind: type[OldTracker], passes: int) -> Cancelled:
    tracker = kind(ConnectionManager(), Redis())
    ready = asyncio.Event()

    async def run() -> None:
        await tracker.start_research(ID)
        await tracker.update_progress(ID, "classification", 100.0)
        ready.set()
        await tracker.update_progress(ID, "search", 0.0)
        await asyncio.sleep(1)
        await tracker.cleanup(ID)

    caller = asyncio.create_task(run())
    await ready.wait()
    for _ in range(passes):
        await asyncio.sleep(0)
    caller.cancel()
    await asyncio.wait([caller])
    data = tracker.research_progress[ID]
    lost = data["phase"] == "search" and "classification" not in data["completed_phases"]
    await asyncio.sleep(AFTERWARDS)
    return Cancelled(lost, len(asyncio.all_tasks()) - 1)


def _now() -> float:
    return asyncio.get_running_loop().time()


class _Moments:
    """Those who wait for one moment go on in one pass of the loop, in the order of the schedule."""

    def __init__(self) -> None:
        self._waiting: dict[float, list[tuple[int, asyncio.Future[None]]]] = {}

    async def until(self, moment: float, place: int = 0) -> None:
        running = asyncio.get_running_loop()
        if moment not in self._waiting:
            self._waiting[moment] = []
            running.call_at(moment, self._ring, moment)
        due: asyncio.Future[None] = running.create_future()
        self._waiting[moment].append((place, due))
        await due

    def _ring(self, moment: float) -> None:
        for _, due in sorted(self._waiting.pop(moment), key=itemgetter(0)):
            due.set_result(None)
