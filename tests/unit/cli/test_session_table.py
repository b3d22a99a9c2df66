"""Tables, times and pages of the command line: pure functions, and never wider than they are told to be."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support import Seeds
from trio_progress import ErrorInfo, PhaseSnapshot, Snapshot
from trio_progress.cli.output import Stdout
from trio_progress.cli.session_page import session_page
from trio_progress.cli.session_table import Column, session_table, table
from trio_progress.terminal.cells import cells, cut
from trio_progress.terminal.symbols import ASCII, UNICODE
from trio_progress.terminal.words import ago

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


def stdout(width: int, *, colours: bool = False) -> Stdout:
    return Stdout(terminal=True, width=width, symbols=UNICODE, colours=colours)


def phase(name: str, **values: Any) -> PhaseSnapshot:
    given: dict[str, Any] = {
        "title": name, "status": "running", "attempt": 1, "done": 3, "total": 10, "unit": "pages", "weight": 1.0,
        "fraction": 0.3, "rate": 1.5, "eta": 5.0, "message": None, "fields": {},
        "started_at": NOW - timedelta(seconds=9), "ended_at": None,
    }  # fmt: skip
    return PhaseSnapshot(name=name, **(given | values))


def snapshot(session_id: str = "r-42", **values: Any) -> Snapshot:
    given: dict[str, Any] = {
        "pipeline": "research", "title": "A title", "labels": {"user": "u1"}, "epoch": 1, "seq": 1, "attempt": 1,
        "status": "running", "liveness": "ok", "progress": 0.45, "raw": 0.45, "eta": 12.0, "message": None,
        "counters": {}, "fields": {}, "result": None, "error": None, "queued_at": NOW - timedelta(minutes=3),
        "started_at": NOW - timedelta(minutes=3), "progressed_at": NOW, "heartbeat_at": NOW, "ended_at": None,
        "phases": (),
    }  # fmt: skip
    return Snapshot(id=session_id, **(given | values))


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "now"),
        (-2, "now"),
        (1, "1 s ago"),
        (59.9, "59 s ago"),
        (60, "1 min ago"),
        (3599, "59 min ago"),
        (3600, "1 h ago"),
        (86399, "23 h ago"),
        (86400, "1 day ago"),
        (6.9 * 86400, "6 days ago"),
    ],
)
def test_a_moment_is_told_by_how_long_ago_it_was(seconds: float, said: str) -> None:
    assert ago(NOW - timedelta(seconds=seconds), NOW.timestamp()) == said


def test_what_is_long_ago_or_yet_to_come_is_told_by_its_date() -> None:
    for days in (8, 400, -1):
        moment = NOW - timedelta(days=days)
        assert ago(moment, NOW.timestamp()) == f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"
    assert ago(None, NOW.timestamp()) == "-"
    for edge in (datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)):
        assert ago(edge, NOW.timestamp()).startswith(("9999-12-31", "0001-01-01"))


def test_text_is_measured_and_cut_in_columns_of_the_terminal() -> None:
    assert cells("文字 a\u0301") == 6
    assert cut("abcdef", 6) == "abcdef"
    assert cut("abcdef", 4) == "abc…"
    assert cut("文字文字", 4) == "文…"
    assert cut("abc", 1) == "…"
    assert cut("abc", 0) == ""
    assert cut("abcdef", 4, "~") == "abc~"


def test_a_table_leaves_columns_out_from_the_least_important_and_cuts_those_that_may_be_cut() -> None:
    columns = [Column("ID"), Column("STATUS", 1), Column("TITLE", 2, least=8), Column("LABELS", 3)]
    rows = [("r-1", "running", "A rather long title of a session", "user=u1"), ("r-22", "lost", "B", "")]
    assert table(columns, rows, 100) == [
        "ID    STATUS   TITLE                             LABELS",
        "r-1   running  A rather long title of a session  user=u1",
        "r-22  lost     B",
    ]
    assert table(columns, rows, 40)[1] == "r-1   running  A rather long t…  user=u1"
    assert table(columns, rows, 25)[1] == "r-1   running  A rather…"
    assert table(columns, rows, 20) == ["ID    STATUS", "r-1   running", "r-22  lost"]
    assert table(columns, rows, 10) == ["ID", "r-1", "r-22"]
    assert table(columns, rows, 3) == ["ID", "r-1", "r-…"]
    assert table(columns, [("r-1", "x", "", "")], 100) == ["ID   STATUS", "r-1  x"]


def test_no_line_is_wider_than_the_terminal_and_none_can_act_on_it(
    seeds: Seeds,
) -> None:
    for seed in seeds(60, exhaustive=300):
        rng = random.Random(seed)

        def text(rng: random.Random = rng, most: int = 60) -> str:
            pieces = ["a", "long word", "文字", "\x1b[2J", "\n", "\u202e", "é", "\ud800", "\x9b1m", "\t"]
            return "".join(rng.choice(pieces) for _ in range(rng.randrange(most)))

        def tree(depth: int, rng: random.Random = rng) -> tuple[PhaseSnapshot, ...]:
            return tuple(
                phase(
                    f"p{number}",
                    title=text(),
                    message=rng.choice([None, text()]),
                    unit=rng.choice([None, text(rng, 5)]),
                    status=rng.choice(["pending", "running", "completed", "failed", "cancelled", "skipped"]),
                    fraction=rng.choice([None, 0.0, 0.5, 1.0, 1e300, -1.0]),
                    phases=tree(depth - 1) if depth else (),
                )
                for number in range(rng.randrange(4))
            )

        one = snapshot(
            title=text(),
            labels={"user": text()},
            status=rng.choice(["queued", "running", "completed", "failed", "timed_out", "lost"]),
            liveness=rng.choice(["ok", "stalled", "lost"]),
            progress=rng.choice([0.0, 0.999, 1.0, 1e300]),
            message=text(),
            error=rng.choice([None, ErrorInfo(type="E", message=text(), details={"x": text()})]),
            counters={text() or "n": 3, "m": 1.5},
            fields={text() or "f": text(), "list": [text()]},
            result=rng.choice([None, {"report": text(), "more": list(range(50))}]),
            phases=tree(3),
        )
        width = rng.randrange(20, 160)
        for lines in (session_table([one, snapshot("r-1")], NOW.timestamp(), stdout(width)),
                      session_page(one, NOW.timestamp(), stdout(width))):  # fmt: skip
            for line in lines:
                assert cells(line) <= width, (width, line)
                assert all(character.isprintable() or character in "\u200c\u200d" for character in line), line


def test_the_list_says_how_each_session_stands() -> None:
    lines = session_table(
        [
            snapshot("r-1", title="r-1", eta=30.0),
            snapshot("r-2", status="timed_out", ended_at=NOW - timedelta(minutes=1), title="Two"),
            snapshot("r-3", status="queued", started_at=None, progress=0.0, labels={}),
            snapshot("r-4", liveness="stalled"),
            snapshot("r-5", status="lost", liveness="lost", heartbeat_at=NOW - timedelta(minutes=1)),
        ],
        NOW.timestamp(),
        stdout(100),
    )
    assert [" ".join(line.split()) for line in lines] == [
        "ID STATUS DONE BEGUN TOOK LEFT TITLE LABELS",
        "r-1 running 45 % 3 min ago 3m 00s 30s user=u1",
        "r-2 timed out 45 % 3 min ago 2m 00s Two user=u1",
        "r-3 queued 0 % 3 min ago A title",
        "r-4 stalled 45 % 3 min ago 3m 00s A title user=u1",
        "r-5 lost 45 % 3 min ago 2m 00s A title user=u1",
    ]


def test_colours_are_there_only_where_they_are_wanted_and_take_no_room() -> None:
    plain = session_table([snapshot(status="failed")], NOW.timestamp(), stdout(80))
    coloured = session_table([snapshot(status="failed")], NOW.timestamp(), stdout(80, colours=True))
    assert not any("\x1b" in line for line in plain)
    assert "\x1b[1;31mfailed\x1b[0m" in coloured[1]
    assert coloured[1].replace("\x1b[1;31m", "").replace("\x1b[0m", "") == plain[1]
    assert stdout(80, colours=True).paint("x", "") == "x"


def test_a_session_is_shown_with_all_that_is_known_of_it() -> None:
    one = snapshot(
        status="failed",
        liveness="ok",
        attempt=2,
        message="page 7",
        error=ErrorInfo(type="ValueError", message="no such page", details={"page": 7}),
        ended_at=NOW,
        counters={"sources_found": 1234},
        fields={"model": "small", "flag": True, "list": [1]},
        result={"report": "done"},
        events=3,
        phases=(
            phase("search", status="completed", fraction=1.0, phases=(phase("site-1", status="failed", attempt=2),)),
            phase("write", status="pending", fraction=0.0, started_at=None),
        ),
    )
    text = "\n".join(" ".join(line.split()) for line in session_page(one, NOW.timestamp(), stdout(120)))
    for said in (
        "r-42 failed 45 %",
        "A title",
        "message page 7",
        "error ValueError: no such page",
        'details {"page": 7}',
        "labels user=u1",
        "attempt 2",
        "took 3m 00s",
        "✔ search ━",
        "✘ site-1 ",
        "attempt 2 failed",
        "sources found 1,234",
        "model small",
        "flag true",
        "list [1]",
        '"report": "done"',
    ):
        assert said in text, said


def test_what_stalls_is_shown_with_no_speed_and_nothing_left() -> None:
    working = phase("search", total=400, done=80, rate=4.0, eta=80.0)

    def shown(liveness: str) -> str:
        one = snapshot(eta=120.0, liveness=liveness, phases=(working,))
        return "\n".join(session_page(one, NOW.timestamp(), stdout(120)))

    assert "ETA 2m 00s" in shown("ok")
    assert "80/400 pages  4/s" in shown("ok")
    assert "ETA 1m 20s" in shown("ok")
    for liveness in ("stalled", "lost"):
        assert "80/400 pages" in shown(liveness)
        assert "/s" not in shown(liveness)
        assert "ETA" not in shown(liveness)


def test_a_pipe_is_given_whole_lines() -> None:
    long = snapshot(message="word " * 60)
    piped = Stdout(terminal=False, width=40, symbols=ASCII, colours=False)
    assert any(len(line) > 200 for line in session_page(long, NOW.timestamp(), piped))
    assert all(line.isascii() for line in session_page(long, NOW.timestamp(), piped))


def test_the_parts_of_a_session_stand_below_it_oldest_first_whatever_the_list_is() -> None:
    listed = [
        snapshot("new"),
        snapshot("s-2", parent="job"),
        snapshot("s-1-a", parent="s-1"),
        snapshot("s-1", parent="job"),
        snapshot("lone", parent="elsewhere"),
        snapshot("job"),
        snapshot("x", parent="y"),
        snapshot("y", parent="x"),
    ]
    lines = session_table(listed, NOW.timestamp(), stdout(200))
    assert [line.split("running")[0].rstrip() for line in lines[1:]] == [
        "new",
        "lone",
        "job",
        "  s-1",
        "    s-1-a",
        "  s-2",
        "x",
        "  y",
    ]


def test_the_status_of_a_part_is_painted_as_its_own() -> None:
    listed = [snapshot("part", parent="job", status="failed"), snapshot("job")]
    job, part = session_table(listed, NOW.timestamp(), stdout(200, colours=True))[1:]
    (alone,) = session_table([snapshot("  part", status="failed")], NOW.timestamp(), stdout(200, colours=True))[1:]
    assert part[: part.index("failed")] == alone[: alone.index("failed")] != job[: job.index("running")]
