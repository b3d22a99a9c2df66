"""What the explorer says is the same in every process, and nothing of it is where none is asked for."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from trio_progress.testing.failure import SEED_VARIABLE

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]


def test_a_lost_update_is_found_told_and_replayed_by_the_printed_command(tmp_path: Path) -> None:
    script = tmp_path / "transfer.py"
    script.write_text(
        textwrap.dedent("""
            import trio
            from trio_progress.testing import explore

            class Account:
                def __init__(self):
                    self.balance = 0

            async def deposit(account):
                seen = account.balance
                await trio.sleep(0.001)
                account.balance = seen + 1

            async def transfer():
                account = Account()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(deposit, account)
                    await trio.sleep(0.0015)
                    nursery.start_soon(deposit, account)
                assert account.balance == 2

            explore(transfer, schedules=500)
        """)
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("PYTEST_CURRENT_TEST", None)
    environment.pop(SEED_VARIABLE, None)

    def run(command: list[str], **more: str) -> str:
        done = subprocess.run(
            command, env={**environment, **more}, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        return done.stderr

    said = run([sys.executable, "transfer.py"])
    assert "transfer fails under seed" in said
    assert "account.balance: 0 -> 1" in said
    command = next(line for line in said.splitlines() if line.startswith("replay it:")).removeprefix("replay it:")
    variable, _, rest = command.strip().partition(" ")
    name, _, seed = variable.partition("=")
    assert (name, rest.split()[-1]) == (SEED_VARIABLE, "transfer.py")
    again = run([sys.executable, *rest.split()[1:]], **{name: seed})
    assert "the 1st schedule tried" in again

    def told(text: str) -> str:
        return text[text.index("\nhistory ") :]

    assert told(again) == told(said), "another history, or another timeline, in another process"


@pytest.mark.exhaustive
def test_the_same_seed_makes_the_same_histories_in_two_processes() -> None:
    code = (
        "from benchmarks._scenarios import one_session_two_workers, start_and_cleanup_of_one_id\n"
        "from trio_progress.testing import explore\n"
        "for scenario in (one_session_two_workers, start_and_cleanup_of_one_id):\n"
        "    print(sorted(explore(scenario, schedules=10, seed=7).histories))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(said) == 1
    assert len(said.pop()) > 100


def test_a_plain_run_is_what_it_was_before_and_after() -> None:
    code = (
        "import trio, trio._core._run as run\n"
        "before = run._r, run._ALLOW_DETERMINISTIC_SCHEDULING\n"
        "import trio_progress.testing\n"
        "assert (run._r, run._ALLOW_DETERMINISTIC_SCHEDULING) == before == (run._r, False)\n"
        "trio_progress.testing.explore(trio.sleep, 1, schedules=3)\n"
        "assert (run._r, run._ALLOW_DETERMINISTIC_SCHEDULING) == before\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
