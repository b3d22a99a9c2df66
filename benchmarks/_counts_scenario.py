"""The scenario of counts that come by a file, as those of worker processes do; here tasks of one process count."""

from __future__ import annotations

from dataclasses import dataclass

import trio

from trio_progress import Phase, ProcessCounter, open_tracker
from trio_progress.testing import Subscriber, jitter, seeded_random

from ._scenario_parts import PIPELINE, nothing_left, same_state


@dataclass(slots=True)
class _Counted:
    in_time: int = 0
    late: int = 0
    increments: int = 0


async def _work(counter: ProcessCounter, phase: Phase, counted: _Counted) -> None:
    for n in range(1, 4):
        await jitter(0.3)
        counter.advance(n)
        if phase.running:
            counted.in_time += n
            counter.increment("found")
            counted.increments += 1
        else:
            counted.late += n
        try:
            with counter.job():
                counter.advance(100)
                raise KeyError
        except KeyError:
            pass


async def counts_by_a_file() -> None:
    """What was counted before the phase ended is in it, once; what came later changes nothing and is told."""
    rng = seeded_random()
    hands_over, stops = rng.random() < 0.3, rng.random() < 0.3
    subscriber, counted = Subscriber("a"), _Counted()
    async with open_tracker() as tracker, trio.open_nursery() as outside:
        outside.start_soon(subscriber.run, tracker)
        with trio.CancelScope() as scope:
            async with tracker.session("a", PIPELINE) as session:
                phase = session.advance_to("search")
                async with phase.from_processes() as counter, trio.open_nursery() as workers:
                    assert isinstance(counter, ProcessCounter)
                    for _ in range(2):
                        workers.start_soon(_work, counter, phase, counted)
                    await jitter(0.5)
                    before = counted.in_time
                    assert session.snapshot().phase("search").done == before, "a snapshot lacks what was counted"
                    if hands_over:
                        session.advance_to("analysis")
                    if stops:
                        scope.cancel()
                        await trio.lowlevel.checkpoint()
        assert phase.done == counted.in_time, f"{phase.done} of {counted.in_time} are there"
        found = session.snapshot().counters.get("found", 0)
        assert found == counted.increments, f"{found} of {counted.increments} increments are there"
        late = tracker.statistics().late
        assert late == (1 if counted.late else 0), f"{counted.late} units came late, and {late} were told"
    same_state(session.snapshot(), subscriber.view)
    nothing_left(tracker)
