"""What is logged: in one shape, with nothing in it that obeys anybody else, and never in floods."""

from __future__ import annotations

import ast
import io
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

import trio_progress
from tests.source import tree
from tests.support import RecordingStore
from trio_progress import MemoryStore, Pipeline, SessionNotFoundError, open_tracker
from trio_progress.stores.base import Claim, Index
from trio_progress.telemetry.logs import BURST, FIELDS, LOG_INTERVAL, Throttle, escaped, log_event, logger
from trio_progress.telemetry.statistics import Tally
from trio_progress.tracker import runtime_of

PACKAGE = Path(trio_progress.__file__).parent
HOSTILE = "done\n2026-01-01 CRITICAL root: all is lost\r\x1b[2J\x1b]0;owned\x07 \u202egnp.exe \u2028 \x85 \ud800 \x00"
PLAIN = logging.Formatter(
    "%(levelname)s %(event)s %(session)s %(pipeline)s %(phase)s %(epoch)s %(seq)s %(status)s %(reason)s "
    "%(left_out)s: %(message)s"
)


class Lines:
    """What a log file would have."""

    def __init__(self) -> None:
        self.file = io.StringIO()

    @property
    def text(self) -> str:
        return self.file.getvalue()


@pytest.fixture
def lines() -> Iterator[Lines]:
    lines = Lines()
    handler = logging.StreamHandler(lines.file)
    handler.setFormatter(PLAIN)
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


def events(caplog: pytest.LogCaptureFixture, event: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if getattr(record, "event", None) == event]


async def test_a_handler_that_raises_hurts_nothing(autojump_clock: trio.testing.MockClock) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("the log server is away")

    handler = Broken()
    logger.addHandler(handler)
    try:
        store = RecordingStore()
        async with open_tracker(store) as tracker:
            store.mode = "down"
            with pytest.raises(ValueError, match="mine"):
                async with tracker.session("a") as session:
                    await trio.sleep(1)
                    store.mode = "up"
                    raise ValueError("mine")
            assert session.status == "failed"
        assert store.ends("a")
    finally:
        logger.removeHandler(handler)


def test_trust_10_nothing_that_others_wrote_begins_a_line_or_steers_a_terminal(lines: Lines) -> None:
    def fails() -> None:
        raise ValueError(HOSTILE)

    try:
        fails()
    except ValueError as error:
        log_event(
            logging.ERROR, "x", "%s and %r of %s", HOSTILE, HOSTILE, error, error=error, session=HOSTILE, reason=error
        )
    # Nor through a call that is not ours, as other modules of the package and of users may make it.
    logger.warning("%s", HOSTILE)
    logger.warning("%(what)s", {"what": HOSTILE})
    logger.warning("x", extra={"phase": HOSTILE})
    assert lines.text.count("all is lost") >= 7
    for line in lines.text.removesuffix("\n").split("\n"):
        assert line.isprintable(), line
        assert line.startswith(("ERROR x ", "WARNING None ", "  ")), line
    assert "in fails" in lines.text


def test_escaping_keeps_what_can_be_seen() -> None:
    assert escaped("Grüße, 世界 \\n") == "Grüße, 世界 \\n"
    assert escaped("a\nb\x1b\u202e\ud800") == "a\\nb\\x1b\\u202e\\ud800"
    assert not any(set(escaped(chr(code))) & {"\r", "\n", "\x1b"} for code in range(0x3000))


def test_every_record_has_every_field_and_tells_who_called(caplog: pytest.LogCaptureFixture) -> None:
    log_event(logging.WARNING, "late_update", "session %r", "a", session="a", epoch=7, status="running")
    logger.warning("from elsewhere")
    ours, theirs = caplog.records
    assert {name: getattr(ours, name) for name in FIELDS} == {
        "event": "late_update", "session": "a", "pipeline": None, "phase": None, "epoch": 7, "seq": None,
        "status": "running", "reason": None, "left_out": 0,
    }  # fmt: skip
    assert {getattr(theirs, name) for name in FIELDS} == {None}
    assert ours.getMessage() == "session 'a'"
    assert Path(ours.pathname).name == Path(__file__).name
    assert ours.funcName == test_every_record_has_every_field_and_tells_who_called.__name__


def test_fields_do_not_collide_with_what_logging_has_itself() -> None:
    record = logging.LogRecord("x", logging.INFO, "x", 1, "x", (), None)
    assert not set(FIELDS) & (set(vars(record)) | {"message", "asctime"})


def test_an_exception_whose_text_raises_does_not_harm(lines: Lines) -> None:
    class NastyError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    try:
        raise NastyError
    except NastyError as error:
        log_event(logging.ERROR, "session_failed", "%s: %s", "a", error, error=error, session="a", reason=error)
    assert lines.text.count("<unprintable NastyError>") == 2
    assert lines.text.count("\n  ") >= 2, "the traceback is there"


def test_the_first_goes_through_at_once_and_the_others_are_counted() -> None:
    now = 100.0
    throttle = Throttle(lambda: now)
    assert throttle.admit("a") == 0
    assert [throttle.admit("a") for _ in range(5)] == [None] * 5
    assert throttle.admit("b") == 0
    now += LOG_INTERVAL - 0.1
    assert throttle.admit("a") is None
    now += 0.1
    assert throttle.admit("a") == 6
    assert throttle.admit("a") is None
    now += LOG_INTERVAL
    assert throttle.admit("a") == 1
    assert throttle.admit("b") == 0


def test_several_of_a_kind_go_through_where_each_is_about_something_else() -> None:
    now = 0.0
    throttle = Throttle(lambda: now)
    assert [throttle.admit("a", 3) for _ in range(6)] == [0, 0, 0, None, None, None]
    now += LOG_INTERVAL
    assert [throttle.admit("a", 3) for _ in range(5)] == [3, 0, 0, None, None]


def test_what_was_left_out_is_told(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    throttle = Throttle(lambda: now)
    said = []
    for number in range(4):
        said.append(log_event(logging.WARNING, "store_down", "down: %s", number, throttle=throttle))
        now += LOG_INTERVAL / 2.5
    assert said == [True, False, False, True]
    assert [record.getMessage() for record in caplog.records] == ["down: 0", "down: 3 (2 more like it were left out)"]
    assert [record.left_out for record in caplog.records] == [0, 2]  # type: ignore[attr-defined]


def test_only_one_module_makes_records() -> None:
    """So that the shape, the escaping and the throttle are everybody's."""
    names = set()
    for path in PACKAGE.rglob("*.py"):
        if "getLogger" not in path.read_text(encoding="utf-8"):
            continue
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("getLogger"):
                names.add(ast.unparse(node.args[0]))
    assert names == {"'trio_progress'"}, "the filter belongs to the logger of that very name"


# Where it could flood


async def test_pain_8_a_store_that_flaps_is_told_once_down_and_once_up(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture, exhaustive: bool
) -> None:
    times = 100 if exhaustive else 30
    caplog.set_level(logging.INFO)
    store = RecordingStore()
    async with open_tracker(store) as tracker, tracker.session("a") as session:
        for _ in range(times):
            session.increment("n")
            store.mode = "down"
            await trio.sleep(5)
            store.mode = "up"
            await trio.sleep(5)
        assert tracker.statistics().persists_failed > 2 * times
    (down,) = events(caplog, "store_down")
    assert down.reason == "connection refused"  # type: ignore[attr-defined]
    assert len(events(caplog, "store_up")) == 1
    assert len(events(caplog, "store_not_read")) <= 1


async def test_late_updates_of_many_sessions_are_told_once_and_all_counted(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_tracker(strict=False) as tracker:
        for number in range(50):
            async with tracker.session(f"s-{number}", Pipeline("p", ["x"])) as session:
                with session.phase("x") as phase:
                    phase.advance(-1)
                phase.advance()
                phase.advance()
        statistics = tracker.statistics()
    assert (statistics.late, statistics.refused) == (100, 50)
    (late,) = events(caplog, "late_update")
    fields = (late.session, late.phase, late.reason)  # type: ignore[attr-defined]
    assert fields == ("s-0", "x", "advance()")
    assert len(events(caplog, "call_dropped")) == 1


async def test_a_dropped_call_of_another_kind_is_told_at_once_and_one_of_the_same_kind_later(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    now = 0.0
    async with open_tracker(strict=False) as tracker:
        runtime_of(tracker).tally.throttle = Throttle(lambda: now)
        async with tracker.session("first") as session:
            with session.phase("x") as phase:
                phase.advance(-1)
        async with tracker.session("second") as session:
            session.set_result({"when": object()})
            with session.phase("x") as phase:
                phase.advance(-1)
                assert [record.session for record in events(caplog, "call_dropped")] == ["first", "second"]  # type: ignore[attr-defined]
                now += LOG_INTERVAL
                phase.advance(-1)
                phase.advance(-1)
    told = [(record.session, record.left_out) for record in events(caplog, "call_dropped")]  # type: ignore[attr-defined]
    assert told == [("first", 0), ("second", 0), ("second", 1)]


async def test_trust_11_a_poisoned_entry_is_counted_logged_and_skipped(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryStore()
    claims = [
        Claim(f"bad-{n}", n + 1, "somebody", b"{", Index("completed", None, {}, float(n)), None, 1000.0)
        for n in range(30)
    ]
    await store.commit(claims)
    async with open_tracker(store) as tracker:
        async with tracker.session("good"):
            pass
        for _ in range(3):
            assert [snapshot.id for snapshot in await tracker.sessions()] == ["good"]
        assert tracker.statistics().unreadable == 90
        with pytest.raises(SessionNotFoundError):
            await tracker.snapshot("nobody")
    told = events(caplog, "entry_unreadable")
    assert len(told) == BURST, "some of them by name"
    assert told[0].session == "bad-29"  # type: ignore[attr-defined]


async def test_a_failed_session_is_told_with_all_that_is_known_of_it(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(KeyError):
        async with open_tracker() as tracker, tracker.session("a", Pipeline("research", ["x"])) as session:
            raise KeyError("key=s3cret")
    (record,) = events(caplog, "session_failed")
    known = (record.session, record.pipeline, record.epoch, record.status)  # type: ignore[attr-defined]
    assert known == ("a", "research", session.epoch, "failed")
    assert record.reason == "KeyError"  # type: ignore[attr-defined]
    assert record.exc_info is not None, "for those who collect exceptions"
    assert "s3cret" in (record.exc_text or "")


def test_a_tally_counts_and_throttles_on_its_own(caplog: pytest.LogCaptureFixture) -> None:
    for tally in (Tally(), Tally()):
        for _ in range(3):
            tally.pass_over("a", ValueError("x"))
        assert tally.unreadable == 3
    assert len(events(caplog, "entry_unreadable")) == 6
