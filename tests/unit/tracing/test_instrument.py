"""Sessions as spans: which there are, what they lie within, what is linked, and what becomes of a tracer that fails."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from opentelemetry import context, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from trio_progress import Pipeline, SessionClosedError, open_tracker, tracing

RESEARCH = Pipeline("research", {"search": 3, "analysis": 1, "report": 1})


class Traced:
    """A provider that keeps the spans that have ended."""

    def __init__(self) -> None:
        self.provider = TracerProvider()
        self._kept = InMemorySpanExporter()
        self.provider.add_span_processor(SimpleSpanProcessor(self._kept))

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._kept.get_finished_spans())

    def __getitem__(self, name: str) -> ReadableSpan:
        (found,) = [span for span in self.spans if span.name == name]
        return found


@pytest.fixture
def traced() -> Traced:
    return Traced()


def values(span: ReadableSpan) -> dict[str, Any]:
    return {name.removeprefix("trio_progress."): value for name, value in (span.attributes or {}).items()}


def ids(span: ReadableSpan) -> tuple[int, int]:
    context = span.get_span_context()
    assert context is not None
    return context.trace_id, context.span_id


def within(inner: ReadableSpan, outer: ReadableSpan) -> bool:
    return inner.parent is not None and (inner.parent.trace_id, inner.parent.span_id) == ids(outer)


async def test_an_attempt_is_a_span_with_a_span_for_each_phase(
    autojump_clock: trio.testing.MockClock, traced: Traced
) -> None:
    async with open_tracker() as tracker:
        tracing.instrument(tracker, traced.provider)
        async with tracker.session("r-1", RESEARCH, title="Who?", labels={"user": "ada"}) as session:
            with session.phase("search", total=2, unit="pages") as search:
                for site in search.track(["a", "b"]):
                    with search.phase(site):
                        session.emit("source.found", {"url": site, "n": 1, "tags": ["x"]})
            session.advance_to("analysis")
            session.advance_to("report")
            session.emit("bare")
            session.emit("list", [1, 2])
    attempt = traced["research"]
    assert [span.name for span in traced.spans] == ["a", "b", "search", "analysis", "report", "research"]
    assert attempt.parent is None
    assert list(attempt.links) == []
    assert attempt.status.status_code is StatusCode.UNSET
    assert values(attempt) | {"session.epoch": 0} == {
        "session.id": "r-1",
        "session.title": "Who?",
        "session.attempt": 1,
        "session.status": "completed",
        "session.epoch": 0,
        "label.user": "ada",
        "pipeline": "research",
    }
    assert all(within(traced[name], attempt) for name in ("search", "analysis", "report"))
    assert all(within(traced[name], traced["search"]) for name in ("a", "b"))
    assert values(traced["search"]) == {
        "session.id": "r-1",
        "phase.path": ("search",),
        "phase.attempt": 1,
        "phase.status": "completed",
        "phase.done": 2,
        "phase.total": 2,
        "phase.unit": "pages",
    }
    found, _, bare, listed = attempt.events
    assert (found.name, dict(found.attributes or {})) == ("source.found", {"url": "a", "n": 1, "tags": '["x"]'})
    assert (bare.name, dict(bare.attributes or {})) == ("bare", {})
    assert dict(listed.attributes or {}) == {"data": "[1,2]"}


@pytest.mark.parametrize("jump", [3600, -3600])
async def test_a_wall_clock_that_is_set_meanwhile_changes_no_span(
    jump: int, traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = 0

    def set_clock(real: Callable[[], int] = time.time_ns) -> int:
        return real() + ahead * 10**9

    monkeypatch.setattr("time.time_ns", set_clock)
    monkeypatch.setattr("opentelemetry.sdk.trace.time_ns", set_clock)
    begun = set_clock()
    async with open_tracker() as tracker:
        tracing.instrument(tracker, traced.provider)
        async with tracker.session("r-1", RESEARCH) as session:
            with session.phase("search"):
                ahead = jump
            session.emit("found")
            with session.phase("analysis"):
                pass
    names = ["research", "search", "analysis"]
    times = [begun, *(traced[name].start_time for name in names), traced.spans[0].end_time]
    (found,) = traced["research"].events
    times += [found.timestamp, traced["analysis"].end_time, traced["research"].end_time]
    for moment in times:
        assert moment is not None
        assert 0 <= moment - begun < 600 * 10**9
    for name in names[1:]:
        inner, outer = traced[name], traced["research"]
        moments = [outer.start_time, inner.start_time, inner.end_time, outer.end_time]
        assert moments == sorted(moment for moment in moments if moment is not None)


async def test_spans_of_others_lie_within_and_around_them(traced: Traced) -> None:
    tracer = traced.provider.get_tracer("of somebody else")
    async with open_tracker() as tracker:
        tracing.instrument(tracker, traced.provider)
        with tracer.start_as_current_span("request") as request:
            async with tracker.session("r-1") as session:
                with tracer.start_as_current_span("before"):
                    pass
                with session.phase("load") as load:

                    async def deep() -> None:
                        with tracer.start_as_current_span("query"):
                            await trio.lowlevel.checkpoint()
                            with load.phase("rows"):
                                pass

                    async with trio.open_nursery() as nursery:  # noqa: ASYNC112 - a task that inherits the context
                        nursery.start_soon(deep)
                with tracer.start_as_current_span("after"):
                    pass
            assert trace.get_current_span() is request
    assert within(traced["session"], traced["request"])
    assert within(traced["before"], traced["session"])
    assert within(traced["query"], traced["load"])
    assert within(traced["rows"], traced["query"])
    assert within(traced["after"], traced["session"])


async def test_phases_lie_where_the_tree_has_them_whichever_task_enters_them(traced: Traced) -> None:
    async with open_tracker() as tracker:
        tracing.instrument(tracker, traced.provider)
        async with trio.open_nursery() as elsewhere:
            async with tracker.session("r-1") as session:
                inner = session.phase("second")
                with session.phase("first") as first:
                    inner.__enter__()  # overlapping, and left in the order in which they were entered

                    async def worker() -> None:
                        with session.phase("third"), first.phase("child"):
                            await trio.lowlevel.checkpoint()

                    done = trio.Event()

                    async def started_outside() -> None:
                        await worker()
                        done.set()

                    elsewhere.start_soon(started_outside)
                    await done.wait()
                inner.__exit__(None, None, None)
            assert trace.get_current_span() is trace.INVALID_SPAN
    for name in ("first", "second", "third"):
        assert within(traced[name], traced["session"]), name
    assert within(traced["child"], traced["first"])


@pytest.mark.parametrize("url", ["memory:", "sqlite:progress.db"])
async def test_an_attempt_is_linked_to_the_one_before(
    traced: Traced, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with open_tracker(url) as tracker:
        tracing.instrument(tracker, traced.provider)
        with pytest.raises(KeyError):
            async with tracker.session("r-1", labels={"n": "1"}):
                raise KeyError("secret")
        if url == "memory:":
            for _ in range(2):
                async with tracker.session("r-1", resume="always") as session:
                    session.cancel()
                    await trio.sleep(1)
    if url != "memory:":
        async with open_tracker(url) as tracker:  # Who does not trace hands it on.
            async with tracker.session("r-1", resume="always") as session:
                session.cancel()
                await trio.sleep(1)
        async with open_tracker(url) as tracker:
            tracing.instrument(tracker, traced.provider)
            async with tracker.session("r-1", resume="always"):
                pass
    first, *rest = traced.spans
    for number, span in enumerate(rest):
        (link,) = span.links
        assert (link.context.trace_id, link.context.span_id) == ids(traced.spans[number])
    assert first.status.status_code is StatusCode.ERROR
    assert (first.status.description, values(first)["error.type"]) == ("KeyError", "KeyError")
    assert "secret" not in str(first.to_json())
    assert values(rest[0])["session.attempt"] == (2 if url == "memory:" else 3)


async def test_a_run_that_begins_anew_is_linked_to_nothing(traced: Traced) -> None:
    async with open_tracker() as tracker:
        tracing.instrument(tracker, traced.provider)
        for _ in range(2):
            async with tracker.session("r-1"):
                pass
    assert [len(span.links) for span in traced.spans] == [0, 0]


async def test_how_it_ended_is_said_by_the_conventions(autojump_clock: trio.testing.MockClock, traced: Traced) -> None:
    async with open_tracker() as tracker:
        tracing.instrument(tracker, traced.provider)
        async with tracker.session("said") as session:
            session.fail("the disk is full")
        with pytest.raises(trio.TooSlowError):
            with trio.fail_after(1):
                async with tracker.session("slow") as session:
                    with session.phase("waits"):
                        await trio.sleep(5)
        async with tracker.session("cancelled") as session:
            with session.phase("stops"):
                session.cancel("enough")
                await trio.sleep(5)
        async with tracker.session("caught") as session:
            with pytest.raises(ValueError, match="no"):
                with session.phase("retried"):
                    raise ValueError("no")
            with session.phase("retried"):
                pass
    found = {values(span)["session.id"]: span for span in traced.spans if "session.status" in values(span)}
    assert {name: (values(span)["session.status"], span.status.status_code) for name, span in found.items()} == {
        "said": ("failed", StatusCode.ERROR),
        "slow": ("timed_out", StatusCode.ERROR),
        "cancelled": ("cancelled", StatusCode.UNSET),
        "caught": ("completed", StatusCode.UNSET),
    }
    assert found["said"].status.description == "the disk is full"
    first, again = [span for span in traced.spans if span.name == "retried"]
    assert (values(first)["error.type"], first.status.status_code) == ("ValueError", StatusCode.ERROR)
    assert (values(again)["phase.attempt"], again.status.status_code) == (2, StatusCode.UNSET)
    assert values(traced["stops"])["phase.status"] == "cancelled"


async def test_a_tracer_that_fails_is_logged_once_and_hurts_nobody(
    traced: Traced, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no more spans")

    async with open_tracker() as tracker:
        tracing.instrument(tracker, traced.provider)
        async with tracker.session("r-1") as session:
            monkeypatch.setattr("opentelemetry.sdk.trace.Tracer.start_span", broken)
            for name in ("a", "b"):
                with session.phase(name):
                    session.emit("x")
        assert session.status == "completed"
        assert (await tracker.snapshot("r-1")).phase("b").status == "completed"
        assert trace.get_current_span() is trace.INVALID_SPAN
    failed = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.getMessage() for record in failed] == [
        "session 'r-1' cannot be traced any further; the work goes on"
    ]


@pytest.mark.parametrize("stored", ["00-" + "0" * 32 + "-" + "0" * 16 + "-01", "x" * 1000, "", "00-zz-zz-00"])
def test_what_a_store_holds_and_is_no_trace_is_linked_to_nothing(stored: str, traced: Traced) -> None:
    from trio_progress.tracing.spans import span_context, traceparent

    assert span_context(stored) is None
    given = traced.provider.get_tracer("x").start_span("x").get_span_context()
    read = span_context(traceparent(given))
    assert read is not None
    assert (read.trace_id, read.span_id, read.trace_flags) == (given.trace_id, given.span_id, given.trace_flags)


async def test_without_a_provider_nothing_is_recorded_and_nothing_is_stored_of_it(tmp_path: Path) -> None:
    path = tmp_path / "p.db"
    async with open_tracker(f"sqlite:{path}") as tracker:
        tracing.instrument(tracker)
        async with tracker.session("r-1") as session:
            with session.phase("a"):
                pass
        with pytest.raises(TypeError, match="must be a ProgressTracker"):
            tracing.instrument(None)  # type: ignore[arg-type]
    assert b"traceparent" not in path.read_bytes()
    assert b'"trace"' not in path.read_bytes()


async def test_a_session_that_could_not_begin_leaves_no_span_and_no_context(traced: Traced) -> None:
    before = context.get_current()
    async with open_tracker() as tracker:
        tracing.instrument(tracker, traced.provider)
        async with tracker.session("r-1"):
            here = context.get_current()
            with pytest.raises(Exception, match="r-1"):
                async with tracker.session("r-1"):
                    pass
            assert context.get_current() is here
    with pytest.raises(SessionClosedError):
        async with tracker.session("r-2"):
            pass
    assert [span.name for span in traced.spans] == ["session"]
    assert context.get_current() is before
