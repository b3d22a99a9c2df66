"""`python -m benchmarks fuzz`: inputs that mean harm, a failure that replays, and clients that flood a server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from benchmarks import _fuzzing
from trio_progress.stores.sqlite import rows as sqlite_rows

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]


def benchmark(*arguments: str, out: Path) -> tuple[dict[str, Any], str]:
    command = [sys.executable, "-m", "benchmarks", "fuzz", *arguments, "--json", str(out)]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(out.read_text()), told.stdout


@pytest.mark.exhaustive
def test_inputs_that_mean_harm_kill_nothing_leave_nothing_and_are_answered_with_reasons(
    tmp_path: Path, exhaustive: bool
) -> None:
    count = 5000 if exhaustive else 150  # Also with --few: so many are promised for each change.
    report, said = benchmark("--count", str(count), out=tmp_path / "fuzz.json")
    assert [(target["what"], target["value"]) for target in report["targets"]] == [
        ("process deaths", 0.0),
        ("promises broken", 0.0),
        ("tasks left", 0.0),
        ("descriptors left", 0.0),
    ], said
    counted = {row["name"]: row["median"] for row in report["rows"]}
    assert sum(counted[kind] for kind in _fuzzing.KINDS) == count
    assert counted["close 4501"] > count // 50
    assert counted["400"] > count // 50
    assert counted["200"] > count // 50


def fuzzed(seed: int, count: int) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    trio.run(_fuzzing.fuzz, seed, count, told.append)
    return told


@pytest.mark.exhaustive
def test_a_decoder_that_fails_is_found_and_its_seed_replays_it(monkeypatch: pytest.MonkeyPatch) -> None:
    decode = sqlite_rows.stored

    def fragile(session: str, row: Any, *rest: Any) -> object:
        if row[1] is None:
            raise ZeroDivisionError("planted")
        return decode(session, row, *rest)

    monkeypatch.setattr(sqlite_rows, "stored", fragile)
    (failed,) = [said for said in fuzzed(50, 50) if "failed" in said][:1]
    assert failed["why"] == "sqlite row: ZeroDivisionError: planted"
    assert failed["count"] == 1
    again = [said for said in fuzzed(failed["failed"], 1) if "failed" in said]
    assert again == [failed]


def test_a_process_that_dies_is_told_with_the_command_that_replays_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import fuzz

    died = {"process deaths": [0.0], "promises broken": [0.0]}
    script = "import json, os; print(json.dumps({'begun': 70, 'count': 50}), flush=True); os.abort()"
    started = subprocess.Popen

    def dying(command: list[str], **given: Any) -> subprocess.Popen[str]:
        return started([sys.executable, "-c", script], **given)

    monkeypatch.setattr("subprocess.Popen", dying)
    assert fuzz._fuzzed(20, 100, died, 0) is None
    assert died == {"process deaths": [1.0], "promises broken": [0.0]}
    assert "python -m benchmarks fuzz --count 50 --seed 70" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n", "500 without a reason"),
        (b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}", "400 without a reason"),
        (b"HTTP/1.1 599 What\r\ncontent-length: 0\r\n\r\n", "no answer"),
        (b"nonsense", "no answer"),
    ],
)
def test_an_answer_without_a_reason_is_a_failure(answer: bytes, why: str) -> None:
    async def look() -> None:
        async with _fuzzing.fuzzed() as on:
            with pytest.raises(_fuzzing.FailureError, match=why):
                _fuzzing._look(on, answer)

    trio.run(look)


@pytest.mark.release
def test_a_flood_of_three_clients_is_measured_beside_a_server_at_rest(tmp_path: Path) -> None:
    report, _ = benchmark("--flood", "1", out=tmp_path / "flood.json")
    assert [target["limit"] for target in report["targets"]] == [50.0, 20.0, 100.0]
    counted = {row["name"]: row["median"] for row in report["rows"] if row["group"].startswith("three clients")}
    assert counted["heads"] > 0
    assert counted["messages"] > 0
