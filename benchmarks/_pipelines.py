"""Work whose bar is measured: synthetic pipelines by seed, in virtual time, and real programs.

A synthetic pipeline draws its phases once and its durations anew in each run: items of unequal size, several workers,
no totals, totals that grow or come late, tails after the last item, rounds of unknown number, phases that are skipped,
runs of very different size or wholly cached, and work that changes after the third run. The programs work on files of
the standard library.
"""

from __future__ import annotations

import ast
import hashlib
import math
import random
import sysconfig
import zlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio
import trio.lowlevel

from trio_progress import Session

if TYPE_CHECKING:
    from trio_progress import Phase

KINDS: Final = ("items",) * 8 + ("silent",) * 3 + ("open", "grows", "late", "tail", "rounds", "parts", "pause")
HABITS: Final = ("steady",) * 5 + ("sized", "sized", "cached", "changes", "together", "loose")


@dataclass(frozen=True)
class Step:
    """One phase as it is drawn."""

    name: str
    kind: str
    seconds: float
    units: int
    spread: float
    """Of the items' durations, the sigma of their logarithm."""
    workers: int
    skipped: float
    """How often it is."""


@dataclass(frozen=True)
class Work:
    """A pipeline that can be run again and again: what it is called, its declared weights, and a run of it.

    Its phases are those of a session, or stand within one phase.
    """

    name: str
    weights: dict[str, float]
    run: Callable[[Session | Phase, int], Awaitable[None]]
    virtual: bool = True
    """Whether it only sleeps, and so runs in virtual time."""


def synthetic(seed: int, part: int | None = None) -> Work:
    """The pipeline of that seed.

    Args:
        seed: What is drawn from.
        part: Which of several that do the same work on parts of it: its runs are drawn anew.
    """
    rng = random.Random(f"bar {seed}")
    habit = rng.choice(HABITS)
    steps = [
        Step(
            name,
            rng.choice(KINDS),
            math.exp(rng.uniform(math.log(3), math.log(150))),
            rng.choice((6, 15, 40, 100, 200)),
            rng.choice((0.0, 0.3, 0.6, 1.2)),
            rng.choice((1, 1, 1, 6, 20)),
            rng.choice((0.0,) * 6 + (0.4,)),
        )
        for name in "abcdefgh"[: rng.randint(2, 7)]
    ]
    known = rng.random()  # How well the author's weights say what takes long.
    weights = {step.name: step.seconds**known * math.exp(rng.gauss(0, 0.3)) for step in steps}

    async def run(session: Session | Phase, number: int) -> None:
        drawn = f"bar {seed} {number}" if part is None else f"bar {seed} {number} {part}"
        await _run(session, steps, habit, random.Random(drawn), number)

    return Work(f"synthetic {seed} ({habit})", weights, run)


async def _run(session: Session | Phase, steps: Sequence[Step], habit: str, rng: random.Random, number: int) -> None:
    whole = math.exp(rng.gauss(0, 0.5 if habit == "loose" else 0.1))
    size = math.exp(rng.uniform(-1.4, 1.4)) if habit == "sized" else 1.0
    cached = habit == "cached" and rng.random() < 0.4
    drawn = []
    for index, step in enumerate(steps):
        seconds = step.seconds * whole * size * math.exp(rng.gauss(0, 0.1))
        if cached:
            seconds *= 0.1
        if habit == "changes" and number > 3 and index == len(steps) // 2:
            seconds *= 4
        drawn.append(replace(step, seconds=seconds, units=max(round(step.units * size), 2)))
    if habit == "together" and len(drawn) > 2:
        async with trio.open_nursery() as nursery:
            for step in drawn[:-1]:
                nursery.start_soon(_perform, session, step, rng)
                await trio.sleep(1)
        drawn = drawn[-1:]
    for step in drawn:
        await _perform(session, step, rng)


async def _perform(session: Session | Phase, step: Step, rng: random.Random) -> None:
    if rng.random() < step.skipped:
        if isinstance(session, Session):
            session.skip_phase(step.name)
        return
    kind, seconds, units = step.kind, step.seconds, step.units
    if kind == "silent":
        with session.phase(step.name):
            await trio.sleep(seconds)
        return
    weights = [math.exp(rng.gauss(0, step.spread)) for _ in range(units)]
    each = seconds * step.workers / math.exp(step.spread**2 / 2) / units
    items = [weight * each for weight in weights]
    if kind in ("rounds", "parts"):
        await _children(session, step, items, rng)
        return
    total = {"open": None, "late": None, "grows": max(units // 20, 1)}.get(kind, units)
    with session.phase(step.name, total=total) as phase:
        if kind == "late":
            await trio.sleep(seconds * 0.3)
            phase.update(total=units)
        half = units // 2 if kind == "pause" else units
        await _items(phase, items[:half], step.workers, grows=units if kind == "grows" else 0)
        if kind == "pause":
            await trio.sleep(seconds * 0.5 * math.exp(rng.gauss(0, 0.6)))
            await _items(phase, items[half:], step.workers)
        if kind == "tail":
            await trio.sleep(seconds * 0.4)


async def _items(phase: Phase, items: Sequence[float], workers: int, *, grows: int = 0) -> None:
    left = list(reversed(items))

    async def work() -> None:
        while left:
            await trio.sleep(left.pop())
            phase.advance()
            total = phase.total or 0
            if total < grows:
                phase.extend(min(3, grows - total))

    async with trio.open_nursery() as nursery:
        for _ in range(workers):
            nursery.start_soon(work)


async def _children(session: Session | Phase, step: Step, items: Sequence[float], rng: random.Random) -> None:
    count = max(round(5 * math.exp(rng.gauss(0, 0.2))), 1) if step.kind == "rounds" else 8
    size = max(len(items) // count, 1)
    with session.phase(step.name, total=None if step.kind == "rounds" else count) as phase:
        for number in range(count):
            part = items[number * size : (number + 1) * size] or items[-1:]
            with phase.phase(f"{number}", total=len(part)) as child:
                await _items(child, part, 1)


# Real programs


def _hash(path: Path) -> None:
    data = path.read_bytes()
    for _ in range(6):
        hashlib.blake2b(data).digest()


def _compress(path: Path) -> None:
    zlib.compress(path.read_bytes(), 6)


def _compile(path: Path) -> None:
    compile(path.read_bytes(), str(path), "exec", dont_inherit=True)


def _parse(path: Path) -> None:
    sum(1 for _ in ast.walk(ast.parse(path.read_bytes())))


def program(name: str, task: Callable[[Path], None], files: int) -> Work:
    """A program that does something with files of the standard library: it lists them, works, and sums up."""

    def listed() -> list[Path]:
        return sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py"), key=str)

    def sum_up(chosen: Sequence[Path]) -> None:
        for path in chosen:
            _hash(path)

    async def run(session: Session | Phase, number: int) -> None:
        with session.phase("list"):
            found = await trio.to_thread.run_sync(listed)
        rng = random.Random(number)
        chosen = rng.sample(found, min(round(files * rng.uniform(0.7, 1.3)), len(found)))
        with session.phase("work", total=len(chosen)) as phase:
            for path in chosen:
                try:
                    await trio.to_thread.run_sync(task, path)
                except (OSError, SyntaxError, ValueError):
                    pass
                phase.advance()
        with session.phase("sum up"):
            await trio.to_thread.run_sync(sum_up, chosen[: len(chosen) // 5])

    return Work(name, {"list": 1, "work": 8, "sum up": 1}, run, virtual=False)


def programs() -> list[Work]:
    """Four programs that take some seconds each."""
    return [
        program("hash a tree", _hash, 1500),
        program("compress", _compress, 500),
        program("compile the library", _compile, 250),
        program("parse", _parse, 150),
    ]
