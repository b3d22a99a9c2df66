"""The client for code without Trio: what it sees, asks for and refuses."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from trio_progress import (
    Limits,
    Pipeline,
    SessionNotFoundError,
    SqliteStore,
    StoreError,
    open_tracker,
)
from trio_progress.blocking import Client

RESEARCH = Pipeline("research", {"search": 3, "report": 1})


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:{tmp_path / 'progress.db'}"


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url) as client:
        yield client


def test_what_is_declared_is_seen_by_all_and_waits_to_be_run(client: Client, url: str) -> None:
    declared = client.declare("r", RESEARCH, title="Zips", labels={"user": "u1"})
    assert (declared.status, declared.title, declared.labels) == ("queued", "Zips", {"user": "u1"})
    assert [phase.name for phase in declared.phases] == ["search", "report"]
    assert client.snapshot("r") == declared
    with Client(url) as other:
        assert list(other.sessions()) == [declared]
    again = client.declare("r", title="Once more")
    assert again.epoch > declared.epoch
    assert [one.title for one in client.sessions()] == ["Once more"]

    async def run() -> None:
        async with open_tracker(url) as tracker, tracker.session("r") as session:
            assert session.snapshot().title == "Once more"

    trio.run(run)
    assert client.snapshot("r").status == "completed"


def test_sessions_are_listed_newest_first_filtered_and_a_page_at_a_time(client: Client) -> None:
    for number in range(7):
        client.declare(f"r-{number}", labels={"parity": str(number % 2)})
        time.sleep(0.002)
    client.cancel("r-2")
    assert [one.id for one in client.sessions()] == [f"r-{number}" for number in reversed(range(7))]
    assert [one.id for one in client.sessions(labels={"parity": "0"}, status="queued")] == ["r-6", "r-4", "r-0"]
    page = client.sessions(limit=4)
    assert [one.id for one in page] == ["r-6", "r-5", "r-4", "r-3"]
    page = client.sessions(limit=4, cursor=page.cursor)
    assert ([one.id for one in page], page.cursor) == (["r-2", "r-1", "r-0"], None)
    assert not client.sessions(labels={"parity": "2"})
    assert not client.sessions(status="lost")


def test_a_queued_session_that_is_cancelled_has_ended_and_says_why(client: Client) -> None:
    client.declare("r", RESEARCH)
    client.cancel("r", "no longer wanted")
    ended = client.wait_ended("r")
    assert ended.status == "cancelled"
    assert ended.error is not None
    assert ended.error.message == "no longer wanted"
    client.cancel("r", "again")
    assert client.snapshot("r") == ended


BAD: list[tuple[str, Callable[[Client], object], type[Exception]]] = [
    ("id", lambda c: c.snapshot("a/b"), ValueError),
    ("id of another type", lambda c: c.cancel(7), ValueError),  # type: ignore[arg-type]
    ("id to declare", lambda c: c.declare(""), ValueError),
    ("id to delete", lambda c: c.delete(".."), ValueError),
    ("id to wait for", lambda c: c.wait_ended("a b"), ValueError),
    ("pipeline", lambda c: c.declare("r", {"search": 1}), TypeError),  # type: ignore[arg-type]
    ("title", lambda c: c.declare("r", title=7), TypeError),  # type: ignore[arg-type]
    ("long title", lambda c: c.declare("r", title="x" * 201), ValueError),
    ("labels", lambda c: c.declare("r", labels=["user"]), TypeError),  # type: ignore[arg-type]
    ("label", lambda c: c.declare("r", labels={"user": 1}), TypeError),  # type: ignore[dict-item]
    ("labels to find", lambda c: c.sessions(labels="user"), TypeError),  # type: ignore[arg-type]
    ("status", lambda c: c.sessions(status="done"), ValueError),
    ("limit", lambda c: c.sessions(limit=0), ValueError),
    ("limit of another type", lambda c: c.sessions(limit=True), ValueError),
    ("cursor", lambda c: c.sessions(cursor="nonsense"), ValueError),
    ("cursor of another type", lambda c: c.sessions(cursor=7), TypeError),  # type: ignore[arg-type]
    ("reason", lambda c: c.cancel("there", b"why"), TypeError),  # type: ignore[arg-type]
    ("timeout", lambda c: c.wait_ended("there", -1), ValueError),
    ("timeout of another type", lambda c: c.wait_ended("there", "1"), TypeError),  # type: ignore[arg-type]
    ("timeout that is no number", lambda c: c.wait_ended("there", float("nan")), ValueError),
]


@pytest.mark.parametrize(("call", "error"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_input_is_refused_at_the_call_and_changes_nothing(
    client: Client, call: Callable[[Client], object], error: type[Exception]
) -> None:
    before = client.declare("there")
    with pytest.raises(error):
        call(client)
    assert list(client.sessions()) == [before]


def test_a_store_that_is_given_is_used_as_it_is_and_not_closed(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "p.db")

    async def run() -> None:
        async with open_tracker(store) as tracker, tracker.session("r"):
            pass
        assert await store.read("r") is not None
        await store.aclose()

    with Client(store) as client:
        client.declare("r")
    trio.run(run)


def test_what_is_not_there_is_told(client: Client) -> None:
    for call in (client.snapshot, client.cancel, client.delete, client.wait_ended):
        with pytest.raises(SessionNotFoundError) as raised:
            call("r")
        assert raised.value.session_id == "r"


@pytest.mark.parametrize(
    ("url", "error", "says"),
    [
        ("memory:", ValueError, "belongs to one tracker"),
        ("postgres://x", ValueError, "there is no store for 'postgres'"),
        ("sqlite:", ValueError, "path"),
        ("sqlite::memory:", ValueError, "memory"),
        ("sqlite://progress.db", ValueError, "'sqlite:progress.db' is a file in the current folder"),
        (7, TypeError, "URL"),
    ],
)
def test_what_is_no_store_is_refused(url: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        Client(url)


def test_settings_are_checked_before_a_file_is_made(url: str) -> None:
    for settings in ({"retention": 0}, {"retention": float("nan")}, {"limits": {"text": 3}}):
        with pytest.raises((ValueError, TypeError)):
            Client(url, **settings)
    assert not Path(url.removeprefix("sqlite:")).exists()
    with Client(url, limits=Limits(text=3)) as client, pytest.raises(ValueError, match="limit 'text'"):
        client.declare("r", title="long")


def test_a_closed_client_says_so(client: Client) -> None:
    client.close()
    client.close()
    for call in (client.snapshot, client.declare, client.cancel, client.delete, client.wait_ended):
        with pytest.raises(StoreError, match="closed"):
            call("r")
    with pytest.raises(StoreError, match="closed"):
        client.sessions()


def test_rows_that_cannot_be_read_are_passed_over_and_told_where_they_are_asked_for(
    client: Client, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(6):
        client.declare(f"r-{number}")
    connection = sqlite3.connect(url.removeprefix("sqlite:"), isolation_level=None)
    for number, poison in enumerate(
        ["record = x'7b'", "epoch = 'x'", "record = 7", "queued_at = 'soon'", "labels = 5"]
    ):
        connection.execute(f"UPDATE sessions SET {poison} WHERE id = 'r-{number}'")
    connection.execute("UPDATE sessions SET id = x'ff00' WHERE id = 'r-4'")
    connection.close()
    assert [one.id for one in client.sessions()] == ["r-5"]
    assert sum("passed over" in record.message for record in caplog.records) == 5
    for number in range(3):
        with pytest.raises(StoreError, match="cannot be read"):
            client.snapshot(f"r-{number}")
        with pytest.raises(StoreError, match="cannot be read"):
            client.wait_ended(f"r-{number}", timeout=1)
    for number in range(4):
        client.delete(f"r-{number}")
    assert client.declare("r-0").status == "queued"
