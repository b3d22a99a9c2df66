"""What a scrape is told: the tracker's counts at this moment, in series that do not grow, from any thread."""

from __future__ import annotations

import gc
import json
import os
import re
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio
import trio.testing
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Metric, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.samples import Sample

from tests.support import RecordingStore
from trio_progress import Pipeline, ProgressTracker, SessionClosedError, StoreError, metrics, open_tracker
from trio_progress.metrics import collector as collector_module
from trio_progress.metrics.families import FAMILIES, PREFIX
from trio_progress.telemetry.statistics import OTHER, PHASES, PIPELINES

RESEARCH = Pipeline("research", {"search": 3, "analysis": 2})

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
OF_PROMETHEUS = f"{OPENMETRICS},text/plain;version=0.0.4;q=0.3,*/*;q=0.1"
"""What a Prometheus server asks for."""

DESIGNED = {
    "states_total": (),
    "broadcasts_total": (),
    "broadcasts_conflated_total": (),
    "broadcasts_dropped_total": ("reason",),
    "persists_total": (),
    "persists_skipped_total": ("reason",),
    "persist_seconds": (),
    "persist_lag_seconds": (),
    "sessions": ("liveness",),
    "sessions_ended_total": ("pipeline", "status"),
    "subscribers": (),
    "phase_seconds": ("pipeline", "phase"),
    "store_up": (),
    "delivery_lag_seconds": (),
}

SESSIONS = int(os.environ.get("SESSIONS", "500"))
"""How many sessions must leave the series as they are with `--exhaustive`; `SESSIONS=100000` before a release."""


def samples(body: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return table(sample for family in parse_text(body.decode()) for sample in family.samples)


def table(found: Iterable[Sample]) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    values = {}
    for sample in found:
        key = (sample.name.removeprefix(PREFIX), frozenset(sample.labels.items()))
        assert key not in values
        values[key] = sample.value
    return values


def scraped(tracker: ProgressTracker) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return samples(metrics.exposition(tracker)[1])


def strictly(body: bytes) -> list[Metric]:
    """By a reader that refuses what OpenMetrics does not allow."""
    return list(parse_openmetrics(body.decode()))  # type: ignore[no-untyped-call]


def of(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(PREFIX + name, labels)


async def work(tracker: ProgressTracker, session_id: str, pipeline: Pipeline | None) -> None:
    async with tracker.session(session_id, pipeline) as session:
        for spec in pipeline or ():
            with session.phase(spec.name) as phase:
                phase.advance()


# What is told


async def test_all_metrics_have_their_names_labels_help_and_unit(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker:
        await work(tracker, "a", RESEARCH)
        content_type, body = metrics.exposition(tracker, OF_PROMETHEUS)
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name: family for family in strictly(body)}
    assert set(DESIGNED) <= {family.name for family in FAMILIES}
    for name, labels in DESIGNED.items():
        family = families[PREFIX + name.removesuffix("_total")]
        assert len(family.documentation) > 10
        assert family.unit == ("seconds" if name.endswith("_seconds") else "")
        assert {tuple(sorted(set(sample.labels) - {"le"})) for sample in family.samples} == {tuple(sorted(labels))}
        assert (family.type == "counter") == name.endswith("_total")


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, "text/plain; version=0.0.4; charset=utf-8"),
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/html, */*", "text/plain; version=0.0.4; charset=utf-8"),
        ("\x00;;==,,,q=", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain;version=abc", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text;version=1.0.0.\xff", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text;version=1.0.0." + "0." * 16_000, "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text;version=abc", "text/plain; version=0.0.4; charset=utf-8"),
        (OF_PROMETHEUS, "application/openmetrics-text; version=1.0.0; charset=utf-8"),
    ],
)
async def test_the_answer_is_what_was_asked_for(accept: str | None, content_type: str) -> None:
    async with open_tracker() as tracker:
        given, body = metrics.exposition(tracker, accept)
    assert given.startswith(content_type)
    assert body.endswith(b"# EOF\n") == content_type.startswith("application/openmetrics")


async def test_what_is_told_is_what_the_statistics_are(autojump_clock: trio.testing.MockClock) -> None:
    store = RecordingStore(delay=0.02)
    async with open_tracker(store) as tracker, trio.open_nursery() as nursery:

        async def follow() -> None:
            async with tracker.subscribe("a", wait=True) as messages:
                async for _ in messages:
                    await trio.sleep(0.3)

        nursery.start_soon(follow)
        async with tracker.session("a", RESEARCH) as session:
            with session.phase("search") as phase:
                for _ in range(20):
                    phase.advance()
                    await trio.sleep(0.1)
                with phase.phase("site"):
                    await trio.sleep(2.5)
            await trio.sleep(61)
            found = scraped(tracker)
            assert found["sessions", frozenset({("liveness", "stalled")})] == 1
            assert found["sessions", frozenset({("liveness", "ok")})] == 0
            assert found["subscribers", frozenset()] == 1
            store.mode = "down"
            session.increment("n")
            await trio.sleep(3)
            found = scraped(tracker)
            assert found["store_up", frozenset()] == 0
            assert found["persist_lag_seconds", frozenset()] == pytest.approx(3)
            assert found["persists_skipped_total", frozenset({("reason", "failed")})] > 0
            store.mode = "up"
        statistics = tracker.statistics()
    found = scraped(tracker)
    assert found["states_total", frozenset()] == statistics.states > 10
    assert found["broadcasts_total", frozenset()] == statistics.broadcasts > 3
    assert found["broadcasts_conflated_total", frozenset()] == statistics.conflated > 3
    assert found["persists_total", frozenset()] == statistics.persists > 3
    assert found["persist_seconds_sum", frozenset()] == pytest.approx(statistics.persist_seconds.sum)
    ended = frozenset({("pipeline", "research"), ("status", "completed")})
    assert found["sessions_ended_total", ended] == 1
    search = {("pipeline", "research"), ("phase", "search")}
    assert found["phase_seconds_sum", frozenset(search)] == pytest.approx(4.5)
    buckets = {
        float(dict(labels)["le"]): count
        for (name, labels), count in found.items()
        if name == "phase_seconds_bucket" and search < labels
    }
    assert buckets == {bound: float(bound >= 5.0) for bound in buckets}, "cumulative"
    assert found["phase_seconds_count", frozenset({("pipeline", "research"), ("phase", OTHER)})] == 1


async def test_pain_10_a_store_that_cannot_be_read_any_more_is_seen_though_nothing_is_written(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = RecordingStore()
    async with open_tracker(store) as tracker:
        async with tracker.subscribe("of-somebody-else", wait=True):
            await trio.sleep(1)
            assert scraped(tracker)["store_up", frozenset()] == 1
            store.mode = "down"
        await trio.sleep(1)  # The reader has asked again, for what is left to watch.
        assert store.tries == []
        assert scraped(tracker)["store_up", frozenset()] == 0
        store.mode = "up"
        await trio.sleep(3)
        assert scraped(tracker)["store_up", frozenset()] == 1, "though nothing is written or watched"


async def test_a_reader_that_is_cut_off_tells_since_when_and_how_many_sessions_it_follows(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = RecordingStore()
    async with open_tracker(store.inner) as owner, open_tracker(store) as gateway, owner.session("a"):
        async with gateway.watch("a"):
            await trio.sleep(100)
            now = scraped(gateway)
            assert now["read_lag_seconds", frozenset()] == 0, "no news is no lag where a store wakes its readers"
            assert now["sessions_followed", frozenset()] == 1
            assert scraped(owner)["sessions_followed", frozenset()] == 0
            store.mode = "down"
            await trio.sleep(30)  # It is asked again with the next heartbeat.
            began = scraped(gateway)["read_lag_seconds", frozenset()]
            assert 20 <= began <= 40
            await trio.sleep(30)
            assert scraped(gateway)["read_lag_seconds", frozenset()] == began + 30
            store.mode = "up"
            await trio.sleep(5)
            assert scraped(gateway)["read_lag_seconds", frozenset()] == 0
        await trio.sleep(1)
        assert scraped(gateway)["sessions_followed", frozenset()] == 0


async def test_a_failed_write_that_nobody_tries_again_does_not_leave_the_store_down_for_ever(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = RecordingStore()
    async with open_tracker(store) as tracker:
        store.mode = "down"
        with pytest.raises(StoreError):
            await tracker.declare("a")
        store.mode = "up"
        await trio.sleep(1)
        assert scraped(tracker)["store_up", frozenset()] == 1


async def test_while_a_store_is_tried_again_it_is_down_also_between_two_tries(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = RecordingStore(delay=0.3)
    async with open_tracker(store) as tracker, tracker.session("a") as session:
        await trio.sleep(1)
        store.mode = "down"
        session.increment("n")
        await trio.sleep(3)
        for _ in range(50):
            assert scraped(tracker)["store_up", frozenset()] == 0
            await trio.sleep(0.2)
        store.mode = "up"
        await trio.sleep(2)
        assert scraped(tracker)["store_up", frozenset()] == 1


async def test_trust_11_what_the_store_itself_cannot_read_is_counted_as_well(tmp_path: Path) -> None:
    path = tmp_path / "progress.db"
    async with open_tracker(f"sqlite:{path}") as tracker:
        for number in range(4):
            await tracker.declare(f"s-{number}")
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("UPDATE sessions SET queued_at = 'soon' WHERE id = 's-0'")  # For the store.
        connection.execute("UPDATE sessions SET record = x'7b' WHERE id = 's-1'")  # For the tracker.
        connection.close()
        before = scraped(tracker)["unreadable_entries_total", frozenset()]
        assert [one.id for one in await tracker.sessions()] == ["s-3", "s-2"]
        assert scraped(tracker)["unreadable_entries_total", frozenset()] == before + 2


async def test_every_family_is_there_before_anything_has_happened() -> None:
    async with open_tracker() as tracker:
        _, body = metrics.exposition(tracker)
    text = body.decode()
    for family in FAMILIES:
        assert f"# HELP {PREFIX}{family.name} {family.help}\n" in text
        # A rate needs the zero that it rises from.
        assert re.search(rf"^{PREFIX}{family.name}[_ {{]", text, re.MULTILINE), family.name


# Series


async def test_trust_12_series_do_not_grow_with_sessions(
    autojump_clock: trio.testing.MockClock, exhaustive: bool
) -> None:
    sessions = SESSIONS if exhaustive else 120
    async with open_tracker(retention=1, strict=False) as tracker:
        await work(tracker, "first", RESEARCH)
        before = scraped(tracker)
        for number in range(sessions):
            name = f"user-{number}"
            async with tracker.session(name, RESEARCH, title=f"t-{number}", labels={"user": name}) as session:
                with session.phase("search", title=f"title-{number}") as phase, phase.phase(f"site-{number}"):
                    session.update(message=f"message-{number}")
                if number % 7 == 0:
                    session.fail(f"reason-{number}")
        async with tracker.session("free") as session:
            for number in range(min(sessions, 900)):
                with session.phase(f"made-up-{number}"):
                    pass
        after = scraped(tracker)
    assert set(after) == set(before)
    completed = frozenset({("pipeline", "research"), ("status", "completed")})
    assert after["sessions_ended_total", completed] == 1 + sessions - (sessions + 6) // 7
    shown = {value for _, labels in after for name, value in labels if name != "le"}
    assert shown == {"research", "search", "analysis", OTHER} | {
        "completed", "failed", "cancelled", "timed_out", "interrupted", "lost",
        "ok", "stalled", "event", "subscriber", "end", "coalesced", "unchanged",
    }  # fmt: skip


async def test_pipelines_that_are_made_up_as_they_come_are_bounded(
    autojump_clock: trio.testing.MockClock, exhaustive: bool
) -> None:
    batches = 4 if exhaustive else 2
    registry = CollectorRegistry()
    counts = []
    for batch in range(batches):
        async with open_tracker() as tracker:  # Each has its own bounds; together they have the same.
            metrics.register(tracker, registry)
            for number in range(PIPELINES + 5):
                pipeline = Pipeline(f'job-{batch}-{number}\\"{{', [f"step-{step}" for step in range(6)])
                await work(tracker, f"s-{number}", pipeline)
            counts.append(len(table(sample for family in registry.collect() for sample in family.samples)))
    assert len(set(counts)) == 1
    found = table(sample for family in registry.collect() for sample in family.samples)
    ended = {labels: count for (name, labels), count in found.items() if name == "sessions_ended_total"}
    assert len({dict(labels)["pipeline"] for labels in ended}) == PIPELINES + 1
    assert sum(ended.values()) == batches * (PIPELINES + 5)
    phases = {labels: count for (name, labels), count in found.items() if name == "phase_seconds_count"}
    assert len(phases) == PHASES + PIPELINES + 1
    assert sum(phases.values()) == batches * (PIPELINES + 5) * 6
    assert strictly(generate_openmetrics(registry))  # type: ignore[no-untyped-call]


async def test_phases_of_many_trackers_are_bounded_together(autojump_clock: trio.testing.MockClock) -> None:
    registry = CollectorRegistry()
    for batch in range(4):
        async with open_tracker() as tracker:
            metrics.register(tracker, registry)
            for number in range(10):
                await work(tracker, f"s-{number}", Pipeline(f"p-{batch}-{number}", [f"x-{step}" for step in range(15)]))
    found = table(sample for family in registry.collect() for sample in family.samples)
    phases = {labels: count for (name, labels), count in found.items() if name == "phase_seconds_count"}
    assert len(phases) == PHASES + 40 + 1
    assert sum(phases.values()) == 600
    assert phases[frozenset({("pipeline", "p-3-9"), ("phase", OTHER)})] == 15


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


async def test_a_scrape_in_another_thread_reads_one_moment() -> None:
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
    monkeypatch.setattr(collector_module, "PATIENCE", 0.05)
    registry = CollectorRegistry()
    bodies: list[bytes] = []

    def scrape() -> None:
        bodies.append(generate_latest(registry))

    async with open_tracker() as tracker:
        metrics.register(tracker, registry)
        async with tracker.session("a"):
            await trio.to_thread.run_sync(scrape)
            await trio.lowlevel.checkpoint()
            stuck = threading.Thread(target=scrape)
            stuck.start()
            stuck.join()  # The event loop is busy with this.
            await trio.to_thread.run_sync(scrape)
    before, during, after = map(samples, bodies)
    gauges = {(name, labels) for name, labels in before if name in ("sessions", "subscribers", "store_up")}
    gauges |= {(name, frozenset()) for name in ("persist_lag_seconds", "read_lag_seconds", "sessions_followed")}
    assert set(before) - set(during) == gauges
    assert during["sessions_begun_total", frozenset()] == 1
    assert set(after) == set(before)


async def test_trackers_of_a_loop_that_does_not_answer_are_waited_for_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(collector_module, "PATIENCE", 0.2)
    registry = CollectorRegistry()
    async with AsyncExitStack() as stack:
        for _ in range(10):
            metrics.register(await stack.enter_async_context(open_tracker()), registry)
        stuck = threading.Thread(target=generate_latest, args=[registry])
        began = time.monotonic()
        stuck.start()
        stuck.join()  # The event loop is busy with this.
        assert 0.2 <= time.monotonic() - began < 1.0


def test_a_scrape_after_the_run_tells_the_last_counts() -> None:
    registry = CollectorRegistry()

    async def main() -> None:
        async with open_tracker() as tracker:
            metrics.register(tracker, registry)
            await work(tracker, "a", RESEARCH)

    trio.run(main)
    assert of(registry, "sessions_begun_total") == 1
    assert of(registry, "store_up") is None


# What comes along


def named(text: str) -> set[str]:
    return set(re.findall(rf"\b{PREFIX}\w+", text))


def known() -> Iterator[str]:
    for family in FAMILIES:
        name = PREFIX + family.name
        yield from (f"{name}_bucket", f"{name}_count", f"{name}_sum") if family.kind == "histogram" else (name,)


def expressions() -> list[str]:
    board = json.loads(metrics.dashboard())
    return [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]


def test_the_dashboard_and_the_rules_speak_of_metrics_that_there_are() -> None:
    assert named(" ".join(expressions())) <= set(known())
    assert len(expressions()) > 15
    assert named(metrics.rules()) <= set(known())
    for alert in ("StoreDown", "PersistLag", "SessionsStalled", "SessionsLost", "EventsDropped", "SubscribersDropped"):
        assert f"alert: TrioProgress{alert}\n" in metrics.rules()


def test_the_dashboard_shows_every_metric_on_panels_that_do_not_overlap() -> None:
    shown = {re.sub(r"_(bucket|count|sum)$", "", name) for name in named(" ".join(expressions()))}
    assert {PREFIX + family.name for family in FAMILIES} == shown
    taken: set[tuple[int, int]] = set()
    panels = json.loads(metrics.dashboard())["panels"]
    for panel in panels:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert all(x < 24 for x, _ in cells)
        taken |= cells
    assert len({panel["id"] for panel in panels}) == len(panels)
