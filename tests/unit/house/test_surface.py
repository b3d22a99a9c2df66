"""The surface: bad input, threads, code that has no session, and what an import brings along."""

from __future__ import annotations

import ast
import gc
import inspect
import logging
import math
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

import trio_progress
from tests.source import statements, tree
from trio_progress import (
    Limits,
    MemoryStore,
    NullPhase,
    NullSession,
    Phase,
    PhaseError,
    PhaseSpec,
    Pipeline,
    ProgressTracker,
    Session,
    current_session,
    open_tracker,
)

PIPELINE = Pipeline("research", [PhaseSpec("search", 3, aliases=("find",)), "analysis", "report"])
PACKAGE = Path(trio_progress.__file__).parent

BAD_NUMBERS: list[Any] = [math.nan, math.inf, -1, 2**53, "3", None, [], b"1"]
BAD_JSON: list[Any] = [math.nan, object(), {1: 2}, {"x": {1}}, 2**60, "x" * 20_000, [[[]] * 20_000]]
BAD_IDS: list[Any] = ["", "a b", "a/b", "..", ".", "ü", "x" * 129, None, 7, b"a", "a\n"]


def deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


BAD_CALLS: list[tuple[str, Callable[[Session, Phase, Any], object], list[Any]]] = [
    ("advance", lambda s, p, v: p.advance(v), BAD_NUMBERS),
    ("skip", lambda s, p, v: p.skip(v), BAD_NUMBERS),
    ("extend", lambda s, p, v: p.extend(v), BAD_NUMBERS),
    ("update done", lambda s, p, v: p.update(done=v), BAD_NUMBERS),
    ("update total", lambda s, p, v: p.update(total=v), [math.nan, -1, "3"]),
    ("update message", lambda s, p, v: p.update(message=v), [7, b"x", []]),
    ("update half good", lambda s, p, v: p.update(done=5, message=v), [7]),
    ("phase set", lambda s, p, v: p.set(good=1, x=v), [*BAD_JSON, deep(40)]),
    ("set", lambda s, p, v: s.set(good=1, x=v), BAD_JSON),
    ("too many fields", lambda s, p, v: s.set(**{f"f{n}": n for n in range(v)}), [101]),
    ("increment", lambda s, p, v: s.increment("n", v), [math.nan, math.inf, "3", None]),
    ("increment name", lambda s, p, v: s.increment(v), ["", 7, "a\nb", "x" * 300]),
    ("emit name", lambda s, p, v: s.emit(v), ["", 7, None, "a\x1bb"]),
    ("emit data", lambda s, p, v: s.emit("e", v), BAD_JSON),
    ("save", lambda s, p, v: s.save(v), [object(), math.nan, ["x" * 1000] * 2000]),
    ("result", lambda s, p, v: s.set_result(v), [object(), math.nan]),
    ("message", lambda s, p, v: s.update(message=v), [7, b"x"]),
    ("title", lambda s, p, v: s.update(title=v), [7, "x" * 300]),
    ("fail", lambda s, p, v: s.fail("x", v), [7, {"x": math.nan}]),
    ("skip_phase", lambda s, p, v: s.skip_phase(v), ["nobody", "search", 7, ""]),
    ("phase", lambda s, p, v: s.phase(v).__enter__(), ["nobody", "search", "find", 7, "", None]),
    ("phase total", lambda s, p, v: s.phase("report", total=v), [math.nan, -1, "3"]),
    ("phase weight", lambda s, p, v: s.phase("report", weight=v), [1, -1]),
    ("child weight", lambda s, p, v: p.phase("c", weight=v), [-1, math.nan, "1"]),
    ("child name", lambda s, p, v: p.phase(v), ["", 7, "a\nb"]),
    ("advance_to", lambda s, p, v: s.advance_to(v), ["nobody", 7, ""]),
]


@pytest.mark.parametrize(("name", "call", "values"), BAD_CALLS, ids=[name for name, _, _ in BAD_CALLS])
async def test_bad_input_raises_at_the_call_and_changes_nothing(
    name: str,
    call: Callable[[Session, Phase, Any], object],
    values: list[Any],
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_tracker() as tracker, tracker.session("a", PIPELINE) as session:
        with session.phase("search", total=9) as phase:
            phase.advance(2)
            before = session.snapshot()
            for value in values:
                with pytest.raises((ValueError, TypeError, PhaseError)) as caught:
                    call(session, phase, value)
                assert len(str(caught.value)) > 10
                assert session.snapshot() is before, f"{name} with {value!r:.50}"


@pytest.mark.parametrize(("name", "call", "values"), BAD_CALLS, ids=[name for name, _, _ in BAD_CALLS])
async def test_bad_input_never_hurts_the_work_where_the_tracker_is_not_strict(
    name: str,
    call: Callable[[Session, Phase, Any], object],
    values: list[Any],
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_tracker(strict=False) as tracker, tracker.session("a", PIPELINE) as session:
        with session.phase("search", total=9) as phase:
            phase.advance(2)
            before = session.snapshot()
            for value in values:
                call(session, phase, value)
            assert session.snapshot() is before
        assert tracker.statistics().refused == len(values)
    dropped = [record for record in caplog.records if "was dropped" in record.message]
    assert 1 <= len(dropped) <= 3


@pytest.mark.parametrize("bad", BAD_IDS, ids=repr)
async def test_a_bad_session_id_is_refused_everywhere(bad: Any, autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker:
        calls: list[Callable[[], Any]] = [lambda: tracker.watch(bad), lambda: tracker.subscribe(bad)]
        if bad is not None:
            calls.append(lambda: tracker.session(bad))
        for call in calls:
            with pytest.raises(ValueError, match="session id"):
                call()
        for method in (tracker.snapshot, tracker.cancel, tracker.delete, tracker.wait_ended, tracker.declare):
            with pytest.raises(ValueError, match="session id"):
                await method(bad)


@pytest.mark.parametrize(
    "settings",
    [
        {"persist_interval": 0}, {"broadcast_interval": -1}, {"heartbeat_interval": math.nan}, {"stall_after": 0},
        {"lost_after": 5}, {"flush_timeout": -1}, {"retention": "x"}, {"event_limit": 0}, {"limits": 3},
        {"no_such": 1}, {"limits": None},
    ],
    ids=repr,
)  # fmt: skip
async def test_bad_settings_are_refused(settings: dict[str, Any], autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises((ValueError, TypeError)):
        async with open_tracker(**settings):
            pass


@pytest.mark.parametrize("store", ["", "nothing:", "memory", 7, object()])
async def test_a_store_that_there_is_not_is_refused(store: Any, autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises((ValueError, TypeError), match="store"):
        async with open_tracker(store):
            pass


@pytest.mark.parametrize(
    "make",
    [
        lambda: Pipeline("", {"a": 1}), lambda: Pipeline("p", {}), lambda: Pipeline("p", {"a": 0}),
        lambda: Pipeline("p", {"a": -1}), lambda: Pipeline("p", {"a": math.nan}), lambda: Pipeline("p", "abc"),
        lambda: Pipeline("p", ["a", "a"]), lambda: Pipeline("p", [PhaseSpec("a", aliases=("b",)), "b"]),
        lambda: PhaseSpec("a", aliases="bc"),  # type: ignore[arg-type]
        lambda: PhaseSpec("a", stall_after=0), lambda: PhaseSpec("a", total=-1),
        lambda: PhaseSpec(""), lambda: Limits(phases=0), lambda: Limits(text=1.5),  # type: ignore[arg-type]
        lambda: MemoryStore(event_limit=0),
    ],
)  # fmt: skip
def test_what_is_declared_wrongly_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises((ValueError, TypeError)):
        make()


async def test_numbers_of_other_kinds_become_plain_ones(autojump_clock: trio.testing.MockClock) -> None:
    class Index:
        def __index__(self) -> int:
            return 3

    from fractions import Fraction

    async with open_tracker() as tracker, tracker.session("a", PIPELINE) as session:
        with session.phase("search", total=Index()) as phase:  # type: ignore[arg-type]
            phase.advance(Fraction(1, 2))
            phase.advance(Fraction(1, 2))
            session.set(cost=2.5)
            session.increment("n", Index())
            snapshot = session.snapshot()
    assert (snapshot.phase("search").done, snapshot.phase("search").total, snapshot.counters) == (1.0, 3, {"n": 3})


async def test_the_users_data_can_change_without_changing_ours(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker, tracker.session("a") as session:
        data = {"list": [1, 2]}
        session.set(x=data)
        session.save(data)
        session.set_result(data)
        before = session.snapshot()
        data["list"].append(3)
        assert before.fields == {"x": {"list": [1, 2]}}
        assert session.saved == session.snapshot().result == {"list": [1, 2]}


async def test_text_that_no_encoding_has_is_kept_readable(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker, tracker.session("a", title="file \udcff") as session:
        session.update(message="x" * 2000)
        session.emit("e", {"path": "\udcff"})
        await session.flush()
        snapshot = session.snapshot()
    assert snapshot.title == "file \\udcff"
    assert snapshot.message is not None
    assert len(snapshot.message) == Limits().message
    assert snapshot.message.endswith("…")


async def test_track_counts_an_item_once_its_body_is_done(autojump_clock: trio.testing.MockClock) -> None:
    async def numbers() -> Any:
        for number in range(3):
            await trio.sleep(0.1)
            yield number

    async with open_tracker() as tracker, tracker.session("a") as session:
        with session.phase("list") as phase:
            for number in phase.track([1, 2, 3]):
                assert phase.done == number - 1
            assert (phase.done, phase.total) == (3, 3)
        with session.phase("broken") as phase:
            for number in phase.track(range(10)):
                if number == 4:
                    break
            assert (phase.done, phase.total) == (4, 10)
        with session.phase("async") as phase:
            async for number in phase.track(numbers()):
                assert phase.done == number
            assert (phase.done, phase.total) == (3, None)


async def test_a_loop_over_tracked_items_can_be_left_at_any_time(autojump_clock: trio.testing.MockClock) -> None:
    send, receive = trio.open_memory_channel[int](10)
    for number in range(10):
        send.send_nowait(number)
    async with open_tracker() as tracker, tracker.session("a") as session:
        with session.phase("async") as phase:
            async for number in phase.track(receive):
                if number == 4:
                    break
            gc.collect()  # A generator that is left would warn of that here.
            with pytest.raises(ValueError, match="of the body"):
                async for _ in phase.track(receive):
                    raise ValueError("of the body")
            gc.collect()
            assert phase.done == 4
    send.close()
    receive.close()


async def test_a_child_is_got_at_by_its_parent_and_errors_say_how(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker, tracker.session("a") as session:
        with session.phase("fetch") as fetch, fetch.phase("site") as site:
            assert fetch.phases == {"site": site}
            with pytest.raises(PhaseError, match=r"use `session.phases\['fetch'\].phases\['site'\]` to count"):
                fetch.phase("site").__enter__()
            assert session.phases["fetch"].phases["site"] is site
        with pytest.raises(TypeError):
            fetch.phases["other"] = site  # type: ignore[index]


async def test_a_run_has_an_estimate_from_those_before_as_soon_as_it_begins(
    autojump_clock: trio.testing.MockClock,
) -> None:
    pipeline = Pipeline("nightly", {"a": 1, "b": 1})
    async with open_tracker() as tracker:
        async with tracker.session("first", pipeline) as session:
            for name, seconds in (("a", 10), ("b", 20)):
                with session.phase(name):
                    await trio.sleep(seconds)
        async with tracker.session("second", pipeline) as session:
            assert session.snapshot().eta == pytest.approx(30)


async def test_threads_lose_no_count() -> None:
    async with open_tracker() as tracker, tracker.session("a") as session:
        with session.phase("hash", total=40_000) as phase:
            tick = phase.from_thread()
            assert phase.from_thread() is tick

            def work() -> None:
                for _ in range(5000):
                    tick.advance()
                tick.update(message="one is done")

            async with trio.open_nursery() as nursery:
                for _ in range(8):
                    nursery.start_soon(trio.to_thread.run_sync, work)
                nursery.start_soon(trio.to_thread.run_sync, tick.advance, 7)
            for bad in (math.nan, -1, "x"):
                with pytest.raises((ValueError, TypeError)):
                    tick.advance(bad)  # type: ignore[arg-type]
        with pytest.raises(PhaseError, match="open phase only"):
            phase.from_thread()
        tick.advance(100)
    assert (phase.done, phase.message) == (40_007, "one is done")
    tick.advance()
    await trio.sleep(0.01)
    assert phase.done == 40_007
    assert tracker.statistics().late == 2


async def test_a_call_from_a_foreign_thread_is_told_what_to_use_and_changes_nothing() -> None:
    async with open_tracker() as tracker, tracker.session("a") as session:
        with session.phase("x") as phase:
            before = session.snapshot()
            caught: list[BaseException] = []

            def work(call: Callable[[], object]) -> None:
                try:
                    call()
                except RuntimeError as error:
                    caught.append(error)

            calls: list[Callable[[], object]] = [
                phase.advance,
                lambda: session.increment("n"),
                lambda: phase.phase("y").__enter__(),
            ]
            for call in calls:
                thread = threading.Thread(target=work, args=(call,))
                thread.start()
                await trio.to_thread.run_sync(thread.join)
            assert len(caught) == 3
            assert all("from_thread" in str(error) for error in caught)
            assert session.snapshot() == before


async def test_code_without_a_session_reports_to_nobody(autojump_clock: trio.testing.MockClock) -> None:
    session = current_session()
    assert isinstance(session, NullSession)
    with session.phase("x", total=3) as phase, phase.phase("y") as child:
        assert list(phase.track([1, 2])) == [1, 2]
        child.advance()
        phase.from_thread().advance()
        phase.set(x=1)
    session.advance_to("y").update(done=3)
    session.phases["z"].advance()
    session.increment("n")
    session.emit("e", 1)
    session.set(x=1)
    session.save({})
    session.set_result(1)
    session.fail("x")
    session.cancel()
    await session.flush()
    assert session.saved is None


def public(kind: type) -> Iterator[tuple[str, object]]:
    for name in dir(kind):
        if not name.startswith("_"):
            yield name, inspect.getattr_static(kind, name)


INTERNAL = {
    Session: {"body", "cancel_reason", "drain", "drop", "late", "persister", "state", "mark_dirty", "stop", "stopped"}
    | {"loop", "refuse_result", "ticker", "timed", "request_persist", "watched"},
    Phase: {"began", "begin", "changes", "declared", "depth", "ended", "finish", "fold", "folded", "folded_weight"}
    | {"fresh_snapshot", "marked", "parent", "refresh", "reset", "settle", "slow", "snapshot", "spent", "stall_after"}
    | {"exceeded", "loop_begins", "loop_ends", "loop_exceeds", "was_done"}
    | {"all_counted", "failing", "folded_free", "free", "reached", "started", "state", "v", "walk"}
    | {"elapsed", "started_after"},
}


@pytest.mark.parametrize(("real", "null"), [(Session, NullSession), (Phase, NullPhase)])
def test_the_null_session_has_every_name_of_the_real_one(real: type, null: type) -> None:
    wanted = {name for name, _ in public(real)} - INTERNAL[real]
    assert wanted <= {name for name, _ in public(null)} | {"phases"}
    for name, member in public(null):
        theirs = inspect.getattr_static(real, name)
        if inspect.isfunction(member) and inspect.isfunction(theirs):
            expected = [parameter for parameter in inspect.signature(theirs).parameters if parameter != "self"]
            parameters = inspect.signature(member).parameters
            given = [parameter for parameter in parameters if parameter != "self"]
            if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
                given, expected = given[:-1], expected[: len(given) - 1]
            assert given == expected, name


def imports(path: Path) -> set[str]:
    """The modules that a file names, with as many leading dots as it says."""
    found: set[str] = set()
    for node in statements(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or ""))
    return found


@pytest.mark.parametrize("path", sorted((PACKAGE / "state").glob("*.py")), ids=lambda path: path.name)
def test_the_state_is_pure(path: Path) -> None:
    for name in imports(path):
        assert name.partition(".")[0] not in {"trio", "threading", "logging", "asyncio", "os", "socket"}
        if name.startswith(".."):
            assert name == "..errors" or name == "..protocol" or name.startswith("..protocol.")


def test_modules_know_each_other_in_one_direction_only() -> None:
    known: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        if module.endswith("__init__"):
            continue
        above = module.split(".")
        for name in imports(path):
            if name.startswith("."):
                level = len(name) - len(name.lstrip("."))
                base = above[: len(above) - level]
                target = ".".join([*base, *filter(None, name.lstrip(".").split("."))])
                known.setdefault(module, set()).add(target)
    seen: dict[str, bool] = {}

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"a circle: {' -> '.join([*trail, module])}"
        if module not in seen:
            for target in known.get(module, ()):
                visit(target, (*trail, module))
            seen[module] = True

    for module in known:
        visit(module, ())


def test_the_logger_says_nothing_where_nobody_has_asked() -> None:
    assert any(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("trio_progress").handlers)


async def test_a_tracker_is_made_by_open_tracker_with_its_settings(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker(persist_interval=3) as tracker:
        assert isinstance(tracker, ProgressTracker)
        assert tracker.settings.persist_interval == 3


def test_trust_11_nothing_is_unpickled_and_nothing_evaluated() -> None:
    modules = {"pickle", "marshal", "shelve", "dill", "cloudpickle"}
    calls = {"eval", "exec", "compile", "__import__"}
    found = []
    for path in PACKAGE.rglob("*.py"):
        # Most files have none of these words, and need not be walked.
        if re.search(r"(?<![.\w])(" + "|".join(calls) + r")\s*\(", path.read_text(encoding="utf-8")):
            found += [
                f"{path.name}:{node.lineno}: {node.func.id}()"
                for node in ast.walk(tree(path))
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in calls
            ]
        found += [f"{path.name}: {name}" for name in imports(path) if name.partition(".")[0] in modules]
    assert found == []
