"""`phase.track()`: over anything that can be iterated, in as many loops on one phase as there are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import trio
import trio.testing

from trio_progress import Phase, Session, open_tracker


class _Length:
    """Three items, of which it says something else."""

    def __init__(self, said: Any) -> None:
        self.said = said

    def __len__(self) -> Any:
        if isinstance(self.said, Exception):
            raise self.said
        return self.said


class Said(_Length):
    def __iter__(self) -> Iterator[str]:
        return iter("abc")


class SaidAsync(_Length):
    async def __aiter__(self) -> AsyncIterator[str]:
        for letter in "abc":
            yield letter


async def drained(phase: Phase, items: Any) -> list[Any]:
    if isinstance(items, SaidAsync):
        return [item async for item in phase.track(items)]
    return list(phase.track(items))


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("kind", [Said, SaidAsync])
@pytest.mark.parametrize("said", [TypeError("no len()"), NotImplementedError(), KeyError("x"), -1, 2**53, 0, 2])
async def test_a_length_that_raises_or_is_wrong_makes_the_phase_indeterminate(
    said: Any, kind: Callable[[Any], Any], strict: bool, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_tracker(strict=strict) as tracker, tracker.session("a") as session:
        with session.phase("x") as phase:
            assert await drained(phase, kind(said)) == ["a", "b", "c"]
            session.snapshot()
            assert (phase.done, phase.total, phase.fraction) == (3, None, None)
    assert session.status == "completed"
    assert tracker.statistics().refused == 0


@pytest.mark.parametrize("kind", [Said, SaidAsync])
async def test_a_loop_that_gives_less_than_it_said_has_done_all_of_it(
    kind: Callable[[Any], Any], autojump_clock: trio.testing.MockClock
) -> None:
    async with open_tracker() as tracker, tracker.session("a") as session:
        with session.phase("x") as phase:
            assert await drained(phase, kind(10)) == ["a", "b", "c"]
            assert (phase.done, phase.total) == (3, 3)


async def test_workers_that_track_a_part_each_have_the_sum_as_their_total(
    autojump_clock: trio.testing.MockClock,
) -> None:
    seen = []
    async with open_tracker() as tracker, tracker.session("a") as session:
        with session.phase("x") as phase:

            async def work(part: range) -> None:
                for _ in phase.track(part):
                    await trio.sleep(1)

            async with trio.open_nursery() as nursery:
                for worker in range(4):
                    nursery.start_soon(work, range(5 + worker))
                await trio.sleep(2.5)
                session.snapshot()
                seen.append((phase.done, phase.total, phase.fraction))
            seen.append((phase.done, phase.total, 1))
    assert seen == [(8, 26, pytest.approx(8 / 26)), (26, 26, 1)]


async def test_loops_after_one_another_add_up_and_follow_what_was_counted_before(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_tracker() as tracker, tracker.session("a") as session:
        with session.phase("x") as phase:
            phase.skip(2)
            list(phase.track("abcd"))
            assert (phase.done, phase.total) == (6, 6)
            for number in phase.track(range(10)):
                assert phase.total == 16
                if number == 3:
                    break
            assert (phase.done, phase.total) == (9, 16)
            phase.extend(1)
            assert phase.total == 17
            list(phase.track("ab"))
            assert (phase.done, phase.total) == (11, 12)
            list(phase.track(iter("abc")))
            assert (phase.done, phase.total) == (14, 15)


@pytest.mark.parametrize(
    "give", [lambda s: s.phase("x", total=50), lambda s: s.advance_to("x", total=50)], ids=["phase", "advance_to"]
)
async def test_a_total_that_was_given_stays(
    give: Callable[[Session], Any], autojump_clock: trio.testing.MockClock
) -> None:
    async with open_tracker() as tracker, tracker.session("a") as session:
        with give(session) as phase:
            list(phase.track("abc"))
            list(phase.track(Said(1)))
            assert (phase.done, phase.total) == (6, 50)
            phase.update(total=None)
            loop = phase.track("abc")
            assert (phase.done, phase.total) == (6, 9)
            phase.update(total=7)
            assert list(loop) == ["a", "b", "c"]
            assert (phase.done, phase.total) == (9, 7)


async def test_a_further_attempt_takes_its_total_from_its_own_loops(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker, tracker.session("a") as session:
        for attempt in range(2):
            try:
                with session.phase("x") as phase:
                    assert (phase.done, phase.total) == (0, None)
                    for number in phase.track(range(10)):
                        if number == 4 and not attempt:
                            raise OSError
                    assert (phase.done, phase.total) == (10, 10)
            except OSError:
                pass


async def test_a_loop_over_what_has_ended_gives_its_items(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker, tracker.session("a") as session:
        with session.phase("x") as phase:
            loop = phase.track("abc")
            next(loop)
        assert [*loop, *phase.track("de")] == ["b", "c", "d", "e"]
        assert (phase.done, phase.total) == (0, 3)


async def test_a_plain_loop_over_what_is_asynchronous_says_how_to_loop(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker, tracker.session("a") as session:
        with session.phase("x") as phase:
            items: Any = phase.track(SaidAsync(3))
            with pytest.raises(TypeError, match="use `async for`"):
                iter(items)
            assert [item async for item in items] == ["a", "b", "c"]
            assert phase.done == 3
