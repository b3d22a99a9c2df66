"""The seed's ProgressTracker and connection manager, written anew from what its analysis says of them.

What the text says is done as it says it: dicts that nothing guards, a phase that is recorded as completed after
the phase was changed and an `await` later, a debounce by the time of the last snapshot, one heartbeat task a
research, a `_cleanup` that pops without a default, broadcasts that nobody waits for, and errors of a socket
that are caught and forgotten. Where the text leaves something open, the mildest reading was taken:

- What `update_progress` awaits between the change of the phase and its recording is not said. Here it is one pass
  of the event loop, the shortest wait that there is: only updates of one tick can meet.
- The previous phase is kept in the shared dict. (In a local variable it would be recorded late, but always, and
  the text says "never".)
- The debounce: two updates in one tick "skip persist, then both write back the same timestamp. Net effect: we
  can go ~4 s without snapshot". Taken by the letter, every such pair puts the snapshot off once more, and a
  busy run is never stored. Here it is put off once between two snapshots, which gives the said net effect.
  One update alone writes nothing back when it skips.
- A first update is always stored. Nothing stores a state that no update follows: the text gives the guarantee
  of a final state to the remedy only.
- The text knows no call for the end of a research but `_cleanup`; the last update before it is the final state.
- The text names one call only, `update_progress`. So a worker that marks its phase as complete names that phase,
  at 100 per cent; where another one was set meanwhile, this sets the phase back, and the bar is wrong until the
  next update. A guard against going back, which the text has not, would lose about twice as many completions,
  and some under the remedy as well: of two phases that begin in one tick the earlier one may come second.
- A heartbeat ends when it is cancelled, and by nothing else: `_cleanup()` "cancels the task". It is not waited for.
- Who calls `_cleanup` is not said. Here who has started a research calls it at the end, and not if it is cancelled
  before; with a `try` and `finally` around every run nothing would be left of a cancelled one.
- A socket takes messages without waiting as long as its buffer has room. Only a sender that waits for room makes
  it refuse others, with the error that the text quotes. Ready callbacks keep asyncio's order.
- How much room there is decides how often that happens, which to the text is "occasionally". Here it is 16
  messages: the runs last ten seconds, not minutes, and one client of three is slow. That loses one message in seven.
  With room for 64 (`--room 64`) one schedule in seven still shows it; with room for a whole run none can.
- A broadcast goes through the sockets one after the other ("itself iterates over connected sockets").
- Tasks that nobody waits for are held on to, as asyncio's documentation asks; the text does not say so.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final

from .schedule import PHASES

ROOM: Final = 16
"""Messages that a socket's buffer takes before a sender has to wait, unless told."""

STORE_SECONDS: Final = 0.001
"""What the store takes for a snapshot."""

Message = dict[str, Any]


class Socket:
    """One client's WebSocket: a buffer that the client empties at its own pace, and one waiting sender at most."""

    def __init__(self, pace: float, room: int = ROOM) -> None:
        self._pace = pace
        self._room = room
        self._buffer: deque[Message] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self._news = asyncio.Event()
        self.received: list[tuple[float, Message]] = []

    async def send_json(self, message: Message) -> None:
        """Sends; waits while the buffer is full.

        Raises:
            RuntimeError: Another sender is waiting.
        """
        if self._waiting is not None:
            raise RuntimeError("cannot call send() while another coroutine is already waiting")
        self._buffer.append(message)
        self._news.set()
        if len(self._buffer) > self._room:
            self._waiting = asyncio.get_running_loop().create_future()
            try:
                await self._waiting
            finally:
                self._waiting = None

    async def read(self) -> None:
        """The client: takes what comes, for as long as it is let."""
        loop = asyncio.get_running_loop()
        while True:
            while not self._buffer:
                self._news.clear()
                await self._news.wait()
            await asyncio.sleep(self._pace)
            self.received.append((loop.time(), self._buffer.popleft()))
            if self._waiting is not None and not self._waiting.done():
                self._waiting.set_result(None)

    @property
    def idle(self) -> bool:
        """Whether the client has all that was sent."""
        return not self._buffer


class Redis:
    """Where snapshots go: what was stored, and when."""

    def __init__(self) -> None:
        self.stored: list[tuple[float, Message]] = []

    async def save(self, snapshot: Message) -> None:
        """Stores one."""
        await asyncio.sleep(STORE_SECONDS)
        self.stored.append((asyncio.get_running_loop().time(), snapshot))


class ConnectionManager:
    """The sockets of each research."""

    def __init__(self) -> None:
        self.connections: dict[str, list[Socket]] = {}
        self.sent = self.lost = 0
        """Messages for one socket each, and those of them that it has refused; for the harness."""

    async def broadcast_to_research(self, research_id: str, message: Message) -> None:
        """Sends to each socket in turn."""
        for socket in list(self.connections.get(research_id, ())):
            self.sent += 1
            try:
                await socket.send_json(message)
            except RuntimeError:  # "We mask it with try/except, but updates are lost."
                self.lost += 1


class OldTracker:
    """The tracker before any remedy."""

    def __init__(
        self,
        connection_manager: ConnectionManager,
        redis: Redis,
        *,
        persist_interval_sec: float = 2.0,
        heartbeat_interval_sec: float = 10.0,
    ) -> None:
        self.research_progress: dict[str, dict[str, Any]] = {}
        self._last_persist: dict[str, float] = {}
        self._heartbeat_tasks: dict[str, asyncio.Task[None]] = {}
        self._connection_manager = connection_manager
        self._redis = redis
        self._persist_interval_sec = persist_interval_sec
        self._heartbeat_interval_sec = heartbeat_interval_sec
        self.background: set[asyncio.Task[None]] = set()
        """Broadcasts and snapshots that are under way."""

    async def start_research(self, research_id: str) -> None:
        """Begins a research."""
        self._begin(research_id)
        self._spawn_heartbeat(research_id)
        self._broadcast(research_id)

    def _begin(self, research_id: str) -> None:
        self.research_progress[research_id] = {
            "phase": None,
            "previous_phase": None,
            "phase_progress": 0.0,
            "completed_phases": set(),
            "updates": 0,
            "updating": 0,
            "put_off": False,
        }

    def _spawn_heartbeat(self, research_id: str) -> None:
        task = asyncio.get_running_loop().create_task(self._heartbeat(research_id), name=f"heartbeat of {research_id}")
        self._heartbeat_tasks[research_id] = task

    async def update_progress(self, research_id: str, phase: str, progress: float) -> None:
        """Says which phase it is, and how much of that is done, in per cent."""
        data = self.research_progress.get(research_id)
        if data is None:
            return
        last = self._last_persist.get(research_id)
        now = asyncio.get_running_loop().time()
        data["updating"] += 1
        shared = data["updating"] > 1
        try:
            changed = self._change(data, phase, progress)
            await asyncio.sleep(0)
            shared = shared or data["updating"] > 1
        finally:
            data["updating"] -= 1
        if changed:
            data["completed_phases"].add(data["previous_phase"])
        self._broadcast(research_id)
        self._debounce(research_id, data, last, now, shared)

    def _change(self, data: dict[str, Any], phase: str, progress: float) -> bool:
        changed = data["phase"] is not None and phase != data["phase"]
        if changed:
            data["previous_phase"] = data["phase"]
        data["phase"] = phase
        data["phase_progress"] = progress
        data["updates"] += 1
        return changed

    def _debounce(self, research_id: str, data: dict[str, Any], last: float | None, now: float, shared: bool) -> None:
        if last is None or now - last > self._persist_interval_sec:
            self._last_persist[research_id] = now
            data["put_off"] = False
            self._in_background(self._redis.save(snapshot_of(data)))
        elif shared and not data["put_off"]:
            self._last_persist[research_id] = now
            data["put_off"] = True

    def _broadcast(self, research_id: str) -> None:
        """Tells all clients; not awaited."""
        message = snapshot_of(self.research_progress[research_id])
        self._in_background(self._connection_manager.broadcast_to_research(research_id, message))

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.background.add(task)
        task.add_done_callback(self.background.discard)

    async def _heartbeat(self, research_id: str) -> None:
        while True:
            await asyncio.sleep(self._heartbeat_interval_sec)
            if research_id in self.research_progress:
                self._broadcast(research_id)

    async def _cleanup(self, research_id: str) -> None:
        self._heartbeat_tasks.pop(research_id).cancel()
        self._forget(research_id)

    def _forget(self, research_id: str) -> None:
        self.research_progress.pop(research_id, None)
        self._last_persist.pop(research_id, None)

    async def cleanup(self, research_id: str) -> None:
        """Ends a research.

        Raises:
            KeyError: Another clean-up of it was faster.
        """
        await self._cleanup(research_id)

    async def settle(self, idle: Callable[[], bool]) -> None:
        """Waits until all that is under way has arrived; for the harness."""
        while self.background or not idle():  # noqa: ASYNC110 - it is a test of many things, in virtual time
            await asyncio.sleep(0.05)

    @property
    def left_behind(self) -> int:
        """Entries that are still kept, of whatever kind; for the harness."""
        return len(self.research_progress) + len(self._last_persist) + len(self._heartbeat_tasks)


def snapshot_of(data: dict[str, Any]) -> Message:
    """What clients and the store are given."""
    return {
        "phase": data["phase"],
        "progress": overall(data),
        "completed_phases": sorted(data["completed_phases"]),
        "updates": data["updates"],
    }


def overall(data: dict[str, Any]) -> float:
    """The weighted progress: the phases that are recorded as completed, and the part of the present one."""
    completed = data["completed_phases"]
    done = sum(PHASES[name] for name in completed)
    phase = data["phase"]
    return done + (PHASES[phase] * data["phase_progress"] / 100 if phase is not None and phase not in completed else 0)
