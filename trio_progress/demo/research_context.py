"""What the steps of a run share: the session that tracks it, the corpus, and the threads that read it.

1. Worker threads read and rank, in portions of some tenths of a second, and check before every passage whether they
   are cancelled. So a cancelled run is left at once, and no thread outlives it.
2. A thread counts through `phase.from_thread()`; all else is reported by the tasks.
3. Results are in the order of the corpus, whichever thread was quicker.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, final

import trio
import trio.from_thread
import trio.to_thread

from ..terminal.printable import printable
from .corpus import BESIDE_THE_LIBRARY, CorpusError, Listing, list_files, shards, standard_library
from .search import Scan, scan

if TYPE_CHECKING:
    from ..session.phase import Phase
    from ..session.session import Session
    from .questions import Query

T = TypeVar("T")


def fresh(phase: Phase, name: str) -> str:
    """A name for a child of a phase, a new one where an earlier attempt has completed the child of that name.

    A phase that is entered again keeps its completed children; but the steps here do all of their work again.
    """
    done = {child.name for child in phase.phases.values() if child.status == "completed"}
    return f"{name}-again-{phase.attempt}" if name in done else name


@final
class ResearchContext:
    """The session, the question, the corpus at `folder`, and at most `workers` threads that read it."""

    def __init__(self, session: Session, question: str, folder: str, workers: int) -> None:
        self.session = session
        self.question = question
        self.folder = folder
        self.workers = workers
        self._limiter = trio.CapacityLimiter(workers)
        self._listing: Listing | None = None

    async def thread(self, function: Callable[..., T], *args: object) -> T:
        """Runs a function in a worker thread. A cancel waits for the thread, which takes some tenths of a second."""
        return await trio.to_thread.run_sync(function, *args, limiter=self._limiter)

    async def each(self, function: Callable[[T], Awaitable[None]], items: Sequence[T]) -> None:
        """Runs a function on all items, one for each thread at a time."""
        send, receive = trio.open_memory_channel[T](len(items))
        for item in items:
            send.send_nowait(item)
        send.close()

        async def work() -> None:
            async for item in receive:
                await function(item)

        with receive:
            async with trio.open_nursery() as nursery:
                for _ in range(min(self.workers, len(items))):
                    nursery.start_soon(work)

    async def listing(self) -> Listing:
        """The files of the corpus; listed once."""
        if self._listing is None:
            self._listing = await self.thread(_list, self.folder)
        return self._listing

    async def scan(
        self,
        phase: Phase,
        queries: Sequence[Query],
        joined: Mapping[str, Iterable[str]],
        on_result: Callable[[Scan], None] = lambda result: None,
    ) -> list[Scan]:
        """Scans the corpus, in one part for each thread; each part is a child of the phase.

        Args:
            phase: Counts the parts.
            queries: What to look for.
            joined: Words that stand for several of their terms.
            on_result: Called with each portion's result as it comes, in no particular order.
        """
        portions = list(shards((await self.listing()).files))
        results: dict[int, Scan] = {}
        share = -(-len(portions) // self.workers)
        parts = [range(start, min(start + share, len(portions))) for start in range(0, len(portions), share)]
        phase.update(total=len(parts))

        async def read(part: range) -> None:
            files = sum(len(portions[number]) for number in part)
            title = printable(f"{portions[part[0]][0]} to {portions[part[-1]][-1]}")[:200]
            name = f"part-{parts.index(part) + 1}"
            with phase.phase(fresh(phase, name), weight=files, title=title, total=files, unit="files") as counted:
                ticker = counted.from_thread()
                for number in part:
                    check = trio.from_thread.check_cancelled
                    arguments = (self.folder, portions[number], queries, joined, check, ticker.advance)
                    results[number] = await self.thread(scan, *arguments)
                    on_result(results[number])
            phase.advance()

        await self.each(read, parts)
        return [results[number] for number in sorted(results)]


def _list(folder: str) -> Listing:
    try:
        library = Path(folder).samefile(standard_library())
    except (CorpusError, OSError):
        library = False
    return list_files(folder, BESIDE_THE_LIBRARY if library else frozenset(), trio.from_thread.check_cancelled)
