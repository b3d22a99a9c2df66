"""The same tracker with the remedy that the seed recommends: lock, queue, funnel, guarded pops.

Its sections 3.1 to 3.4 are followed. Where they leave something open, the reading is the milder one:

- 3.1 wraps the body of `update_progress()` in a lock of its research; what the body awaits stays in it.
- 3.2 has one queue and one consumer for each research; the consumer stores the latest snapshot every
  two seconds, and what it has when the research is cleaned up.
- 3.3 has one funnel for each research, whose consumer awaits `send_json` for one socket after the other. The
  queue has no bound, for the text gives none, and "other coroutines merely `put_nowait`".
- 3.4 guards the pops. It says nothing of `start_research`, which goes on to overwrite the heartbeat task of an
  earlier start. Queues and locks are found again (`setdefault`), so those are not doubled.
- Cleaning up lets both consumers finish what they have, and ends them; the text does not say who does.
- The locks stay: nothing in the text takes them out.
"""

from __future__ import annotations

import asyncio

from .old import ConnectionManager, Message, OldTracker, Redis, snapshot_of


class RemediedTracker(OldTracker):
    """The tracker with the seed's own remedy."""

    def __init__(self, connection_manager: ConnectionManager, redis: Redis) -> None:
        super().__init__(connection_manager, redis)
        self._locks: dict[str, asyncio.Lock] = {}
        self._persist_queues: dict[str, asyncio.Queue[Message | None]] = {}
        self._funnels: dict[str, asyncio.Queue[Message | None]] = {}

    async def start_research(self, research_id: str) -> None:
        """Begins a research, with the consumers of its two queues."""
        if research_id not in self._funnels:
            funnel = self._funnels[research_id] = asyncio.Queue()
            self._in_background(self._send(research_id, funnel))
            queue = self._persist_queues[research_id] = asyncio.Queue()
            self._in_background(self._persist(queue))
        await super().start_research(research_id)

    async def update_progress(self, research_id: str, phase: str, progress: float) -> None:
        """As before, one after the other."""
        lock = self._locks.setdefault(research_id, asyncio.Lock())
        async with lock:
            data = self.research_progress.get(research_id)
            if data is None:
                return
            changed = self._change(data, phase, progress)
            await asyncio.sleep(0)
            if changed:
                data["completed_phases"].add(data["previous_phase"])
            self._broadcast(research_id)
            queue = self._persist_queues.get(research_id)
            if queue is not None:
                queue.put_nowait(snapshot_of(data))

    def _broadcast(self, research_id: str) -> None:
        funnel = self._funnels.get(research_id)
        if funnel is not None and research_id in self.research_progress:
            funnel.put_nowait(snapshot_of(self.research_progress[research_id]))

    async def _send(self, research_id: str, funnel: asyncio.Queue[Message | None]) -> None:
        while (message := await funnel.get()) is not None:
            await self._connection_manager.broadcast_to_research(research_id, message)

    async def _persist(self, queue: asyncio.Queue[Message | None]) -> None:
        loop = asyncio.get_running_loop()
        due = float("-inf")
        latest: Message | None = None
        ending = False
        while not ending:
            elapsed = False
            try:
                async with asyncio.timeout_at(None if latest is None else due):
                    item = await queue.get()
                ending = item is None
                latest = latest if item is None else item
            except TimeoutError:
                elapsed = True  # Not read off the clock, which may stand a rounding error before `due`.
            if latest is not None and (ending or elapsed or loop.time() >= due):
                await self._redis.save(latest)
                due, latest = loop.time() + self._persist_interval_sec, None

    async def _cleanup(self, research_id: str) -> None:
        task = self._heartbeat_tasks.pop(research_id, None)
        if task and not task.done():
            task.cancel()
        self._forget(research_id)
        for queues in (self._funnels, self._persist_queues):
            queue = queues.pop(research_id, None)
            if queue is not None:
                queue.put_nowait(None)

    @property
    def left_behind(self) -> int:
        """Entries that are still kept, locks among them."""
        return super().left_behind + len(self._locks) + len(self._funnels) + len(self._persist_queues)
