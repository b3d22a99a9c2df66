"""`blocking.progress()`: a session from code without an event loop, and how its block can end."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from trio_progress import (
    PhaseError,
    SessionActiveError,
    SessionCancelledError,
    SessionClosedError,
    SessionCompletedError,
    StoreError,
    open_tracker,
)
from trio_progress.background.session import BlockingPhase, BlockingSession
from trio_progress.blocking import Client, progress
from trio_progress.testing import FaultyStore

PATIENCE = 60.0


def quiet(**settings: Any) -> Any:
    """The block, without a display."""
    return progress("import", {"fetch": 3, "load": 1}, display=False, **settings)


def alive() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "trio-progress"]


def until_cancelled(session: BlockingSession) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        session.check_cancelled()
        time.sleep(0.01)
    raise AssertionError("it was not cancelled")


def test_all_that_a_script_says_is_in_the_session_and_no_thread_is_left() -> None:
    with quiet(session_id="r-1", labels={"user": "u1"}) as session:
        assert (session.id, session.status, session.attempt, session.saved) == ("r-1", "running", 1, None)
        with session.phase("fetch", total=10, unit="files") as phase:
            for _ in range(3):
                phase.advance()
            phase.skip(2)
            phase.extend(5)
            phase.update(message="page 3")
            phase.set(cost=1.5)
            assert (phase.name, phase.status, phase.done, phase.total) == ("fetch", "running", 5, 15)
            with phase.phase("site", total=1) as child:
                child.advance()
            session.increment("found", 2)
            session.emit("found", {"url": "x"})
            session.set(region="eu")
            session.update(message="half way")
            session.save({"page": 7})
            session.flush()
            assert session.saved == {"page": 7}
        last = session.advance_to("load")
        assert list(last.track("abc")) == ["a", "b", "c"]
        assert list(last.track(iter("de"))) == ["d", "e"]
        assert (last.done, last.total) == (5, 3)
        session.set_result({"rows": 5})
    shown = session.snapshot()
    assert (session.status, shown.result, shown.counters, shown.fields) == (
        "completed",
        {"rows": 5},
        {"found": 2},
        {"region": "eu"},
    )
    fetched = shown.phase("fetch")
    assert (fetched.done, fetched.total, fetched.message, fetched.fields) == (5, 15, "page 3", {"cost": 1.5})
    assert shown.title == "import"
    assert alive() == []


def test_threads_of_the_script_count_as_well() -> None:
    with quiet() as session, session.phase("fetch", total=400) as phase:
        threads = [
            threading.Thread(target=lambda: [phase.from_thread().advance() for _ in range(100)]) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert phase.done == 400


@pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="there are no POSIX locks")
def test_the_counter_of_processes_is_entered_by_with() -> None:
    with quiet() as session, session.phase("fetch", total=4) as phase:
        with phase.from_processes() as counter:
            pickle.loads(pickle.dumps(counter)).advance(4)
        assert phase.done == 4


@pytest.mark.parametrize(
    ("error", "status"),
    [(KeyError("x"), "failed"), (KeyboardInterrupt(), "interrupted"), (SystemExit(3), "interrupted")],
)
def test_the_session_ends_as_the_block_does_and_what_came_out_leaves_as_itself(
    error: BaseException, status: str
) -> None:
    with pytest.raises(type(error)) as raised, quiet() as session:
        with session.phase("fetch") as phase:
            phase.advance()
            raise error
    assert raised.value is error
    assert [entry.name for entry in raised.traceback][-1].startswith("test_the_session_ends")
    assert (session.status, session.snapshot().phase("fetch").done) == (status, 1)


def test_a_cancelled_session_ends_its_block_quietly_where_that_asks() -> None:
    with quiet() as session:
        with session.phase("fetch") as phase:
            session.cancel("enough")
            until_cancelled(session)
    assert (session.status, session.snapshot().phase("fetch").status) == ("cancelled", "cancelled")
    with quiet() as session:
        with session.phase("fetch") as phase, phase.from_processes() as counter:
            session.cancel()
            for _ in phase.track(iter(lambda: time.sleep(0.01), 1)):
                counter.advance()
    assert session.status == "cancelled"
    with quiet() as session, session.phase("fetch") as phase:
        session.cancel("why")
        with pytest.raises(SessionCancelledError, match="why"):
            until_cancelled(session)
        phase.advance()
        phase.skip()
        phase.set(x=1)
        with pytest.raises(SessionCancelledError):
            session.flush()


def test_others_on_the_store_cancel_it(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path / 'p.db'}"
    with Client(url) as client, quiet(store=url, session_id="r-1") as session:
        client.cancel("r-1", "from elsewhere")
        until_cancelled(session)
    assert session.status == "cancelled"
    with Client(url) as client:
        error = client.snapshot("r-1").error
    assert error is not None
    assert error.message == "from elsewhere"


def test_a_script_goes_on_where_its_last_run_stopped(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path / 'p.db'}"
    with pytest.raises(KeyboardInterrupt), quiet(store=url, session_id="r-1", resume="interrupted") as session:
        with session.phase("fetch", total=3) as phase:
            phase.advance(3)
        session.save({"page": 3})
        raise KeyboardInterrupt
    with quiet(store=url, session_id="r-1", resume="interrupted") as session:
        assert (session.attempt, session.saved) == (2, {"page": 3})
        assert session.snapshot().phase("fetch").status == "completed"
        with session.phase("load"):
            pass
    assert session.status == "completed"
    with pytest.raises(SessionCompletedError), quiet(store=url, session_id="r-1", resume="interrupted"):
        pass
    with pytest.raises(ValueError, match="resume must be one of"), quiet(resume="allways"):
        pass
    assert alive() == []


def test_what_cannot_be_entered_is_an_error_of_the_block(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path / 'p.db'}"
    with quiet(store=url, session_id="r-1") as session:
        session.flush()  # Of a store that takes its time nobody waits for the answer to the claim.
        with pytest.raises(SessionActiveError), quiet(store=url, session_id="r-1"):
            pass
    with pytest.raises(StoreError), quiet(store=f"sqlite:{tmp_path / 'missing' / 'p.db'}"):
        pass
    with pytest.raises(TypeError, match="lost_aftr"):
        progress("import", lost_aftr=3)  # type: ignore[call-arg]
    assert alive() == []


def test_bad_input_is_an_error_at_the_call() -> None:
    with quiet() as session, session.phase("fetch") as phase:
        with pytest.raises(ValueError, match="must be"):
            phase.advance(-1)
        with pytest.raises(ValueError, match="must be"):
            phase.skip(-1)
        with pytest.raises(ValueError, match="must be"):
            session.increment("")
        with pytest.raises(PhaseError):
            session.phase("unknown")
    assert session.status == "completed"


def test_calls_after_the_end_say_so_and_counts_are_late() -> None:
    with quiet() as session, session.phase("fetch") as phase:
        pass
    phase.advance()
    phase.skip()
    assert phase.done == 0
    with pytest.raises(SessionClosedError, match="it is completed"):
        session.increment("n")


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="there are no such signals")
def test_a_ctrl_c_while_it_is_left_waits_until_it_is_stored() -> None:
    store = FaultyStore()
    main = threading.get_ident()
    heard = threading.Event()
    at_work: list[threading.Thread] = []

    def handle(*_: object) -> None:
        heard.set()
        raise KeyboardInterrupt

    def interrupt() -> None:
        end = time.monotonic() + PATIENCE
        while session.status == "running" and time.monotonic() < end:  # It is being left then.
            time.sleep(0.01)
        at_work.extend(alive())
        signal.pthread_kill(main, signal.SIGINT)
        heard.wait(PATIENCE)
        store.mode = "up"

    before = signal.signal(signal.SIGINT, handle)
    try:
        with pytest.raises(KeyboardInterrupt), quiet(store=store, flush_timeout=PATIENCE) as session:
            session.increment("n")
            store.mode = "down"
            thread = threading.Thread(target=interrupt)
            thread.start()
    finally:
        signal.signal(signal.SIGINT, before)
    thread.join()
    assert (session.status, len(at_work)) == ("completed", 1)
    assert alive() == []


def test_a_ctrl_c_before_the_session_has_heard_that_it_is_left_waits_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = trio.lowlevel.TrioToken.run_sync_soon

    def interrupted(token: trio.lowlevel.TrioToken, function: Any, *args: object, **given: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            monkeypatch.undo()
            raise KeyboardInterrupt
        entry(token, function, *args, **given)

    with pytest.raises(KeyboardInterrupt), quiet() as session:
        session.increment("n")
        monkeypatch.setattr(trio.lowlevel.TrioToken, "run_sync_soon", interrupted)
    assert (session.status, session.snapshot().counters) == ("completed", {"n": 1})
    assert alive() == []


def test_it_is_for_code_without_an_event_loop() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="use `async with open_progress"), quiet():
            pass
        with pytest.raises(TypeError, match="not `async with`"):
            async with quiet():
                pass
        async with open_tracker():
            pass

    trio.run(main)
    with pytest.raises(TypeError, match="cannot be pickled"), quiet() as session:
        pickle.dumps(session)


def all_refused(session: BlockingSession, phase: BlockingPhase) -> None:
    calls: dict[str, Callable[[], object]] = {
        "flush": session.flush,
        "phase": lambda: session.phase("load"),
        "advance_to": lambda: session.advance_to("load"),
        "skip_phase": lambda: session.skip_phase("load"),
        "increment": lambda: session.increment("n"),
        "set": lambda: session.set(x=1),
        "update": lambda: session.update(message="late"),
        "emit": lambda: session.emit("late"),
        "save": lambda: session.save(1),
        "set_result": lambda: session.set_result(1),
        "cancel": lambda: session.cancel("twice"),
        "fail": lambda: session.fail("late"),
        "child": lambda: phase.phase("site"),
        "processes": phase.from_processes().__enter__,
        "track": lambda: list(phase.track("ab")),
    }
    for name, call in calls.items():
        with pytest.raises(SessionCancelledError, match="why"):
            call()
            raise AssertionError(name)
    phase.advance()
    phase.skip()
    phase.extend(2)
    phase.set(x=1)
    phase.update(message="late")
    shown = session.snapshot()
    assert (phase.done, shown.counters, shown.fields, shown.message, session.saved) == (1, {}, {}, None, None)


def test_what_was_cancelled_takes_nothing_more_whether_its_final_state_is_stored_yet_or_not() -> None:
    store = FaultyStore()
    with quiet(store=store, flush_timeout=PATIENCE) as session, session.phase("fetch") as phase:
        phase.advance()
        session.flush()
        store.mode = "down"
        session.cancel("why")
        with pytest.raises(SessionCancelledError, match="why"):
            until_cancelled(session)
        assert alive()
        all_refused(session, phase)
        assert alive()
        store.mode = "up"
        for thread in alive():
            thread.join()
        all_refused(session, phase)
