"""Typical code of users, which mypy and pyright take without a word when they are strict."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import trio
import trio.lowlevel

from trio_progress import (
    End,
    Limits,
    Phase,
    PhaseSpec,
    Pipeline,
    ProgressError,
    ProgressPhase,
    ProgressSession,
    ProgressTicker,
    ProgressTracker,
    Session,
    SessionActiveError,
    Snapshot,
    TrackerOptions,
    Update,
    connect,
    current_session,
    open_display,
    open_progress,
    open_server,
    open_tracker,
)
from trio_progress.blocking import Client

RESEARCH = Pipeline("research", {"search": 38, "analysis": 16})
NIGHTLY = Pipeline("nightly", [PhaseSpec("fetch", 3, unit="B", total=10), "load"])


async def pages(count: int) -> AsyncIterator[str]:
    for number in range(count):
        await trio.lowlevel.checkpoint()
        yield f"page {number}"


async def search(session: Session, sources: Sequence[str]) -> list[str]:
    found: list[str] = []
    with session.phase("search", total=len(sources), unit="sources") as phase:
        for source in phase.track(sources):
            found.append(source.upper())
        async for page in phase.track(pages(3)):
            found.append(page)
        phase.advance()
        phase.advance(2.5)
        phase.skip(2)
        phase.extend(10)
        phase.update(done=7, total=20, message="page 7")
        phase.update(total=None, message=None)
        phase.set(cost_usd=1.2, models=["a", "b"])
        with phase.phase("site-1", total=5, weight=2) as site:
            site.advance()
        share: float = 0.0 if phase.total is None else phase.done / phase.total
        print(f"{phase.title}: {share:.0%}", phase.phases["site-1"].status, phase.fields.get("cost_usd"))
        tick = phase.from_thread()
        await trio.to_thread.run_sync(hash_all, tick, 100)
    return found


def hash_all(tick: ProgressTicker, count: int) -> None:
    for _ in range(count):
        tick.advance()
    tick.update(message="hashed")


def helper(session: ProgressSession) -> None:
    """Takes what there is, also where nobody follows."""
    session.increment("sources_found", 2)
    session.set(paradigm="bernard")
    session.emit("source.found", {"url": "https://example.org"})
    with session.phase("analysis", total=3) as phase:
        count_on(phase)


def count_on(phase: ProgressPhase) -> ProgressPhase:
    phase.advance()
    print(phase.label, phase.running, phase.rate, phase.eta)
    return phase


def deep_inside() -> None:
    session = current_session()
    session.update(message="deep inside")
    helper(session)
    phase = session.advance_to("analysis", total=3)
    for item in phase.track([1, 2, 3]):
        print(item + 1)


async def work(tracker: ProgressTracker) -> Snapshot:
    try:
        async with tracker.session(
            "r-42", RESEARCH, title="Research", labels={"user": "u1"}, resume="interrupted"
        ) as session:
            page: int = (session.saved or {"page": 0})["page"]
            await search(session, ["a"] * page)
            helper(session)
            with session.advance_to("analysis") as phase:
                held: Phase = phase
                print(held)
            session.skip_phase("search", "nothing to do")
            session.save({"page": page + 1})
            session.set_result({"report": "..."})
            await session.flush()
    except SessionActiveError as error:
        print(error.session_id)
    except ProgressError:
        raise
    return await tracker.wait_ended("r-42")


async def follow(tracker: ProgressTracker) -> None:
    async with tracker.watch("r-42", wait=True) as snapshots:
        async for snapshot in snapshots:
            print(f"{snapshot.progress:.0%}", [phase.name for phase in snapshot.phases])
    async with tracker.subscribe("r-42", max_hz=5) as messages:
        async for message in messages:
            if isinstance(message, Update):
                print(message.head.status)
            elif isinstance(message, End):
                print(message.status)
    async with connect("ws://127.0.0.1:8765", "r-42") as remote:
        async for message in remote:
            print(message)


async def main(options: TrackerOptions) -> None:
    async with open_tracker("sqlite:p.db", lost_after=60, strict=False, limits=Limits(fields=3)) as tracker:
        async with open_server(tracker, port=0, host="127.0.0.1") as server, open_display(tracker):
            print(server.url, await work(tracker), (await tracker.sessions(labels={"user": "u1"}))[:3])
    async with open_tracker(**options) as tracker:
        await follow(tracker)
    async with open_progress("import", {"fetch": 3, "load": 1}, persist_interval=1.0) as session:
        with session.phase("fetch") as phase:
            phase.advance()


def sync(url: str) -> Any:
    with Client(url) as client:
        return client.snapshot("r-42").result
