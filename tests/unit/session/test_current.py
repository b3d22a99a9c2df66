"""Code that reports to `current_session()` runs alike with a session and without one."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import trio
import trio.testing

from trio_progress import (
    NullPhase,
    NullSession,
    Phase,
    PhaseScope,
    Pipeline,
    Session,
    ThreadTicker,
    current_session,
    open_tracker,
)
from trio_progress.session.thread_ticker import NullTicker


async def pipeline(numbers: AsyncIterator[int]) -> list[object]:
    """All that a pipeline may say, in every way in which it may say it; tells what it has seen."""
    session = current_session()
    seen: list[object] = [session.status, session.saved, len(session.id) >= 0, session.epoch >= 0, session.attempt >= 0]
    with session.phase("search", total=3, title="Search", unit="pages") as phase:
        phase.advance()
        phase.advance(2)
        phase.skip()
        phase.skip(1)
        phase.extend(4)
        phase.update(done=2, total=8, message="two")
        phase.update()
        phase.set(cost_usd=1.2, page=1)
        with phase.phase("site", total=None, weight=2, title="Site", unit="links") as child:
            child.advance()
            seen.append(child.status)
        seen.append(list(phase.track([1, 2])))
        seen.append([number async for number in phase.track(numbers)])
        tick = phase.from_thread()
        await trio.to_thread.run_sync(tick.advance)
        tick.advance(2)
        tick.update(done=5, total=9, message="from afar")
        seen += [phase.status, phase.running, isinstance(phase.fields, dict), isinstance(phase.path, tuple)]
        seen += [isinstance(text, str) for text in (phase.name, phase.title, phase.label)]
    with session.advance_to("analysis", total=3, title="Analysis", unit="sources") as phase:
        phase.advance()
    session.phases["analysis"].advance()
    session.skip_phase("review", "nothing to review")
    session.increment("found")
    session.increment("found", 2)
    session.set(paradigm="bernard")
    session.update(message="half way", title="Research")
    session.update()
    session.emit("source.found", {"url": "x"})
    session.emit("ping")
    session.save({"page": 7})
    session.set_result({"report": "..."})
    session.fail("not good enough", details={"score": 1})
    session.fail("not good enough")
    await session.flush()
    session.cancel("enough")
    session.cancel()
    return seen


async def count(to: int) -> AsyncIterator[int]:
    for number in range(to):
        await trio.lowlevel.checkpoint()
        yield number


async def test_a_pipeline_runs_alike_with_a_session_and_without_one(autojump_clock: trio.testing.MockClock) -> None:
    without = await pipeline(count(3))
    with_one: list[object] = []
    async with open_tracker() as tracker:
        async with tracker.session("a", Pipeline("research", ["search", "analysis", "review"])) as session:
            with_one = await pipeline(count(3))
    assert with_one == without
    assert session.status == "failed"
    assert session.phases["search"].done == 5


def methods(kind: type) -> Iterator[tuple[str, Callable[..., object]]]:
    for name, member in inspect.getmembers(kind, inspect.isfunction):
        if not name.startswith("_"):
            yield name, member


PAIRS = [(Session, NullSession), (Phase, NullPhase), (ThreadTicker, NullTicker)]


@pytest.mark.parametrize(("real", "null"), PAIRS)
def test_whatever_the_real_one_accepts_the_null_one_accepts(real: type, null: type) -> None:
    compared = 0
    for name, method in methods(real):
        theirs = getattr(null, name, None)
        if theirs is None:
            continue
        assert inspect.iscoroutinefunction(method) == inspect.iscoroutinefunction(theirs), name
        accepts, offered = inspect.signature(theirs), inspect.signature(method)
        positional = [p for p in offered.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
        keywords = [p.name for p in offered.parameters.values() if p.kind is p.KEYWORD_ONLY]
        accepts.bind(*positional, **dict.fromkeys(keywords))
        accepts.bind(None, **dict.fromkeys([p.name for p in positional[1:]] + keywords))
        accepts.bind(*[p for p in positional if p.default is p.empty])
        compared += 1
    assert compared >= 2


@pytest.mark.parametrize(("real", "null"), PAIRS)
def test_the_null_one_has_the_names_of_the_real_one(real: type, null: type) -> None:
    def names(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert names(null) == names(real)


def test_a_phase_is_entered_by_with_wherever_it_comes_from() -> None:
    for kind in (Phase, PhaseScope, NullPhase):
        assert hasattr(kind, "__enter__")
        assert hasattr(kind, "__exit__")


def test_a_null_session_keeps_nothing_and_nothing_ends_it() -> None:
    session = current_session()
    assert isinstance(session, NullSession)
    session.save(1)
    session.cancel()
    session.fail("x")
    with pytest.raises(ZeroDivisionError), session.phase("x"):
        raise ZeroDivisionError
    assert (session.saved, session.status) == (None, "running")
    assert session.phases["anything"] is session.phase("x")
    assert list(session.phases) == []


async def test_flushing_nothing_is_a_checkpoint(autojump_clock: trio.testing.MockClock) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await current_session().flush()
    assert scope.cancelled_caught
