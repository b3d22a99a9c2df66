"""`release`, and the call of the blocking client that it makes: what is written off, what is left, and what is said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from trio_progress import MemoryStore, SessionNotFoundError, open_tracker
from trio_progress.blocking import Client
from trio_progress.cli import exit_codes, main
from trio_progress.state.record import decode_event
from trio_progress.stores.base import Claim, Claimed, Index
from trio_progress.stores.sqlite.backend import SqliteBackend

Capture = pytest.CaptureFixture[str]


async def running() -> bytes:
    """What is stored of a session "r-1" that runs."""
    store = MemoryStore()
    async with open_tracker(store) as tracker, tracker.session("r-1") as session:
        session.increment("found", 3)
        await session.flush()
        stored = await store.read("r-1")
    assert stored is not None
    return stored.record


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRIO_PROGRESS_STORE", f"sqlite:{tmp_path / 's.db'}")
    return tmp_path / "s.db"


@pytest.fixture
def backend(path: Path) -> Iterator[SqliteBackend]:
    backend = SqliteBackend(path)
    backend.open()
    yield backend
    backend.close()


@pytest.fixture
def epoch(backend: SqliteBackend) -> int:
    """That of an owner whose lease stands."""
    return own(backend)


def own(backend: SqliteBackend) -> int:
    (outcome,) = backend.commit([Claim("r-1", 1, "me", trio.run(running), Index("running", None, {}, 5.0), 99.0, 99.0)])
    assert isinstance(outcome, Claimed)
    return outcome.epoch


def test_a_running_session_is_released_and_says_by_whom_and_why(
    backend: SqliteBackend, epoch: int, capsys: Capture
) -> None:
    assert main(["release", "r-1", "--epoch", str(epoch), "--reason", "its node is gone"]) == exit_codes.OK
    assert capsys.readouterr().err == "r-1: released, it may be gone on with\n"
    stored = backend.read("r-1")
    assert stored is not None
    assert (stored.alive, stored.key.epoch) == (False, epoch + 1)
    (event,) = map(decode_event, stored.events)
    assert (event.name, event.data["epoch"], event.data["reason"]) == ("session.fenced", epoch, "its node is gone")
    assert main(["release", "r-1"]) == exit_codes.OK
    assert capsys.readouterr().err == "r-1: released, it may be gone on with\n"
    assert backend.read("r-1") == stored


def test_another_owner_and_what_does_not_run_are_left_as_they_are(
    backend: SqliteBackend, epoch: int, capsys: Capture
) -> None:
    main(["release", "r-1", "--epoch", str(epoch)])
    now = own(backend)
    with Client(f"sqlite:{backend.address.removeprefix('sqlite:')}") as client:
        client.declare("r-2")
    capsys.readouterr()
    before = [backend.read(name) for name in ("r-1", "r-2")]
    assert main(["release", "r-1", "--epoch", str(epoch)]) == exit_codes.OK
    assert main(["release", "r-2"]) == exit_codes.OK
    assert capsys.readouterr().err.splitlines() == [
        f"r-1: nothing to release, its owner is that of epoch {now}",
        "r-2: nothing to release, it is queued",
    ]
    assert [backend.read(name) for name in ("r-1", "r-2")] == before
    assert main(["release", "r-9"]) == exit_codes.NOT_FOUND


@pytest.mark.parametrize("epoch_given", ["-1", "1.5", "x", "9" * 17, "\u0663"])
def test_an_epoch_that_is_none_is_wrong_use(epoch_given: str, path: Path, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as left:
        main(["release", "r-1", f"--epoch={epoch_given}"])
    assert left.value.code == exit_codes.USAGE
    assert "whole number" in capsys.readouterr().err


def test_the_client_refuses_bad_input_and_says_what_is_not_there(backend: SqliteBackend, epoch: int) -> None:
    before = backend.read("r-1")
    with Client(backend.address) as client:
        for given, error in (
            ({"epoch": -1}, ValueError),
            ({"epoch": True}, ValueError),
            ({"epoch": "7"}, ValueError),
            ({"reason": b"why"}, TypeError),
        ):
            with pytest.raises(error):
                client.fence("r-1", **given)
        with pytest.raises(ValueError, match="id"):
            client.fence("a/b")
        with pytest.raises(SessionNotFoundError):
            client.fence("r-9")
        assert backend.read("r-1") == before
        lost = client.fence("r-1", epoch=epoch)
        assert (lost.status, lost.counters, lost.epoch) == ("lost", {"found": 3}, epoch + 1)
        assert lost == client.snapshot("r-1")
