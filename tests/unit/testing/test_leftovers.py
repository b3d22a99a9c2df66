"""What a cancelled scenario leaves is seen, named, and can be allowed; a sweep goes on and can aim at a task."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from trio_progress.testing import LeftoverError, ScheduleError, cancel_everywhere
from trio_progress.testing.leftovers import KINDS

kept: list[object] = []


@pytest.fixture(autouse=True)
def _forgotten() -> object:
    yield
    for thing in kept:
        close = getattr(thing, "close", None)
        if close is not None:
            close()
    kept.clear()


async def a_stream() -> None:
    stream = trio.testing.MemoryReceiveStream()
    kept.append(stream)
    await trio.sleep(0.1)


async def a_file() -> None:
    kept.append(Path(__file__).open())  # noqa: ASYNC230, SIM115 - what is tested
    await trio.sleep(0.1)


async def a_generator() -> None:
    async def numbers() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            await trio.lowlevel.checkpoint()  # noqa: ASYNC102 - what is tested

    begun = numbers()
    kept.append(begun)
    await anext(begun)
    await trio.sleep(0.1)


async def a_lock() -> None:
    lock = trio.Lock()
    kept.append(lock)
    await lock.acquire()
    await trio.sleep(0.1)
    lock.release()


async def a_token() -> None:
    limiter = trio.CapacityLimiter(1)
    kept.append(limiter)
    await limiter.acquire_on_behalf_of("x")
    await trio.sleep(0.1)
    limiter.release_on_behalf_of("x")


async def a_semaphore() -> None:
    semaphore = trio.Semaphore(2, max_value=2)
    kept.append(semaphore)
    await semaphore.acquire()
    await trio.sleep(0.1)
    semaphore.release()


async def a_pool_slot() -> None:
    requests = ["a request"]
    kept.append(type("AsyncConnectionPool", (), {"_requests": requests})())
    await trio.sleep(0.1)
    requests.clear()


Scenario = Callable[[], Awaitable[None]]


@pytest.mark.parametrize(
    ("scenario", "kind", "text"),
    [
        (a_stream, "stream", "a MemoryReceiveStream is still open"),
        (a_file, "file", "a file is still open"),
        (a_generator, "generator", "the async generator 'a_generator.<locals>.numbers' is suspended"),
        (a_lock, "lock", "a Lock is still held by"),
        (a_token, "token", "1 tokens of a CapacityLimiter are still borrowed"),
        (a_semaphore, "token", "1 of 2 of a Semaphore are still taken"),
        (a_pool_slot, "slot", "1 requests still have or want a slot of a pool"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_what_is_left_is_named_and_can_be_allowed_by_kind_or_by_text(scenario: Scenario, kind: str, text: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        cancel_everywhere(scenario, seed=1)
    assert isinstance(caught.value.error, LeftoverError)
    assert text in caught.value.error.found[0]
    assert kind in KINDS
    cancel_everywhere(scenario, seed=1, ignore=[kind])
    cancel_everywhere(scenario, seed=1, ignore=[f"{text}*"])
    with pytest.raises(ScheduleError):
        cancel_everywhere(scenario, seed=1, ignore=["session", "another text"])


async def closes_too_early() -> None:
    """Two places at which a cancel does harm."""
    for _ in range(2):
        opened = False
        try:
            await trio.sleep(0.1)
            opened = True
            await trio.sleep(0.1)
        finally:
            assert opened, "closed before it was open"


def test_a_sweep_goes_on_after_a_failure_and_reports_all() -> None:
    with pytest.raises(ScheduleError) as caught:
        cancel_everywhere(closes_too_early, seed=1)
    error = caught.value
    positions = [position for position, _ in error.failures]
    assert len(positions) >= 3
    assert positions == sorted(set(positions))
    assert all("closed before it was open" in text for _, text in error.failures)
    notes = "\n".join(error.__notes__)
    assert f"it fails at {len(positions)} of" in notes
    assert notes.count("closed before it was open") == 1


async def survives_its_reader() -> None:
    """Whoever cancels `reader` leaves `writer` waiting for a second."""
    send, receive = trio.open_memory_channel[int](0)

    async def reader() -> None:
        async with receive:
            assert await receive.receive() == 1

    async def writer() -> None:
        async with send:
            with trio.fail_after(1):
                await send.send(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader)
        nursery.start_soon(writer)


def test_a_sweep_can_aim_at_one_task() -> None:
    cancel_everywhere(survives_its_reader, seed=1)
    with pytest.raises(ScheduleError, match="its task 'reader' cancelled at step") as caught:
        cancel_everywhere(survives_its_reader, seed=1, tasks=["reader"])
    assert "BrokenResourceError" in str(caught.value)


def test_of_several_tasks_each_is_aimed_at_by_itself() -> None:
    async def three() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(patient)

    async def patient() -> None:
        await trio.sleep(1)

    whole = cancel_everywhere(three, seed=1)
    aimed = cancel_everywhere(three, seed=1, tasks=["pat*"])
    assert aimed.steps == 3 * whole.steps
    assert aimed.outcomes["cancelled"] > 3


def test_a_task_that_is_aimed_at_and_is_not_there_is_told() -> None:
    with pytest.raises(ValueError, match="has no task with a name like 'nobody'"):
        cancel_everywhere(survives_its_reader, tasks=["nobody"])
    with pytest.raises(TypeError, match="must be a sequence of texts"):
        cancel_everywhere(survives_its_reader, ignore="file")
    with pytest.raises(ValueError, match="a Ctrl-C is not for one task"):
        cancel_everywhere(survives_its_reader, tasks=["reader"], kind="interrupt")


def test_who_has_frozen_objects_keeps_them_so() -> None:
    gc.freeze()
    cancel_everywhere(trio.lowlevel.checkpoint)
    assert gc.get_freeze_count() > 0
