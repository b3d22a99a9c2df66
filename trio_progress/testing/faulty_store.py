"""`FaultyStore`: a store that fails on request."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, final, get_args

import trio

from ..errors import StoreError
from ..stores.base import HistoryStore
from ..stores.memory import MemoryStore

if TYPE_CHECKING:
    from ..state.history import PipelineHistory
    from ..stores.base import Changes, Outcome, Page, Query, Seen, Store, Stored, Write
    from .gates import Gates

Mode: TypeAlias = Literal["up", "down", "hang", "lost"]

MODES: Final = frozenset(get_args(Mode))


@final
class FaultyStore:
    """A store around another one, by default a `MemoryStore`, with the faults that real ones have.

    "up" answers; "down" raises `StoreError` at once and does nothing; "hang" does not answer until the
    mode is another; "lost" does what it is asked, but the connection breaks before it has answered.
    `mode` may be set at any time; every answer comes after `delay` seconds.

    Trackers that share what they keep, as processes do, are given stores with the same `inner`.

    Args:
        inner: Where the data are.
        delay: Seconds, at least 0.
        script: The mode of each commit in turn, before `mode` holds for the further ones.
        seed: With one, every commit and read draws its mode, and a delay of up to 0.1 s, from it.
        trouble: How likely, from 0 to 1, one that is drawn is not "up".
        gates: Its points "commit" and "read" are passed before each, "committed" after each commit.
    """

    def __init__(
        self,
        inner: Store | None = None,
        *,
        delay: float = 0.0,
        script: Sequence[Mode] = (),
        seed: int | None = None,
        trouble: float = 0.2,
        gates: Gates | None = None,
    ) -> None:
        self.inner: Store = MemoryStore() if inner is None else inner
        self.delay = delay
        self._mode: Mode = "up"
        self._changed = trio.Event()
        self._script = [_checked(mode) for mode in script]
        self._rng = None if seed is None else random.Random(seed)  # noqa: S311 - to be repeated
        self.trouble = trouble
        """How likely a commit or read that is drawn fails; may be set at any time, so 0 for "from here on it works"."""
        self._gates = gates
        self.commits: list[tuple[float, Mode, Sequence[Write]]] = []
        """What it was asked to commit: when, on Trio's clock, what became of it, and the batch."""

    @property
    def hands_out(self) -> bool:
        """Whether sessions that wait can be taken: where they can be of the inner store."""
        return getattr(self.inner, "hands_out", False) is True

    @property
    def mode(self) -> Mode:
        """How it treats requests now."""
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        self._mode = _checked(mode)
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    def _drawn(self) -> Mode:
        if self._rng is not None and self._rng.random() < self.trouble:
            return self._rng.choice(("down", "down", "lost"))  # One that hangs for ever stops everything.
        return self._mode

    async def _wait(self) -> None:
        delay = self.delay if self._rng is None else self.delay + self._rng.random() * 0.1
        await trio.sleep(delay)

    async def _before(self, mode: Mode) -> None:
        """Fails, or hangs, as `mode` says; a mode that is set meanwhile counts."""
        while mode == "hang":
            if self._mode == "hang":
                await self._changed.wait()
            mode = self._mode
        if mode == "down":
            raise StoreError("connection refused (by a FaultyStore)")

    async def commit(self, batch: Sequence[Write]) -> Sequence[Outcome]:
        """Makes the writes, or not."""
        mode = self._script.pop(0) if self._script else self._drawn()
        self.commits.append((trio.current_time(), mode, batch))
        if self._gates is not None:
            await self._gates.point("commit")
        await self._wait()
        await self._before(mode)
        outcomes = await self.inner.commit(batch)
        if self._gates is not None:
            await self._gates.point("committed")
        if mode == "lost":
            raise StoreError("the connection broke before the answer (by a FaultyStore)")
        return outcomes

    async def read(self, session_id: str) -> Stored | None:
        """Reads, or not."""
        if self._gates is not None:
            await self._gates.point("read")
        await self._wait()
        mode = self._drawn()
        await self._before("down" if mode == "lost" else mode)
        return await self.inner.read(session_id)

    async def list(self, query: Query) -> Page:
        """Lists, or not."""
        await self._wait()
        await self._before("down" if self._mode == "lost" else self._mode)
        return await self.inner.list(query)

    async def changes(self, mark: str | None, seen: Mapping[str, Seen | None]) -> Changes:
        """Waits for news, or fails."""
        await self._before("down" if self._mode == "lost" else self._mode)
        changes = await self.inner.changes(mark, seen)
        await self._before("down" if self._mode == "lost" else self._mode)
        return changes

    async def history(self, pipeline: str) -> PipelineHistory | None:
        """Reads, or not."""
        await self._wait()
        await self._before("down" if self._mode == "lost" else self._mode)
        return await self.inner.history(pipeline) if isinstance(self.inner, HistoryStore) else None

    async def histories(self) -> Sequence[str]:
        """Lists, or not."""
        await self._wait()
        await self._before("down" if self._mode == "lost" else self._mode)
        return await self.inner.histories() if isinstance(self.inner, HistoryStore) else ()

    async def aclose(self) -> None:
        """Closes the inner store."""
        await self.inner.aclose()


def _checked(mode: Mode) -> Mode:
    if mode not in MODES:
        raise ValueError(f"a store is 'up', 'down', 'hang' or 'lost', not {mode!r:.200}")
    return mode
