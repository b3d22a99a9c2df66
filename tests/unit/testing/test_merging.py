"""What is left out as equal: no outcome is lost by it, what it cannot see it says, and what it cannot see is found."""

from __future__ import annotations

import asyncio
import importlib
import sys
import types
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from trio_progress.testing import NotProvenError, ScheduleError, cancelled_somewhere, exhaust, jitter, note
from trio_progress.testing.exhaustive import Guided, Plan, _Search
from trio_progress.testing.merging import States
from trio_progress.testing.module_values import ModuleValues
from trio_progress.testing.running import Case, Limits, Run

checkpoint = trio.lowlevel.checkpoint
Scenario = Callable[[], Coroutine[Any, Any, None]]


class Meter:
    reading = 0


def outcomes(scenario: Scenario, deviations: int, *, merge: bool) -> tuple[set[str], int]:
    """What a search has seen as the last note of a schedule, or as its error; and how many schedules it has run."""
    states = States() if merge else None
    case = Case(scenario, (), "", Limits(horizon=100.0))
    found: set[str] = set()

    def run(plan: Plan) -> tuple[Run, Guided]:
        source = Guided(plan, states)
        made = case.run(0, source)
        assert source.misfit is None
        found.add(made.record.notes[-1][1] if made.error is None else type(made.error).__name__)
        made.error = None
        return made, source

    search = _Search(run, deviations, 10**6)
    search.search()
    assert search.complete
    return found, search.tried


OPS = ("step", "add", "guarded add", "append", "wait", "set", "sleep", "impatient", "cancelled")


def program_of(tasks: list[list[str]]) -> Scenario:
    async def program() -> None:
        lock, event, counts, log = trio.Lock(), trio.Event(), {"x": 0}, []

        async def add() -> None:
            seen = counts["x"]
            await checkpoint()
            counts["x"] = seen + 1

        async def one(ops: list[str]) -> None:
            for op in ops:
                match op:
                    case "step":
                        await checkpoint()
                    case "add":
                        await add()
                    case "guarded add":
                        async with lock:
                            await add()
                    case "append":
                        log.append(len(ops))
                    case "wait":
                        await event.wait()
                    case "set":
                        event.set()
                    case "sleep":
                        await trio.sleep(0.1)
                    case "impatient":
                        with trio.move_on_after(0.05):
                            await event.wait()
                            log.append(0)
                    case "cancelled":
                        async with cancelled_somewhere():
                            await add()

        async with trio.open_nursery() as nursery:
            for ops in tasks:
                nursery.start_soon(one, ops)
        note(f"{counts} {log}")

    return program


def no_outcome_is_lost(tasks: list[list[str]], deviations: int) -> None:
    program = program_of(tasks)
    plain, _ = outcomes(program, deviations, merge=False)
    merged, _ = outcomes(program, deviations, merge=True)
    assert plain <= merged


@pytest.mark.parametrize(
    "tasks",
    [
        [["add"], ["add"], ["add"]],
        [["guarded add", "add"], ["guarded add", "add"]],
        [["impatient", "append"], ["step", "set"], ["impatient"]],
        [["cancelled"], ["cancelled"], ["append", "add"]],
        [["append", "step"], ["append", "step", "step"], ["append", "step"]],
        [["sleep", "impatient", "set"], ["set"], ["set", "impatient"]],  # who ran last wakes by the clock
        [["step", "step"], ["wait"]],
    ],
    ids=lambda tasks: "; ".join(", ".join(ops) for ops in tasks),
)
def test_no_outcome_is_lost(tasks: list[list[str]], exhaustive: bool) -> None:
    no_outcome_is_lost(tasks, 2 if exhaustive else 1)


programs = st.lists(st.lists(st.sampled_from(OPS), min_size=1, max_size=3), min_size=2, max_size=3)


@pytest.mark.release
@settings(max_examples=30, deadline=None, phases=[Phase.generate])
@given(programs, st.integers(1, 2))
def test_no_outcome_of_any_program_is_lost(tasks: list[list[str]], deviations: int) -> None:
    no_outcome_is_lost(tasks, deviations)


def test_a_strategy_of_hypothesis_is_no_state() -> None:
    assert all(part is not programs for part in ModuleValues().of(globals()))


def test_tasks_that_draw_by_their_names_are_not_interchangeable() -> None:
    async def drawing() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(jitter, 0.1)

    assert exhaust(drawing, merge=True).complete  # What follows would be another, which is an error.


async def lock_of_five() -> None:
    lock, inside = trio.Lock(), 0

    async def work() -> None:
        nonlocal inside
        async with lock:
            inside += 1
            await checkpoint()
            assert inside == 1
            inside -= 1

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(work)


@pytest.mark.parametrize(
    "deviations",
    [
        pytest.param(2, marks=pytest.mark.exhaustive),
        *(pytest.param(many, marks=pytest.mark.release) for many in (3, 4)),
    ],
)
def test_a_lock_of_five_needs_at_most_a_tenth(deviations: int) -> None:
    plain = exhaust(lock_of_five, deviations=deviations)
    merged = exhaust(lock_of_five, deviations=deviations, merge=True)
    assert merged.complete
    assert merged.proven
    assert merged.schedules <= plain.schedules / 10
    assert 0 < merged.rechecked < merged.merged


def test_what_lay_in_the_context_before_is_no_state_but_for_what_may_be_changed() -> None:
    before: ContextVar[object] = ContextVar("before")

    async def counts() -> None:
        async def add() -> None:
            seen = before.get()
            assert isinstance(seen, list)
            number = seen[0]
            await checkpoint()
            await checkpoint()
            seen[0] = number + 1

        seen = before.get()
        assert isinstance(seen, list)
        seen[0] = 0
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(add)
        note(str(seen[0]))

    loop = asyncio.new_event_loop()  # As the kernel of a notebook has it.
    token = before.set(loop)
    try:
        assert exhaust(lock_of_five, merge=True).proven
        before.set([0])
        found, _ = outcomes(counts, 2, merge=True)
        assert found == {"1", "2"}
    finally:
        before.reset(token)
        loop.close()


def test_a_number_in_a_class_is_seen() -> None:
    async def scenario() -> None:
        async def add() -> None:
            before = Meter.reading
            await checkpoint()
            await checkpoint()
            Meter.reading = before + 1

        Meter.reading = 0
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(add)
        assert Meter.reading == 2

    with pytest.raises(ScheduleError):
        exhaust(scenario, merge=True)


def one_after_another(count: Callable[[str], Coroutine[Any, Any, None]]) -> Scenario:
    """Four tasks that tell a place which no frame reaches that they came, and are over."""

    async def scenario() -> None:
        async def a() -> None:
            await count("a")

        async def b() -> None:
            await count("b")

        async def c() -> None:
            await count("c")

        async def d() -> None:
            await count("d")

        await count("")
        async with trio.open_nursery() as nursery:
            for task in (a, b, c, d):
                nursery.start_soon(task)

    return scenario


ELSEWHERE = """
import trio
seen = ""
async def count(name):
    global seen
    await trio.lowlevel.checkpoint()
    seen = seen + name if name else ""
    assert seen != "badc"
"""


def test_a_text_in_another_module_of_the_users_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of the first two came first: without the text the states after them would be equal."""
    (tmp_path / "counted_elsewhere.py").write_text(ELSEWHERE)
    monkeypatch.syspath_prepend(tmp_path)
    count = importlib.import_module("counted_elsewhere").count
    try:
        with pytest.raises(ScheduleError):
            exhaust(one_after_another(count), merge=True)
    finally:
        del sys.modules["counted_elsewhere"]


def test_what_cannot_be_seen_is_an_error_where_what_follows_is_another() -> None:
    hidden = types.ModuleType("a_library")  # As what libraries hold at module level.

    async def count(name: str) -> None:
        await checkpoint()
        hidden.__dict__["seen"] = hidden.__dict__["seen"] + name if name else ""
        if hidden.__dict__["seen"] == "bac":
            await checkpoint()

    with pytest.raises(NotProvenError, match="not proven"):
        exhaust(one_after_another(count), merge=True)
