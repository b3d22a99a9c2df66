"""What a scrape is told: the tracker's counts at this moment, in series that do not grow."""

from __future__ import annotations

import os
import re
import sqlite3
from pathlib import Path

import pytest
import trio
import trio.testing
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from tests.support import RecordingStore
from tests.unit.metrics.scraping import RESEARCH, samples, table, work
from trio_progress import Pipeline, ProgressTracker, StoreError, metrics, open_tracker
from trio_progress.metrics.families import FAMILIES, PREFIX
from trio_progress.telemetry.statistics import OTHER, PHASES, PIPELINES

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


def scraped(tracker: ProgressTracker) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return samples(metrics.exposition(tracker)[1])


def strictly(body: bytes) -> list[Metric]:
    """By a reader that refuses what OpenMetrics does not allow."""
    return list(parse_openmetrics(body.decode()))  # type: ignore[no-untyped-call]


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
