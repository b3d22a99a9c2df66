"""Figures as people read them: bytes are scaled, in the live display, in plain lines and in `show` alike."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from trio_progress import PhaseSnapshot, Snapshot
from trio_progress.cli.output import Stdout
from trio_progress.cli.session_page import session_page
from trio_progress.terminal import words
from trio_progress.terminal.layout import Frame, View, draw
from trio_progress.terminal.plain_lines import line
from trio_progress.terminal.symbols import UNICODE

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


def phase(**values: Any) -> PhaseSnapshot:
    given: dict[str, Any] = {
        "name": "fetch", "title": "fetch", "status": "running", "attempt": 1, "done": 0, "total": None, "unit": "B",
        "weight": 1.0, "fraction": 0.3, "rate": None, "eta": None, "message": None, "fields": {}, "started_at": NOW,
        "ended_at": None,
    }  # fmt: skip
    return PhaseSnapshot(**(given | values))


def snapshot(*phases: PhaseSnapshot) -> Snapshot:
    return Snapshot(
        id="r", pipeline=None, title="download", labels={}, epoch=1, seq=1, attempt=1, status="running",
        liveness="ok", progress=0.3, raw=0.3, eta=None, message=None, counters={}, fields={}, result=None, error=None,
        queued_at=NOW, started_at=NOW, progressed_at=NOW, heartbeat_at=NOW, ended_at=None, phases=phases,
    )  # fmt: skip


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
