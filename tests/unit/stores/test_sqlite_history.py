"""A SQLite file of an older version: what it kept of the durations of phases is used, and goes on as a history."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import trio
import trio.testing

from trio_progress import Pipeline, open_tracker
from trio_progress.blocking import Client
from trio_progress.stores.sqlite.schema import APPLICATION_ID, MIGRATIONS

PIPELINE = Pipeline("import", {"fetch": 1, "load": 1})


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file as it was before there were histories, with the durations of one pipeline."""
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as connection:
        for statement in MIGRATIONS[0]:
            connection.execute(statement)
        connection.executemany(
            "INSERT INTO durations VALUES (?, ?, ?, ?)", [("import", "fetch", 30.0, 4e9), ("import", "load", 12.0, 4e9)]
        )
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 1")
        connection.commit()
    return path


async def test_a_file_of_an_older_version_opens_and_its_durations_are_used(
    old: Path, mock_clock: trio.testing.MockClock
) -> None:
    async with open_tracker(f"sqlite:{old}") as tracker:
        assert list(await tracker.histories()) == ["import"]
        async with tracker.session("s", PIPELINE) as session:
            await session.flush()
            assert session.snapshot().eta == pytest.approx(42)
            for name in ("fetch", "load"):
                with session.phase(name):
                    mock_clock.jump(0.05)  # All else of the clock stands still, however long the store takes.
        history = await tracker.history("import")
    assert history is not None
    assert (history.runs, history.phases["fetch"].runs) == (2, 2)
    assert history.phases["fetch"].seconds < 1
    with closing(sqlite3.connect(old)) as connection:
        assert connection.execute("SELECT count(*) FROM durations").fetchone() == (0,)


def test_what_older_versions_kept_is_read_exported_and_forgotten(old: Path) -> None:
    with Client(f"sqlite:{old}") as client:
        history = client.history("import")
        assert history is not None
        assert {name: phase.seconds for name, phase in history.phases.items()} == {"fetch": 30.0, "load": 12.0}
        assert client.import_history("copy", history.to_json()) == history
        assert list(client.histories()) == ["import", "copy"] or list(client.histories()) == ["copy", "import"]
        assert client.forget_history("import")
        assert client.history("import") is None
        assert list(client.histories()) == ["copy"]


def test_a_history_that_cannot_be_read_is_passed_over(old: Path) -> None:
    with Client(f"sqlite:{old}") as client:
        client.import_history("import", "{}")
        with closing(sqlite3.connect(old)) as connection:
            connection.execute("UPDATE histories SET data = 'nonsense'")
            connection.commit()
        assert client.history("import") is None
