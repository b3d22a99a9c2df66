"""Trackers come into registries and leave them, and are scraped from any thread."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from contextlib import AsyncExitStack

import pytest
import trio
import trio.testing
from prometheus_client import REGISTRY, CollectorRegistry, Counter, generate_latest

from tests.support import PATIENCE, RecordingStore
from tests.unit.metrics.scraping import RESEARCH, samples, work
from trio_progress import SessionClosedError, metrics, open_tracker
from trio_progress.metrics import collector as collector_module
from trio_progress.metrics.families import PREFIX


def of(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(PREFIX + name, labels)


# Registries


async def test_trackers_in_one_registry_are_added_up_and_what_they_counted_stays(
    autojump_clock: trio.testing.MockClock,
) -> None:
    registry = CollectorRegistry()
    down = RecordingStore()
    async with open_tracker() as one:
        collector = metrics.register(one, registry)
        await work(one, "a", RESEARCH)
        async with open_tracker(down) as two:
            assert metrics.register(two, registry) is collector
            assert metrics.register(two, registry) is collector
            await work(two, "b", RESEARCH)
            async with two.session("c"), one.session("d"):
                down.mode = "down"
                await trio.sleep(20)
                assert of(registry, "sessions", liveness="ok") == 2
                assert of(registry, "store_up") == 0, "the worst of them"
                down.mode = "up"
                await trio.sleep(2)
                assert of(registry, "store_up") == 1
        assert [*collector.trackers] == [one]
        assert of(registry, "sessions", liveness="ok") == 0
        assert of(registry, "sessions_begun_total") == 4
        assert of(registry, "sessions_ended_total", pipeline="research", status="completed") == 2
        assert of(registry, "phase_seconds_count", pipeline="research", phase="search") == 2
        assert of(registry, "persists_total") == one.statistics().persists + two.statistics().persists
    assert not collector.trackers
    assert of(registry, "sessions_begun_total") == 4
    assert of(registry, "states_total") == one.statistics().states + two.statistics().states
    assert of(registry, "sessions", liveness="ok") is None
    assert of(registry, "store_up") is None


async def test_counts_never_fall_whoever_comes_and_goes(autojump_clock: trio.testing.MockClock) -> None:
    registry = CollectorRegistry()
    last = 0.0
    for number in range(5):
        async with open_tracker() as tracker:
            metrics.register(tracker, registry)
            async with tracker.session("a") as session:
                for _ in range(5):
                    session.increment("n")
                    session.snapshot()
                    states = of(registry, "states_total")
                    assert states is not None
                    assert states > last
                    last = states
            if number % 2:
                metrics.register(tracker, registry)
                metrics.unregister(tracker, registry)
                assert of(registry, "states_total") is None, "the last one takes all with it"
                last = 0.0


async def test_what_is_taken_out_by_hand_comes_back(autojump_clock: trio.testing.MockClock) -> None:
    registry = CollectorRegistry()
    async with open_tracker() as tracker:
        collector = metrics.register(tracker, registry)
        registry.unregister(collector)
        assert of(registry, "store_up") is None
        metrics.register(tracker, registry)
        assert of(registry, "store_up") == 1
        metrics.unregister(tracker, registry)
        metrics.unregister(tracker, registry)
        own = metrics.Collector(tracker)
        registry.register(own)
        assert of(registry, "store_up") == 1
        own.remove(tracker)
        own.remove(tracker)
        assert of(registry, "store_up") is None


async def test_unless_told_it_is_the_registry_that_everybody_has(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker:
        metrics.register(tracker)
        try:
            assert of(REGISTRY, "store_up") == 1
        finally:
            metrics.unregister(tracker)
    assert of(REGISTRY, "store_up") is None


async def test_wrong_use_is_told_and_changes_nothing() -> None:
    registry = CollectorRegistry()
    Counter("trio_progress_states", "of somebody else", registry=registry)
    async with open_tracker() as tracker:
        with pytest.raises(ValueError, match="trio_progress_states"):
            metrics.register(tracker, registry)
        assert of(registry, "store_up") is None
        fresh = CollectorRegistry()
        with pytest.raises(RuntimeError, match="event loop that runs it"):
            await trio.to_thread.run_sync(metrics.register, tracker, fresh)
        metrics.register(tracker, fresh)
        with pytest.raises(ValueError, match="Duplicated"):
            fresh.register(metrics.Collector(tracker))
        metrics.unregister(tracker, CollectorRegistry())
    with pytest.raises(SessionClosedError, match="has been left"):
        metrics.register(tracker, fresh)


async def test_a_registry_that_is_dropped_takes_its_collector_along(autojump_clock: trio.testing.MockClock) -> None:
    registry = CollectorRegistry()
    async with open_tracker() as tracker:
        dropped = weakref.ref(metrics.register(tracker, registry))
    del registry, tracker
    gc.collect()
    assert dropped() is None


# Threads


async def test_a_scrape_in_another_thread_reads_one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector_module, "PATIENCE", PATIENCE)
    registry = CollectorRegistry()
    scrapes = 0
    async with open_tracker() as tracker:
        metrics.register(tracker, registry)

        def scrape() -> None:
            nonlocal scrapes
            last = 0.0
            for _ in range(20):
                found = samples(generate_latest(registry))
                ended = sum(count for (name, _), count in found.items() if name == "sessions_ended_total")
                there = sum(count for (name, _), count in found.items() if name == "sessions")
                begun = found["sessions_begun_total", frozenset()]
                assert 0 <= there - (begun - ended) <= 1, "one may be entering, and has not begun"
                states = found["states_total", frozenset()]
                assert states >= last
                last = states
                scrapes += 1

        async def work_on() -> None:
            while True:
                async with tracker.session() as session:
                    session.increment("n")
                    await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(work_on)
            async with trio.open_nursery() as threads:
                for _ in range(3):
                    threads.start_soon(trio.to_thread.run_sync, scrape)
            nursery.cancel_scope.cancel()
        assert tracker.statistics().sessions_ended > 1
    assert scrapes == 60


async def test_of_a_loop_that_does_not_answer_the_counts_are_told_and_no_gauges(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(collector_module, "PATIENCE", PATIENCE)
    registry = CollectorRegistry()
    bodies: list[bytes] = []

    def scrape() -> None:
        bodies.append(generate_latest(registry))

    async with open_tracker() as tracker:
        metrics.register(tracker, registry)
        async with tracker.session("a"):
            await trio.to_thread.run_sync(scrape)
            await trio.lowlevel.checkpoint()
            monkeypatch.setattr(collector_module, "PATIENCE", 0.05)
            stuck = threading.Thread(target=scrape)
            stuck.start()
            stuck.join()  # The event loop is busy with this.
            monkeypatch.setattr(collector_module, "PATIENCE", PATIENCE)
            await trio.to_thread.run_sync(scrape)
    before, during, after = map(samples, bodies)
    gauges = {(name, labels) for name, labels in before if name in ("sessions", "subscribers", "store_up")}
    others = ("persist_lag_seconds", "read_lag_seconds", "sessions_followed", "store_partitions_down")
    gauges |= {(name, frozenset()) for name in others}
    assert set(before) - set(during) == gauges
    assert during["sessions_begun_total", frozenset()] == 1
    assert set(after) == set(before)


async def test_trackers_of_a_loop_that_does_not_answer_are_waited_for_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(collector_module, "PATIENCE", 1.0)
    registry = CollectorRegistry()
    async with AsyncExitStack() as stack:
        for _ in range(100):
            metrics.register(await stack.enter_async_context(open_tracker()), registry)
        stuck = threading.Thread(target=generate_latest, args=[registry])
        began = time.monotonic()
        stuck.start()
        stuck.join()  # The event loop is busy with this.
        assert 1.0 <= time.monotonic() - began < PATIENCE, "one after the other they would take 100 s"


def test_a_scrape_after_the_run_tells_the_last_counts() -> None:
    registry = CollectorRegistry()

    async def main() -> None:
        async with open_tracker() as tracker:
            metrics.register(tracker, registry)
            await work(tracker, "a", RESEARCH)

    trio.run(main)
    assert of(registry, "sessions_begun_total") == 1
    assert of(registry, "store_up") is None
