"""The command line beside processes that own sessions: watched to each ending, cancelled, interrupted, killed."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pytest

from tests.forking import ForkServer
from tests.marks import as_often
from trio_progress.blocking import Client
from trio_progress.cli import exit_codes
from trio_progress.demo.corpus import standard_library

pytestmark = pytest.mark.integration

COMMAND = [sys.executable, "-m", "trio_progress"]
HELD_DEMO = [sys.executable, str(Path(__file__).with_name("held_demo.py"))]
WORKER = [sys.executable, str(Path(__file__).with_name("session_worker.py"))]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("TRIO_PROGRESS_STORE", f"sqlite:{tmp_path / 'progress.db'}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return f"sqlite:{tmp_path / 'progress.db'}"


@contextmanager
def started(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def working(store: str, session_id: str, ending: str, held: int = 0) -> Iterator[subprocess.Popen[str]]:
    """A process that has begun a session; so many of its steps are held until it is told a line."""
    with started([*WORKER, store, session_id, ending, str(held)]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        yield process


def watched(watcher: subprocess.Popen[str], store: str, ending: str, steps: int) -> tuple[str, str]:
    """What is said by who watches a session, which takes so many steps only once the one before has been shown."""
    with working(store, "r-1", ending, steps) as owner:
        assert owner.stdin is not None
        assert watcher.stdout is not None
        shown = ""
        for _ in range(steps):
            shown += watcher.stdout.readline()
            owner.stdin.write("\n")
            owner.stdin.flush()
        out, err = watcher.communicate(timeout=60)
        return shown + out, err


class Run(Protocol):
    """Runs the command to its end."""

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture(scope="module")
def ran(fork_server: ForkServer) -> Run:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(arguments, *fork_server.run("trio_progress", arguments, ROOT, os.environ))

    return run


def until(what: Callable[[], bool]) -> None:
    for _ in range(1200):
        if what():
            return
        time.sleep(0.05)
    raise AssertionError("it never came to that")


@pytest.mark.parametrize(
    "ending",
    # One that the session says of itself, and one that others say of it; each code's place is in a table.
    as_often([*exit_codes.ENDED], every_day=["completed", "failed"], exhaustive=["lost"]),
)
def test_watching_ends_with_the_session_and_its_exit_code_says_how(store: str, ending: str) -> None:
    with started([*COMMAND, "watch", "r-1"]) as watcher:  # Before there is anything to watch.
        out, err = watched(watcher, store, ending, 1)
    assert watcher.returncode == exit_codes.ENDED[ending], err
    assert "Traceback" not in err
    first, *_, last = out.splitlines()
    assert re.match(r"\d\d:\d\d:\d\d \| r-1 \| Counting \| \d+ %", first)
    assert ending.replace("_", " ") in last
    assert all(line.isprintable() for line in out.splitlines())


@pytest.mark.exhaustive
def test_several_sessions_are_watched_at_once_and_the_highest_code_counts(store: str, ran: Run) -> None:
    with started([*COMMAND, "watch", "r-1", "r-2", "r-1"]) as watcher:
        with working(store, "r-1", "failed"), working(store, "r-2", "completed"):
            out, err = watcher.communicate(timeout=60)
    assert watcher.returncode == exit_codes.ENDED["failed"], err
    ends = [line for line in out.splitlines() if re.search(r"\| (failed|completed) \|", line)]
    assert len(ends) == 2
    assert ran("watch", "r-1", "r-2").returncode == exit_codes.ENDED["failed"]
    assert ran("watch", "r-2").returncode == 0


@pytest.mark.exhaustive
def test_as_json_each_state_is_a_line_and_progress_only_rises(store: str) -> None:
    with started([*COMMAND, "watch", "--json", "r-1"]) as watcher:
        out, err = watched(watcher, store, "completed", 4)
    assert watcher.returncode == 0, err
    states = [json.loads(line) for line in out.splitlines()]
    assert len(states) > 3
    progress = [state["progress"] for state in states]
    assert progress == sorted(progress)
    assert states[-1]["status"] == "completed"
    assert states[-1]["counters"] == {"steps": 10}


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.exhaustive)]
)
def test_a_signal_ends_the_watching_at_once_and_not_the_session(store: str, number: signal.Signals, code: int) -> None:
    with working(store, "r-1", "hang") as owner, started([*COMMAND, "watch", "r-1"]) as watcher:
        assert watcher.stdout is not None
        watcher.stdout.readline()
        watcher.send_signal(number)
        _, err = watcher.communicate(timeout=60)
        assert watcher.returncode == code
        assert "Traceback" not in err
        assert owner.poll() is None
        with Client(store) as client:
            assert client.snapshot("r-1").status == "running"


@pytest.mark.exhaustive
def test_a_reader_that_goes_away_ends_the_watching_without_a_word(store: str) -> None:
    with working(store, "r-1", "hang"), started([*COMMAND, "watch", "--json", "r-1"]) as watcher:
        assert watcher.stdout is not None
        assert watcher.stderr is not None
        watcher.stdout.readline()
        watcher.stdout.close()
        assert watcher.wait(timeout=60) == 128 + signal.SIGPIPE
        assert watcher.stderr.read() == ""


def test_what_is_not_there_is_refused_where_nobody_wants_to_wait_and_what_is_removed_ends_it(
    store: str, ran: Run
) -> None:
    with Client(store) as client:
        client.declare("r-1")
        done = ran("watch", "--no-wait", "r-1", "r-2")
        assert done.returncode == exit_codes.NOT_FOUND
        assert done.stderr == "trio-progress: there is no session 'r-2'\n"
        with started([*COMMAND, "watch", "r-1"]) as watcher:
            assert watcher.stdout is not None
            watcher.stdout.readline()
            client.delete("r-1")
            _, err = watcher.communicate(timeout=60)
    assert watcher.returncode == exit_codes.NOT_FOUND
    assert err == "trio-progress: session 'r-1' was removed\n"


def test_a_server_that_is_not_there_or_wants_another_token_is_told_in_one_line(
    store: str, monkeypatch: pytest.MonkeyPatch, ran: Run
) -> None:
    for more in ([], ["--json"]):
        done = ran("watch", "--url", "http://127.0.0.1:1", "r", *more)
        assert (done.returncode, done.stdout) == (exit_codes.STORE, "")
        assert re.fullmatch(r"trio-progress: no connection to 127\.0\.0\.1:1: .+\n", done.stderr)

    monkeypatch.setenv("TRIO_PROGRESS_SECRET", "a-secret-of-the-tests-that-is-long-enough")
    expired = ran("token", "--everything", "--ttl", "1").stdout.strip()
    issued = time.monotonic()
    with started([*COMMAND, "serve", "--store", store, "--port", "0"]) as server:
        assert server.stderr is not None
        url = server.stderr.readline().split()[-1]
        time.sleep(max(0.0, issued + 1.1 - time.monotonic()))
        for token, says in (
            ("", "wants a token, and none was given"),
            ("wrong", "HTTP 401"),
            (expired, "the token has expired"),
        ):
            monkeypatch.setenv("TRIO_PROGRESS_TOKEN", token)
            done = ran("watch", "--url", url, "r")
            assert (done.returncode, done.stdout) == (exit_codes.USAGE, "")
            assert says in done.stderr
            assert "TRIO_PROGRESS_TOKEN" in done.stderr
            assert len(done.stderr.splitlines()) == 1


@pytest.mark.exhaustive
def test_a_session_that_a_server_does_not_have_yet_is_said_to_be_waited_for(store: str) -> None:
    with started([*COMMAND, "serve", "--store", store, "--port", "0"]) as server:
        assert server.stderr is not None
        url = server.stderr.readline().split()[-1]
        with started([*COMMAND, "watch", "--url", url, "r-1", "--json"]) as watcher:
            assert watcher.stderr is not None
            assert watcher.stderr.readline() == f"waiting for session 'r-1' to come up at {url}\n"
            with working(store, "r-1", "completed") as owner:
                owner.communicate(timeout=60)
            out, err = watcher.communicate(timeout=60)
            assert json.loads(out.splitlines()[-1])["status"] == "completed"
            assert (watcher.returncode, err) == (0, "")


@pytest.mark.exhaustive
def test_who_watches_by_a_server_sees_that_the_owner_is_heard_of_no_more_and_that_it_is_back(store: str) -> None:
    with (
        started([*COMMAND, "serve", "--store", store, "--port", "0"]) as server,
        working(store, "r-1", "stopped") as owner,
    ):
        assert server.stderr is not None
        url = server.stderr.readline().split()[-1]
        with started([*COMMAND, "watch", "--url", url, "r-1", "--json"]) as watcher:
            assert watcher.stdout is not None
            lines = (json.loads(line) for line in watcher.stdout)
            assert next(lines)["status"] == "running"
            owner.send_signal(signal.SIGSTOP)
            lost = next(line for line in lines if line["liveness"] == "lost")
            assert lost["status"] == "lost"
            owner.send_signal(signal.SIGCONT)
            back = next(line for line in lines if line["liveness"] == "ok")
            assert (back["status"], back["epoch"]) == ("running", lost["epoch"])


def test_cancelling_from_elsewhere_ends_the_owners_session_as_cancelled(store: str, ran: Run) -> None:
    with working(store, "r-1", "hang") as owner:
        done = ran("rm", "r-1")
        assert done.returncode == exit_codes.ACTIVE
        assert done.stderr == "trio-progress: session 'r-1' is open: cancel it first\n"
        assert ran("cancel", "r-1", "--reason", "not needed").stderr == "r-1: asked to cancel\n"
        assert ran("watch", "r-1").returncode == exit_codes.ENDED["cancelled"]
        owner.communicate(timeout=60)
        assert owner.returncode == 0
    shown = ran("show", "r-1").stdout
    assert "r-1  cancelled" in shown
    assert "not needed" in shown
    assert ran("rm", "r-1").returncode == 0
    assert ran("ls").stdout == ""


# The demo


def announced(demo: subprocess.Popen[str]) -> str:
    """The id of the session that a run of the demo has begun."""
    assert demo.stderr is not None
    for line in demo.stderr:
        found = re.match(r"Session (demo-[0-9a-f]{6}); from elsewhere: trio-progress watch \1$", line)
        if found:
            return found[1]
    raise AssertionError("it ended without a word")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A part of the standard library: large enough to be stopped in, and read in a third of the time."""
    folder = tmp_path_factory.mktemp("corpus")
    for package in ("asyncio", "concurrent", "email", "http", "importlib", "logging", "multiprocessing"):
        shutil.copytree(Path(standard_library()) / package, folder / package)
    return str(folder)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, corpus: str, ran: Run) -> str:
    """The answer of a run that nothing stops."""
    done = ran("demo", "--corpus", corpus, "--store", f"sqlite:{tmp_path_factory.mktemp('demo') / 'p.db'}")
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def stopped_in_search(store: str, number: signal.Signals, *arguments: str) -> Iterator[tuple[str, int, str]]:
    """A run of the demo that a signal stops in its third phase: its id, exit code and standard error."""
    with started([*HELD_DEMO, *arguments]) as demo, Client(store) as client:
        session_id = announced(demo)

        def searching() -> bool:
            return client.snapshot(session_id).phase("search").status == "running"

        until(searching)
        demo.send_signal(number)
        out, err = demo.communicate(timeout=60)
        assert out == ""
        yield session_id, demo.returncode, err


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.exhaustive)]
)
def test_an_interrupted_demo_goes_on_at_once_and_does_nothing_again(
    store: str, corpus: str, undisturbed: str, number: signal.Signals, code: int, ran: Run
) -> None:
    with stopped_in_search(store, number, "--corpus", corpus) as (session_id, returned, err):
        assert returned == code
        assert err.splitlines()[-1] == f"Go on with: trio-progress demo --resume {session_id}"
    before = json.loads(ran("show", session_id, "--json").stdout)
    assert before["status"] == "interrupted"
    assert [phase["status"] for phase in before["phases"][:3]] == ["completed", "completed", "cancelled"]
    if number == signal.SIGTERM:
        return  # What is gone on with is the same.
    done = ran("demo", "--resume", session_id)
    assert done.returncode == 0, done.stderr
    assert done.stdout == undisturbed
    after = json.loads(ran("show", session_id, "--json").stdout)
    assert (after["status"], after["attempt"]) == ("completed", 2)
    for was, now in zip(before["phases"][:2], after["phases"][:2], strict=True):
        assert (now["attempt"], now["started_at"], now["ended_at"]) == (1, was["started_at"], was["ended_at"])
    assert [phase["attempt"] for phase in after["phases"][2:]] == [2, 1, 1, 1, 1, 1]
    again = ran("demo", "--resume", session_id)
    assert again.stdout == undisturbed
    assert again.stderr == f"Session {session_id} has completed: this is its answer.\n"


@pytest.mark.exhaustive
def test_a_killed_demo_is_lost_and_its_answer_is_that_of_an_undisturbed_run(
    store: str, corpus: str, undisturbed: str, ran: Run
) -> None:
    options = ("--corpus", corpus, "--lost-after", "1")
    with stopped_in_search(store, signal.SIGKILL, *options) as (session_id, returned, _):
        assert returned == -signal.SIGKILL
    assert ran("watch", session_id).returncode == exit_codes.ENDED["lost"]
    assert ran("ls", "--status", "lost").stdout.split("\t")[0] == session_id
    assert "liveness    lost" in ran("show", session_id).stdout
    done = ran("demo", "--resume", session_id)
    assert done.returncode == 0, done.stderr
    assert done.stdout == undisturbed


def test_a_demo_that_is_cancelled_from_elsewhere_says_so(store: str, ran: Run) -> None:
    with started(HELD_DEMO) as demo, Client(store) as client:
        session_id = announced(demo)
        until(lambda: client.snapshot(session_id).progress > 0.05)
        done = ran("demo", "--resume", session_id)
        assert done.returncode == exit_codes.ACTIVE
        client.cancel(session_id, "enough")
        out, err = demo.communicate(timeout=60)
    assert demo.returncode == exit_codes.ENDED["cancelled"]
    assert out == ""
    assert "Cancelled (enough)" in err
    assert "Traceback" not in err


@pytest.mark.exhaustive
def test_a_demo_whose_store_of_its_own_cannot_be_made_runs_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ran: Run
) -> None:
    (tmp_path / "file").write_text("We keep backups.\n")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    done = ran("demo", "--corpus", str(tmp_path), "backups")
    assert done.returncode == 0, done.stderr
    assert "We keep backups." in done.stdout
    assert "this run is kept nowhere" in done.stderr.splitlines()[0]


# The time it takes


@pytest.mark.exhaustive
def test_a_list_is_there_before_anybody_notices() -> None:
    def spent() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    def fastest(*command: str) -> float:
        """Seconds of a processor: how long a clock goes on meanwhile is for those to say who run beside."""
        times = []
        for _ in range(5):
            before = spent()
            subprocess.run([sys.executable, *command], capture_output=True, check=True, timeout=60)
            times.append(spent() - before)
        return min(times)

    measure = fastest("-c", "import trio")
    for arguments, most in ((("--help",), 1), (("ls",), 2)):
        assert fastest("-m", "trio_progress", *arguments) < most * measure, arguments
