"""`show --timeline`, `--explain` and `--perfetto`: when each phase ran, what was expected of it, and a trace."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from trio_progress import Expected, PhaseSnapshot, Pipeline, Snapshot
from trio_progress.blocking import Client
from trio_progress.cli import exit_codes, main
from trio_progress.cli.explain_page import explain_page
from trio_progress.cli.output import Stdout
from trio_progress.cli.perfetto import trace
from trio_progress.cli.timeline import ROWS, timeline, timeline_page
from trio_progress.terminal.cells import cells
from trio_progress.terminal.symbols import ASCII, UNICODE

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
BEGAN = NOW - timedelta(seconds=100)
EVIL = "\x1b[2Jevil\n\u202e"


def stdout(width: int = 100, *, plain: bool = False) -> Stdout:
    return Stdout(terminal=True, width=width, symbols=ASCII if plain else UNICODE, colours=False)


def phase(name: str, begin: float | None, lasted: float | None = None, **values: Any) -> PhaseSnapshot:
    """A phase that began so many seconds after the session; it still runs unless it `lasted`."""
    status = "pending" if begin is None else "running" if lasted is None else "completed"
    given: dict[str, Any] = {
        "title": name, "status": status, "attempt": 1, "done": 0, "total": None, "unit": None, "weight": 1.0,
        "fraction": None, "rate": None, "eta": None, "message": None, "fields": {}, "started_after": begin,
        "started_at": None if begin is None else BEGAN + timedelta(seconds=begin), "elapsed": lasted,
        "ended_at": None if begin is None or lasted is None else BEGAN + timedelta(seconds=begin + lasted),
    }  # fmt: skip
    return PhaseSnapshot(name=name, **(given | values))


def session(*phases: PhaseSnapshot, **values: Any) -> Snapshot:
    given: dict[str, Any] = {
        "pipeline": "research", "title": "A title", "labels": {}, "epoch": 1, "seq": 1, "attempt": 1,
        "status": "running", "liveness": "ok", "progress": 0.45, "raw": 0.45, "eta": None, "message": None,
        "counters": {}, "fields": {}, "result": None, "error": None, "queued_at": BEGAN, "started_at": BEGAN,
        "progressed_at": NOW, "heartbeat_at": NOW, "ended_at": None, "elapsed": 100.0,
    }  # fmt: skip
    return Snapshot(id="r-42", phases=phases, **(given | values))


def usual(seconds: float, source: Any = "usual") -> Expected:
    return Expected(seconds=seconds, source=source, runs=3)


def spans(snapshot: Snapshot) -> list[tuple[str, float | None, float | None, tuple[float, float] | None]]:
    return [(row.phase.name, row.begin, row.end, row.usual) for row in timeline(snapshot, NOW.timestamp())]


# The rows


def test_each_phase_lies_where_it_ran_and_what_waits_behind_what_is_before_it() -> None:
    state = session(
        phase("search", 0.0, 40.0, phases=(phase("a", 0.0, 30.0), phase("b", 10.0, 30.0))),
        phase("check", 20.0, 30.0, expected=usual(25)),
        phase("read", 50.0, expected=usual(80)),
        phase("skip", None, status="skipped", expected=usual(5)),
        phase("report", None, expected=usual(10)),
        phase("mail", None, expected=usual(20)),
        phase("other", None),
    )
    assert spans(state) == [
        ("search", 0, 40, None),
        ("a", 0, 30, None),
        ("b", 10, 40, None),
        ("check", 20, 50, (20, 45)),
        ("read", 50, 100, (50, 130)),
        ("skip", None, None, None),
        ("report", None, None, (130, 140)),
        ("mail", None, None, (140, 160)),
        ("other", None, None, None),
    ]


def test_what_waits_behind_what_is_overdue_begins_now_at_the_earliest() -> None:
    state = session(phase("read", 50.0, expected=usual(10)), phase("report", None, expected=usual(10)))
    assert spans(state)[1] == ("report", None, None, (100, 110))


def test_what_has_ended_has_no_future() -> None:
    state = session(phase("report", None, expected=usual(10)), status="cancelled", ended_at=NOW)
    assert spans(state) == [("report", None, None, None)]


def test_phases_of_an_earlier_attempt_lie_before_this_one() -> None:
    before = phase("search", 0.0, 40.0, started_after=None, started_at=BEGAN - timedelta(seconds=300))
    assert spans(session(before, attempt=2)) == [("search", -300, -260, None)]


# show --timeline


def test_the_timeline_shows_what_ran_together_side_by_side_and_what_is_usual() -> None:
    state = session(
        phase("search", 0.0, 40.0),
        phase("check", 20.0, 30.0, status="failed", expected=usual(60)),
        phase("skip", None, status="skipped"),
        phase("read", 50.0),
    )
    assert timeline_page(state, NOW.timestamp(), stdout(61, plain=True)) == [
        "          0s                                1m 40s",
        "+ search  ################                                40s",
        "x check           ############------------                30s",
        "> skip                                                skipped",
        "> read                        ####################        50s",
        "",
        "  ### ran   --- usual",
    ]


@pytest.mark.parametrize("width", [1, 4, 10, 25, 80, 200])
def test_the_timeline_is_never_wider_than_the_terminal_and_obeys_nobody(width: int) -> None:
    many = [phase(f"{EVIL} {number}", number / 10, 0.0) for number in range(ROWS + 9)]
    state = session(phase(EVIL, 0.0, phases=tuple(many), expected=usual(1e6)), phase("", None, expected=usual(1e-9)))
    lines = timeline_page(state, NOW.timestamp(), stdout(width))
    assert len(lines) <= ROWS + 3
    for line in lines:
        assert line.isprintable()
        assert cells(line) <= max(width, 24)
    assert timeline_page(session(), NOW.timestamp(), stdout(width)) == ["r-42: no phases yet"]


# show --explain


def test_each_phase_says_what_was_expected_of_it_and_from_what() -> None:
    by_units = Expected(seconds=62.4, source="unit", runs=5, unit_seconds=0.2, count=312)
    state = session(
        phase("search", 0.0, 40.0, expected=usual(70)),
        phase("read", 50.0, unit="pages", eta=30.0, fraction=0.5, expected=by_units),
        phase("late", 10.0, expected=usual(12, "given")),
        phase("report", None, expected=usual(4, "weight")),
        phase("other", None),
        eta=200.0,
        eta_range=(130.0, 540.0),
        published_at=NOW,
    )
    lines = [" ".join(line.split()) for line in explain_page(state, NOW.timestamp(), stdout())]
    assert lines == [
        "r-42 running 45 % 1m 40s about 2 to 9 min left",
        "it ends in 2m 10s to 9m 00s, as far as earlier runs tell: so it was four times of five",
        "",
        "PHASE EXPECTED SO FAR LEFT",
        "search usually 1m 10s over 3 runs 40s",
        "read 1m 02s: 0.2 s a page x 312, over 5 runs 50s 30s",
        "late 12s, as the pipeline says 1m 30s longer than usual (90 s so far, usually 12)",
        "report 4s, by its weight",
        "other not known",
    ]


def test_a_first_run_says_that_nothing_is_known() -> None:
    lines = explain_page(session(phase("search", 0.0)), NOW.timestamp(), stdout())
    assert "nothing is known of earlier runs" in lines[1]


# show --perfetto


def check_trace(made: dict[str, Any]) -> list[dict[str, Any]]:
    """Holds a trace against the Trace Event Format: what each kind of event must have, and that lanes only nest."""
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    assert made.keys() == {"displayTimeUnit", "otherData", "traceEvents"}
    assert made["displayTimeUnit"] in ("ms", "ns")
    assert isinstance(made["otherData"], dict)
    events: list[dict[str, Any]] = made["traceEvents"]
    lanes: dict[int, list[tuple[float, float]]] = {}
    for event in events:
        assert isinstance(event["name"], str)
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        assert isinstance(event["args"], dict)
        common = {"name", "ph", "pid", "tid", "args"}
        own = {"M": set(), "i": {"cat", "ts", "s"}, "X": {"cat", "ts", "dur"}}
        assert event.keys() == common | own[event["ph"]]
        assert all(type(event[number]) in (int, float) for number in ("ts", "dur") if number in event)
        assert isinstance(event.get("cat", ""), str)
        if event["ph"] == "M":
            assert event["name"] in ("process_name", "thread_name", "thread_sort_index")
            ((kind, value),) = event["args"].items()
            ordering = event["name"] == "thread_sort_index"
            assert (kind, type(value)) == (("sort_index", int) if ordering else ("name", str))
        elif event["ph"] == "i":
            assert event["s"] == "t"
            assert event["ts"] >= 0
        else:
            assert event["ph"] == "X"
            assert event["ts"] >= 0
            assert event["dur"] >= 0
            lanes.setdefault(event["tid"], []).append((event["ts"], event["ts"] + event["dur"]))
    named = [event["tid"] for event in events if event["name"] == "thread_name"]
    assert sorted(named) == sorted({event["tid"] for event in events}), "each lane has one name"
    for lane in lanes.values():
        for number, (begin, end) in enumerate(lane):
            for first, last in lane[:number]:
                assert end <= first or last <= begin or (first <= begin and end <= last), lane
    return events


def test_a_trace_is_one_that_perfetto_opens() -> None:
    state = session(
        phase("before", 0.0, 40.0, started_after=None, started_at=BEGAN - timedelta(seconds=300)),
        phase("search", 0.0, 40.0, phases=(phase("a", 0.0, 30.0), phase("b", 10.0, 30.0), phase("c", 35.0, 2.0))),
        phase("skip", None, status="skipped"),
        phase("read", 50.0, total=7, unit="pages", expected=usual(80)),
        phase("other", None),
    )
    events = check_trace(trace(state, NOW.timestamp()))
    spans = {event["name"]: (event["tid"], event["ts"], event["dur"]) for event in events if event["ph"] == "X"}
    assert spans == {
        "A title": (0, 0, 400e6),
        "before": (1, 0, 40e6),
        "search": (2, 300e6, 40e6),
        "a": (2, 300e6, 30e6),
        "b": (3, 310e6, 30e6),
        "c": (2, 335e6, 2e6),
        "read": (5, 350e6, 50e6),
    }
    assert [event["tid"] for event in events if event["ph"] == "i"] == [4]
    (read,) = (event for event in events if event["name"] == "read" and event["ph"] == "X")
    facts = {"status": "running", "attempt": 1, "done": 0, "total": 7, "unit": "pages", "expected_seconds": 80}
    assert read["args"] == facts
    check_trace(trace(session(), NOW.timestamp()))
    check_trace(trace(session(started_at=None, status="queued", elapsed=None), NOW.timestamp()))


# On a store

KEPT: Final = Pipeline("research", {"search": 3, "report": 1})


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:{tmp_path / 'progress.db'}"
    with Client(url) as client:
        client.declare("r-1", KEPT)
    monkeypatch.setenv("TRIO_PROGRESS_STORE", url)


@pytest.mark.usefixtures("store")
def test_show_writes_a_trace_to_a_file_or_to_standard_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", "r-1", "--perfetto", "-"]) == exit_codes.OK
    check_trace(json.loads(capsys.readouterr().out))
    file = tmp_path / "trace.json"
    assert main(["show", "r-1", "--perfetto", str(file)]) == exit_codes.OK
    check_trace(json.loads(file.read_text("utf-8")))
    assert "ui.perfetto.dev" in capsys.readouterr().err
    assert main(["show", "r-1", "--perfetto", str(tmp_path)]) == exit_codes.NOTHING
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.usefixtures("store")
def test_show_has_one_of_its_forms_at_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "r-1", "--timeline"]) == exit_codes.OK
    assert "search" in capsys.readouterr().out
    assert main(["show", "r-1", "--explain"]) == exit_codes.OK
    assert "nothing is known of earlier runs" in capsys.readouterr().out
    assert main(["show", "r-9", "--explain"]) == exit_codes.NOT_FOUND
    with pytest.raises(SystemExit) as wrong:
        main(["show", "r-1", "--timeline", "--json"])
    assert wrong.value.code == exit_codes.USAGE
