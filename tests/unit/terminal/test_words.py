"""Figures as people read them, alike in the display, in plain lines, `ls` and `show`: bytes, and what is left."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from trio_progress import Expected, PhaseSnapshot, Snapshot
from trio_progress.cli.output import Stdout
from trio_progress.cli.session_page import session_page
from trio_progress.cli.session_table import session_table
from trio_progress.protocol.outlook import outlook_at
from trio_progress.terminal import words
from trio_progress.terminal.layout import Frame, View, draw
from trio_progress.terminal.plain_lines import line
from trio_progress.terminal.symbols import UNICODE

ROOT: Final = Path(__file__).resolve().parents[3]

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


def phase(**values: Any) -> PhaseSnapshot:
    given: dict[str, Any] = {
        "name": "fetch", "title": "fetch", "status": "running", "attempt": 1, "done": 0, "total": None, "unit": "B",
        "weight": 1.0, "fraction": 0.3, "rate": None, "eta": None, "message": None, "fields": {}, "started_at": NOW,
        "ended_at": None,
    }  # fmt: skip
    return PhaseSnapshot(**(given | values))


def snapshot(*phases: PhaseSnapshot, **values: Any) -> Snapshot:
    given: dict[str, Any] = {
        "id": "r", "pipeline": None, "title": "download", "labels": {}, "epoch": 1, "seq": 1, "attempt": 1,
        "status": "running", "liveness": "ok", "progress": 0.3, "raw": 0.3, "eta": None, "message": None,
        "counters": {}, "fields": {}, "result": None, "error": None, "queued_at": NOW, "started_at": NOW,
        "progressed_at": NOW, "heartbeat_at": NOW, "ended_at": None, "phases": phases,
    }  # fmt: skip
    return Snapshot(**(given | values))


@pytest.mark.parametrize(
    ("done", "total", "unit", "said"),
    [
        (1.25e9, 3.4e9, "B", "1.3/3.4 GB"),
        (512e6, 3.4e9, "B", "512 MB/3.4 GB"),
        (0, 3.4e9, "B", "0/3.4 GB"),
        (17, 999, "B", "17/999 B"),
        (999.6, None, "B", "1 kB"),
        (999_949, None, "B", "1 MB"),
        (123.46e12, None, "B", "123 TB"),
        (1e27, None, "B", "1,000 YB"),
        (1.5 * 2**20, 2**30, "iB", "1.5 MiB/1 GiB"),
        (1023, None, "iB", "1,023 B"),
        (1_288_490_188, 3_650_722_201, "bytes", "1,288,490,188/3,650,722,201 bytes"),
        (0, None, "B", ""),
    ],
)
def test_counts_of_bytes_are_scaled_and_no_others(done: float, total: float | None, unit: str, said: str) -> None:
    assert words.count(phase(done=done, total=total, unit=unit)) == said


@pytest.mark.parametrize(
    ("rate", "unit", "said"),
    [
        (12e6, "B", "12 MB/s"),
        (1536, "iB", "1.5 KiB/s"),
        (12.345, "pages", "12.3/s"),
        (None, "B", ""),
        (0.5, "B", "0.5 B/s"),
    ],
)
def test_rates_of_bytes_are_scaled_and_no_others(rate: float | None, unit: str, said: str) -> None:
    assert words.rate(phase(rate=rate, unit=unit)) == said


def test_bytes_read_alike_in_the_display_in_plain_lines_and_in_the_page_of_a_session() -> None:
    state = snapshot(phase(done=1.2e9, total=3.4e9, rate=12e6))
    shown = [
        "\n".join(text.plain for text in draw([View(state)], Frame(120, 20, NOW.timestamp()))),
        line(state),
        "\n".join(session_page(state, NOW.timestamp(), Stdout(True, 120, UNICODE, False))),
    ]
    for text in shown:
        assert "1.2/3.4 GB" in text
        assert "12 MB/s" in text


CASES: Final = json.loads((ROOT / "tests" / "browser" / "time_left.json").read_text("utf-8"))
"""What the page's `words.js` says as well."""


@pytest.mark.parametrize("case", CASES["left"], ids=str)
def test_what_is_left_has_a_figure_a_range_or_a_word(case: dict[str, Any]) -> None:
    longer = None if case["longer"] is None else words.Longer(*case["longer"])
    assert words.left(case["eta"], case["range"], longer) == case["said"]


@pytest.mark.parametrize("case", CASES["expected"], ids=lambda case: str(case["said"]))
def test_what_was_expected_is_explained(case: dict[str, Any]) -> None:
    known = None if case["expected"] is None else msgspec.convert(case["expected"], Expected)
    assert words.expected(phase(unit=case["unit"], expected=known)) == case["said"]


@pytest.mark.parametrize("case", CASES["counted"], ids=str)
def test_what_is_left_counts_down_as_on_the_page(case: dict[str, Any]) -> None:
    between = None if case["range"] is None else tuple(case["range"])
    state = snapshot(eta=case["eta"], eta_range=between, liveness=case["liveness"], published_at=NOW)
    outlook = outlook_at(state, NOW.timestamp() + case["passed"])
    shown = (outlook.eta, *(outlook.eta_range or (None, None)))
    assert shown == tuple(None if value is None else pytest.approx(value) for value in case["shown"])


USUAL: Final = Expected(seconds=60, source="usual", runs=3)


def everywhere(state: Snapshot, after: float) -> dict[str, str]:
    """A state as it is shown `after` seconds, wherever it is."""
    now = NOW.timestamp() + after
    stdout = Stdout(True, 160, UNICODE, False)
    return {
        "display": "\n".join(text.plain for text in draw([View(state)], Frame(160, 20, now))),
        "line": line(state, now=now),
        "show": "\n".join(session_page(state, now, stdout)),
        "ls": "\n".join(session_table([state], now, stdout)),
    }


def test_what_is_left_counts_down_wherever_it_is_shown() -> None:
    state = snapshot(progress=0.5, eta=130, eta_range=(110, 160), published_at=NOW)
    for where, text in everywhere(state, 0).items():
        assert "2m 10s" in text, where
        assert "50 %" in text, where
    for where, text in everywhere(state, 65).items():
        assert "1m 05s" in text, where
        assert "50 %" in text, where  # The bar goes on when its owner says so, or it would go back.
    for where, text in everywhere(msgspec.structs.replace(state, liveness="stalled"), 65).items():
        assert "ETA" not in text, where
        assert "LEFT" not in text, where
        assert "2m 10s" not in text, where
        assert "50 %" in text, where


def test_a_wide_range_is_told_as_one_wherever_it_is_shown() -> None:
    state = snapshot(progress=0.5, eta=300, eta_range=(130, 540), published_at=NOW)
    for where, text in everywhere(state, 0).items():
        assert "about 2 to 9 min" in text, where
        assert "5m 00s" not in text, where


def test_what_takes_longer_than_usual_has_no_figure_wherever_it_is_shown() -> None:
    late = phase(fraction=None, started_after=0.0, expected=USUAL)
    state = snapshot(late, progress=0.9, eta=2, eta_range=(0, 30), published_at=NOW, elapsed=0.0)
    for where, text in everywhere(state, 185).items():
        assert "longer than usual (3 min so far, usually 1)" in text, where
        assert "moment" not in text, where


def test_a_phase_takes_longer_than_usual_only_where_nothing_else_tells_when_it_will_be_done() -> None:
    late = phase(fraction=None, started_after=0.0, expected=USUAL)
    times = words.Times(NOW.timestamp() + 185, 185.0, 5.0, moving=True)
    assert words.longer_than_usual(late, times) == (185, 60)
    assert words.longer_than_usual(late, times._replace(ran=60.4)) is None
    by_weight = Expected(seconds=60, source="weight")
    replace = msgspec.structs.replace
    for other in (
        replace(late, expected=None),
        replace(late, expected=by_weight),
        replace(late, status="completed"),
        replace(late, eta=17.0, fraction=0.5),
    ):
        assert words.longer_than_usual(other, times) is None
    assert words.phase_left(replace(late, eta=17.0, fraction=0.5), times) == "12s"
    assert words.phase_left(late, times._replace(moving=False)) == ""


def test_a_session_takes_longer_than_usual_where_that_is_more_than_what_is_left_of_it() -> None:
    late = phase(fraction=None, started_after=0.0, expected=USUAL)
    after = phase(name="report", status="pending", started_at=None, expected=USUAL)
    values = {"eta_range": None, "published_at": NOW, "elapsed": 0.0}
    now = NOW.timestamp() + 185
    assert words.session_left(snapshot(late, eta=400, **values), now).startswith("longer")
    assert words.session_left(snapshot(late, after, eta=400, **values), now) == "3m 35s"
    assert words.session_left(snapshot(late, after, eta=200, **values), now).startswith("longer")
    assert words.session_left(snapshot(late, after, eta=None, **values), now).startswith("longer")
