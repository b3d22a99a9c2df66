"""`with phase.tqdm():`: what libraries count by tqdm."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from fractions import Fraction

import pytest
import trio
import trio.testing
from tqdm import tqdm
from tqdm.asyncio import tqdm as async_tqdm

from trio_progress import ProgressTracker, current_session, open_tracker

METHODS = ("__init__", "__iter__", "update", "reset", "close")
BEFORE = {name: tqdm.__dict__[name] for name in METHODS}


@pytest.fixture(autouse=True)
def _tqdm_is_left_as_it_was() -> Iterator[None]:
    yield
    assert {name: tqdm.__dict__[name] for name in METHODS} == BEFORE


@pytest.fixture
async def tracker() -> AsyncIterator[ProgressTracker]:
    async with open_tracker() as tracker:
        yield tracker


async def settle() -> None:
    """Lets what came from tickers arrive, however late the processor is had for it."""
    await trio.testing.wait_all_tasks_blocked()


def library(n: int, **given: object) -> None:
    for _ in tqdm(range(n), desc="library", **given):
        for _ in tqdm(range(3), leave=False):
            pass


async def test_bars_count_their_totals_add_up_and_inner_ones_are_parts(
    tracker: ProgressTracker, capsys: pytest.CaptureFixture[str]
) -> None:
    async with tracker.session("r") as session:
        with session.phase("a") as phase:
            with phase.tqdm():
                library(10)
                library(5, disable=True)
                await settle()
                assert (phase.done, phase.total) == (15, 15)
                with tqdm(total=100) as bar:
                    bar.update(30)
                    bar.update(-10)
                    bar.update(20)
                    bar.total = 60
                    bar.update(20)
                    bar.set_description("on")
                    bar.set_postfix(x=1)
                await settle()
                assert (phase.done, phase.total) == (75, 75)
                for _ in tqdm(iter("abc")):
                    await settle()
                    assert phase.total is None
                await settle()
                assert (phase.done, phase.total) == (78, 78)
            assert phase.done == 78
            for _ in tqdm(range(2)):
                pass
            await settle()
            assert phase.done == 78
    assert "2/2" in capsys.readouterr().err.splitlines()[-1]


async def test_a_given_total_stays_and_a_bar_that_begins_again_counts_on(tracker: ProgressTracker) -> None:
    async with tracker.session("r") as session:
        with session.phase("a", total=40) as phase, phase.tqdm():
            with tqdm(total=4) as bar:
                for _ in range(3):
                    bar.reset()
                    bar.update(4)
            await settle()
            assert (phase.done, phase.total) == (12, 40)


async def test_each_task_counts_where_it_was_begun_and_worker_threads_as_well(tracker: ProgressTracker) -> None:
    async with tracker.session("r") as session, trio.open_nursery() as nursery:

        async def work(name: str, n: int) -> None:
            with session.phase(name) as phase, phase.tqdm():
                await trio.to_thread.run_sync(library, n)
                await trio.sleep(1)
                async for _ in async_tqdm(ticks(2)):
                    pass
                await settle()
                assert phase.done == n + 2

        nursery.start_soon(work, "a", 20)
        nursery.start_soon(work, "b", 30)


async def ticks(n: int) -> AsyncIterator[int]:
    for one in range(n):
        await trio.sleep(0.1)
        yield one


async def test_plain_threads_count_where_one_block_is_open_and_other_tasks_do_not(tracker: ProgressTracker) -> None:
    async with tracker.session("r") as session, trio.open_nursery() as nursery:
        opened, counted = trio.Event(), trio.Event()

        async def elsewhere() -> None:
            await opened.wait()
            library(100)
            counted.set()

        nursery.start_soon(elsewhere)
        with session.phase("a") as phase, phase.tqdm():
            opened.set()
            threads = [threading.Thread(target=library, args=[50]) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                await trio.to_thread.run_sync(thread.join)
            await counted.wait()
            await settle()
            assert (phase.done, phase.total) == (200, 200)


async def test_tqdm_is_put_back_after_errors_and_what_others_replaced_stays_theirs(
    tracker: ProgressTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with tracker.session("r") as session:
        with session.phase("a") as phase:
            left = None
            with pytest.raises(ZeroDivisionError), phase.tqdm(), phase.tqdm():
                left = tqdm(total=3)
                raise ZeroDivisionError
            assert tqdm.__dict__["update"] is BEFORE["update"]
            assert left is not None
            left.update(1)
            left.close()
            with monkeypatch.context() as patched:
                with phase.tqdm():
                    ours = tqdm.__dict__["update"]

                    def theirs(bar: tqdm, n: float = 1) -> object:
                        return ours(bar, n)

                    patched.setattr(tqdm, "update", theirs)
                    with tqdm(total=3) as bar:
                        bar.update(3)
                assert tqdm.__dict__["update"] is theirs
                with tqdm(total=3, disable=True) as bar:
                    bar.update(3)
                tqdm.update = BEFORE["update"]
                await settle()
                assert phase.done == 3
            tqdm.update = BEFORE["update"]


def test_where_nobody_follows_bars_draw_as_ever(capsys: pytest.CaptureFixture[str]) -> None:
    with current_session().phase("a") as phase, phase.tqdm():
        library(4)
    assert "4/4" in capsys.readouterr().err


async def test_a_bar_counts_any_number_by_its_value(tracker: ProgressTracker) -> None:
    async with tracker.session("r") as session:
        with session.phase("a") as phase, phase.tqdm(), tqdm(total=10) as bar:
            for n in (Decimal("1.5"), 0.5, Fraction(1, 2), True):
                bar.update(n)
            assert (bar.n, type(bar.n)) == (3.5, float)
            with pytest.raises(TypeError):
                bar.update("1")
            await settle()
            assert phase.done == 3.5
