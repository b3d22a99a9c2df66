"""What telemetry costs: counting beside prometheus_client's own instruments, and a scrape with few and many sessions.

Counting is what the work pays, over and over; a scrape is what the event loop pays, every fifteen seconds or so; and
series are what the Prometheus pays, for as long as it keeps them: as many after any number of sessions.
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import trio
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from trio_progress import Pipeline, ProgressTracker, metrics, open_tracker
from trio_progress.metrics.families import FAMILIES
from trio_progress.telemetry import statistics as ours

from .harness import Timing, Values, interleave
from .hot import Bare
from .report import Report
from .suites import Suite, count, register, seconds

RESEARCH = Pipeline("research", {f"phase {number}": 1 for number in range(8)})

LATENCY = 0.0042
"""Seconds: a value for the histograms, that falls into a bucket in the middle."""

PASSES = 10
"""How often the contenders take turns within a round."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `scrape`."""
    parser.add_argument(
        "--span", type=seconds, default=0.05, metavar="S", help="seconds each contender has in a round (default: 0.05)"
    )
    parser.add_argument("--sessions", type=count, default=1000, metavar="N", help="open at once (default: 1000)")
    parser.add_argument(
        "--past", type=count, default=100_000, metavar="N", help="that come and go, for the series (default: 100000)"
    )


def run(options: argparse.Namespace) -> Report:
    """Measures in an event loop of its own."""
    return trio.run(measure, options)


async def measure(options: argparse.Namespace) -> Report:
    """Measures both; the trackers have their default settings."""
    settings = {name: getattr(options, name) for name in ("rounds", "span", "sessions", "past")}
    report = Report("scrape", settings)
    async with AsyncExitStack() as stack:
        await _counting(report, options, stack)
        await _scraping(report, options, stack)
    await _growing(report, options.past)
    report.notes += [
        "CPU time; the loop around each call is in its figure",
        "a scrape is the whole text in Prometheus' format; the rival has as many series, in instruments of its own",
    ]
    return report


async def _counting(report: Report, options: argparse.Namespace, stack: AsyncExitStack) -> None:
    registry = CollectorRegistry()
    bounds = ours.LATENCIES
    tracker = await stack.enter_async_context(open_tracker())
    session = await stack.enter_async_context(tracker.session())
    phase = stack.enter_context(session.phase("measured"))
    contenders: dict[str, tuple[str, Any]] = {
        "bare method": ("it.add()", Bare()),
        "phase.advance()": ("it.advance()", phase),
        "our histogram": (f"it.observe({LATENCY})", ours.Histogram(bounds)),
        "prometheus_client Counter.inc()": ("it.inc()", Counter("n", "n", registry=registry)),
        "prometheus_client Histogram.observe()": (
            f"it.observe({LATENCY})",
            Histogram("h", "h", registry=registry, buckets=bounds),
        ),
    }
    span = options.span / PASSES
    values = await interleave(
        {name: Timing(statement, {"it": it}, span=span) for name, (statement, it) in contenders.items()},
        options.rounds,
        passes=PASSES,
    )
    counter, observed = "prometheus_client Counter.inc()", "prometheus_client Histogram.observe()"
    shown = {"phase.advance()": (counter,), "our histogram": (observed,)}
    report.add("counting once", "ns", values, against=("bare method", counter, observed), headline=shown)
    advance, inc = values["phase.advance()"], values["prometheus_client Counter.inc()"]
    report.aim("phase.advance() to Counter.inc()", "x", 0.5, advance, inc)
    theirs = values["prometheus_client Histogram.observe()"]
    report.aim("our histogram to theirs", "x", 0.5, values["our histogram"], theirs)


async def _scraping(report: Report, options: argparse.Namespace, stack: AsyncExitStack) -> None:
    few, many = [await _tracker(stack, number) for number in (1, options.sessions)]
    crowd = f"a tracker with {options.sessions} open sessions"
    contenders = {
        "a tracker with one open session": _scrape(lambda: metrics.exposition(few), options.span),
        crowd: _scrape(lambda: metrics.exposition(many), options.span),
        "prometheus_client, as many series": _scrape(lambda: generate_latest(registry), options.span),
    }
    registry = _rival(few)
    values = await interleave(contenders, options.rounds)
    rivals = ("prometheus_client, as many series",)
    shown = {name: rivals for name in contenders if name not in rivals}
    report.add("a scrape", "us", values, against=rivals, headline=shown)
    report.aim("a scrape, each open session", "us", 10.0, [value / options.sessions for value in values[crowd]])


async def _growing(report: Report, past: int) -> None:
    """How many series there are after one session, and after as many as are told."""
    async with open_tracker(retention=1.0) as tracker:
        found: list[int] = []
        for number in range(past + 1):
            name = f"s-{number}"
            async with tracker.session(name, RESEARCH, title=f"title {name}", labels={"user": name}) as session:
                with session.phase("phase 0") as phase, phase.phase(f"site {name}"):
                    session.set(message=name)
            if number in (0, past):
                found.append(_series(tracker))
    many = f"after {past} more"
    values: Values = {"after one session": [found[0]], many: [found[1]]}
    report.add("series told", "series", values, headline={many: ("after one session",)})
    report.aim(f"series that {past} sessions add", "series", 0, [found[1] - found[0]])


def _series(tracker: ProgressTracker) -> int:
    _, text = metrics.exposition(tracker)
    return sum(not line.startswith(b"#") for line in text.splitlines())


async def _tracker(stack: AsyncExitStack, sessions: int) -> ProgressTracker:
    tracker = await stack.enter_async_context(open_tracker())
    for _ in range(sessions):
        session = await stack.enter_async_context(tracker.session(pipeline=RESEARCH))
        stack.enter_context(session.phase("phase 0"))
    return tracker


def _rival(tracker: ProgressTracker) -> CollectorRegistry:
    """Instruments of prometheus_client with the series that the tracker tells."""
    registry = CollectorRegistry()
    for family in FAMILIES:
        samples = family.read(tracker.statistics())
        kind = Histogram if family.kind == "histogram" else Counter
        bounds: dict[str, Any] = {}
        if family.kind == "histogram":
            distribution = next(iter(samples.values()))
            assert isinstance(distribution, ours.Distribution)
            bounds = {"buckets": distribution.bounds}
        instrument = kind(f"rival_{family.name}", family.help, family.labels, registry=registry, **bounds)
        for labels in samples:
            if labels:
                instrument.labels(*labels)
    return registry


def _scrape(act: Callable[[], object], span: float) -> Callable[[], Awaitable[float]]:
    async def value() -> float:
        await trio.lowlevel.checkpoint()
        return await Timing("act()", {"act": act}, span=span)() / 1000

    return value


register(
    Suite(
        name="scrape",
        summary="telemetry: counting beside prometheus_client's instruments, and a scrape with one and many sessions",
        rounds=7,
        add_arguments=add_arguments,
        run=run,
        short=("--rounds", "3", "--past", "2000"),
    )
)
