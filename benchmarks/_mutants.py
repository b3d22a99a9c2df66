"""Bugs that are planted into a copy of the package, each of which the explorer has to find in our scenarios.

Each is a few lines of source put in place of others, of the kind that a review lets pass. `hunt()` makes the
copy, and runs the scenarios on it in a process of its own. Where the text to be replaced is no longer there,
that is an error: the bug is then to be planted anew.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ._copies import copy_to_change

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Mutant:
    """One bug.

    Args:
        name: What it is.
        file: Below `trio_progress`.
        old: What is replaced; once in the file.
        new: By what.
        scenarios: Which are to find it, in this order; each has the whole budget.
    """

    name: str
    file: str
    old: str
    new: str
    scenarios: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """What found a bug, and after how many schedules in all; or that nothing did."""

    mutant: str
    scenario: str | None
    schedules: int
    error: str


MUTANTS = (
    Mutant(
        "race 1: a hand-over looks first, and completes what runs in a second step",
        "state/transitions.py",
        """            if node.status == "running":
                self._close(node, "completed", now, wall)
            elif""",
        """            if node.status == "running" and node.done < 2:
                self._close(node, "completed", now, wall)
            elif""",
        ("hand_over_while_others_report",),
    ),
    Mutant(
        "race 1, the other way: a late hand-over goes back to a phase that has completed",
        "state/transitions.py",
        "        if target is not None and target.status in ABSORBING:",
        "        if target is not None and target.status in ABSORBING and target.done:",
        ("hand_over_while_others_report",),
    ),
    Mutant(
        "race 2: a counter goes on from the state that was published, not from the newest",
        "state/session.py",
        "self.counters.get(name, 0) + n, least=None)",
        "(self._head.counters if self._head else {}).get(name, 0) + n, least=None)",
        ("concurrent_updates_of_one_session",),
    ),
    Mutant(
        "race 3: the id is reserved after the store has answered",
        "session/scope.py",
        """        runtime.open[session_id] = self._reservation
        try:
            await runtime.turns.take()
            lifecycle, interrupt = await self._claimed()
""",
        """        try:
            lifecycle, interrupt = await self._claimed()
            runtime.open[session_id] = self._reservation
""",
        ("start_and_cleanup_of_one_id",),
    ),
    Mutant(
        "race 4: the subscriber is registered by what was there before the store was read",
        "live/hub.py",
        """            topic = self.topics.get(session_id)
            if topic is None or topic.feed is None:
                if stored is None or not self._visible(stored, allows):""",
        """            if topic is None or topic.feed is None:
                if stored is None or not self._visible(stored, allows):""",
        ("subscribe_while_it_is_published", "workers_on_overlapping_phases"),
    ),
    Mutant(
        "race 4, the other way: a subscriber listens for news after it has read the state",
        "live/subscription.py",
        """            waited = True
            self._news = trio.Event()
""",
        """            waited = True
            await trio.lowlevel.checkpoint()
            self._news = trio.Event()
""",
        ("subscribe_while_it_is_published", "one_session_two_workers"),
    ),
    Mutant(
        "a lost wake-up: the broadcaster pauses after its tick, and throws away a token that came meanwhile",
        "session/broadcaster.py",
        """                            not_before = now + self._interval
                            self._state.publish()
                            self._topic.announce()
""",
        """                            not_before = now + self._interval
                            self._state.publish()
                            self._topic.announce()
                            with trio.move_on_after(self._interval):
                                await self._left.wait()
                            if self._wake.pending:
                                await anext(tokens)
                                self._wake.pending = False
""",
        ("burst_and_debounce",),
    ),
    Mutant(
        "a lost wake-up: the committer makes its event anew after it has looked",
        "storage/committer.py",
        """                    if not self._waiting:
                        self._wake = trio.Event()
""",
        """                    if not self._waiting:
                        await trio.lowlevel.checkpoint()
                        self._wake = trio.Event()
""",
        ("store_down_and_back", "one_session_two_workers", "start_and_cleanup_of_one_id"),
    ),
    Mutant(
        "an unshielded flush: a cancel around the session stops the persister",
        "session/persister.py",
        "trio.CancelScope(deadline=self._deadline, shield=True)",
        "trio.CancelScope(deadline=self._deadline)",
        ("leaving_while_being_cancelled",),
    ),
    Mutant(
        "a frame after the close: what is new goes out after End",
        "live/cursor.py",
        "        return end, cursor._replace(over=True)",
        "        return end, cursor._replace(whole=True)",
        ("slow_and_dying_subscribers", "subscribe_while_it_is_published"),
    ),
    Mutant(
        "a second end: the final state is written twice",
        "session/persister.py",
        """                    await self._store()
            finally:
                self.flushed.set()""",
        """                    await self._store()
                    self.stored = None
                    await self._store()
            finally:
                self.flushed.set()""",
        ("start_and_cleanup_of_one_id",),
    ),
    Mutant(
        "a fraction that falls when the total grows",
        "state/tree.py",
        "        self.progress = max(self.progress, self.raw)\n        return seq",
        "        self.progress = self.raw\n        return seq",
        ("subscribe_while_it_is_published",),
    ),
    Mutant(
        "an update lacks what changed in the very state that follows its own",
        "state/reading.py",
        "            phases=tuple(self._changes(since)),",
        "            phases=tuple(self._changes(since + 1)),",
        ("subscribe_while_it_is_published", "slow_and_dying_subscribers"),
    ),
    Mutant(
        "the store is thought to hold what was published while it wrote",
        "session/persister.py",
        "                    self.stored, self._stored_event = self._sent",
        "                    self.stored, self._stored_event = self._state.seq, self._sent[1]",
        ("workers_on_overlapping_phases", "store_down_and_back"),
    ),
    Mutant(
        "a claim whose answer was lost is made anew, as somebody else's",
        "session/persister.py",
        "            self._claiming = self._claiming or self._claim()",
        "            self._claiming = self._claim()",
        ("store_down_and_back", "leaving_while_being_cancelled"),
    ),
    Mutant(
        "the lease is kept when the session has ended",
        "session/persister.py",
        "            lease=None if state.over else settings.lost_after,",
        "            lease=settings.lost_after,",
        ("leaving_while_being_cancelled", "start_and_cleanup_of_one_id"),
    ),
    Mutant(
        "an owner that was fenced goes on",
        "session/persister.py",
        """            case _:
                self._lose(outcome)
""",
        """            case _:
                self.stored, self._stored_event = self._sent
""",
        ("two_owners_and_fencing",),
    ),
    Mutant(
        "End comes before the flush, and does not say what the store holds",
        "session/broadcaster.py",
        """                if not self._flushed.is_set():
                    with trio.CancelScope(shield=True):
                        await self._flushed.wait()
""",
        "",
        ("leaving_while_being_cancelled",),
    ),
    Mutant(
        "the heartbeat outlives the session",
        "session/heartbeat.py",
        """            while not self._flushed.is_set():
                due = trio.current_time() + self._interval
                with trio.CancelScope(deadline=due, shield=True):
                    await self._flushed.wait()
                    return
""",
        """            while True:
                due = trio.current_time() + self._interval
                with trio.CancelScope(deadline=due, shield=True):
                    await trio.sleep_forever()
""",
        ("one_session_two_workers",),
    ),
    Mutant(
        "the reader goes on waiting for what nobody watches any more",
        "live/store_watcher.py",
        "        if self._waiting is not None:",
        "        if self._waiting is not None and not self._seen:",
        ("watched_from_another_process",),
    ),
    Mutant(
        "an event is skipped where two are owed",
        "live/cursor.py",
        "    logged = log.first_after(event)\n",
        "    logged = log.first_after(event + 1) or log.first_after(event)\n",
        ("subscribe_while_it_is_published",),
    ),
    Mutant(
        "the bar goes where the estimate is, also back",
        "state/estimate.py",
        "                self.bar += SLOWEST * step",
        "                self.bar = target",
        ("runs_that_teach",),
    ),
    Mutant(
        "an end that is stored again is learnt again",
        "stores/memory.py",
        """            if append.lesson is not None and append.index.pipeline is not None:
                self._learn(append.index.pipeline, append.lesson)
        if append.key == log.key:""",
        """        if append.lesson is not None and append.index.pipeline is not None:
            self._learn(append.index.pipeline, append.lesson)
        if append.key == log.key:""",
        ("runs_that_teach",),
    ),
    Mutant(
        "a phase that failed teaches how long it takes",
        "state/estimate.py",
        """            elif node.status == "completed" and node.name in shares""",
        """            elif node.status in ("completed", "failed") and node.name in shares""",
        ("runs_that_teach",),
    ),
    Mutant(
        "a fence that is repeated means the owner of now",
        "session/commands.py",
        """        if epoch is None:
            epoch = stored.key.epoch
        fence = Fence(""",
        """        epoch = stored.key.epoch
        fence = Fence(""",
        ("fenced_by_two_who_ask_again",),
    ),
    Mutant(
        "a fence does not look at whose epoch it meets",
        "storage/fencing.py",
        "        if stored.key.epoch != self.epoch or decode_head(",
        "        if decode_head(",
        ("fenced_by_two_who_ask_again",),
    ),
    Mutant(
        "counts by a file: what stands there when the phase ends is not taken in",
        "session/process_counts.py",
        """            self._slots.take_back_of_the_dead()
            self.draw()""",
        "            self._slots.take_back_of_the_dead()",
        ("counts_by_a_file",),
    ),
    Mutant(
        "counts by a file: they are taken in after the phase has ended, too",
        "session/process_counts.py",
        "            self._finished = True",
        "            self._finished = self.left",
        ("counts_by_a_file",),
    ),
    Mutant(
        "counts by a file: what a job that raises has counted stays",
        "counting/counter.py",
        "keep=error is None)",
        "keep=True)",
        ("counts_by_a_file",),
    ),
    Mutant(
        "counts by a file: what comes too late is not noticed",
        "session/lifecycle.py",
        "        self.core.close_counts()\n",
        "",
        ("counts_by_a_file",),
    ),
    Mutant(
        "an end leaves a session in the list of those that run, until its lease would have lapsed",
        "stores/memory.py",
        """        if moved:
            self._settle(append.id, now)
        return Done()""",
        """        if moved and append.lease is not None:
            self._settle(append.id, now)
        return Done()""",
        ("two_owners_and_fencing",),
    ),
    Mutant(
        "a job cancels its parts before the store has taken its end",
        "session/parts_left.py",
        "        return not persister.fenced and persister.stored == self._core.state.seq",
        "        return True",
        ("a_job_ends_while_its_store_is_down",),
    ),
    Mutant(
        "a job cancels whatever it follows",
        "storage/part_cancelling.py",
        "if head.parent != self.parent:",
        "if head.parent is None:",
        ("two_jobs_of_which_one_owns_the_part",),
    ),
    Mutant(
        "a follower gives up what is written off as lost",
        "state/mirror.py",
        'AWAITED: Final = frozenset({"interrupted", "lost"})',
        'AWAITED: Final = frozenset({"interrupted"})',
        ("followed_into_the_next_attempt",),
    ),
    Mutant(
        "next_session: cancelled while its claim is under way, the session ends as cancelled and waits no more",
        "session/next_session.py",
        """            self._runtime.open[session.id].stop("it was cancelled before it was run", interrupted=True)
""",
        "",
        ("workers_take_what_waits",),
    ),
    Mutant(
        "next_session: what was reserved by a call whose answer was lost stays so",
        "stores/memory_queue.py",
        "        if reserved is not None and reserved[1] <= now:",
        "        if reserved is not None and reserved[1] <= now and not self._waiting:",
        ("workers_take_what_waits",),
    ),
    Mutant(
        "next_session: who was rung and stops waiting has the others look by themselves",
        "stores/memory_queue.py",
        "            self._ring_next(release.id, (), now)\n",
        "",
        ("a_bell_reaches_somebody",),
    ),
)
"""All of them; the first are the races that the project began with."""


EXHAUST = "exhaust"
LEAVING = ("an unshielded flush", "End comes before the flush", "the lease is kept")
"""How the bugs in a session's leaving begin, which `exhaust()` finds in `one_session_left` with one deviation."""


def hunt(mutant: Mutant, budget: int, seed: int, *, exhaust: bool = False) -> Found:
    """Plants the bug in a copy, and explores that in a fresh process, at most `budget` schedules a scenario.

    With `exhaust` all orders of `one_session_left` are run that have at most one deviation.

    Raises:
        LookupError: What is to be replaced is not there, or not once.
        RuntimeError: The process did not get as far as exploring.
    """
    with tempfile.TemporaryDirectory(prefix="trio-progress-mutant-") as folder:
        copy = Path(folder) / "trio_progress"
        copy_to_change(ROOT / "trio_progress", copy, [mutant.file])
        plant(copy, mutant)
        names = [EXHAUST] if exhaust else mutant.scenarios
        environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
        for name in ("TRIO_PROGRESS_SEED", "PYTEST_CURRENT_TEST"):
            environment.pop(name, None)
        run = subprocess.run(  # noqa: S603 - our own code
            [sys.executable, "-P", "-m", "benchmarks._mutants", str(budget), str(seed), folder, *names],
            capture_output=True,
            text=True,
            env=environment,
            cwd=folder,
            check=False,
        )
    if run.returncode:
        raise RuntimeError(f"{mutant.name}: exploring has failed by itself:\n{run.stderr[-3000:]}")
    scenario, schedules, error = json.loads(run.stdout.splitlines()[-1])
    return Found(mutant.name, scenario, schedules, error)


def plant(package: Path, mutant: Mutant) -> None:
    """Replaces the lines.

    Raises:
        LookupError: They are not there, or not once.
    """
    path = package / mutant.file
    source = path.read_text(encoding="utf-8")
    if source.count(mutant.old) != 1:
        raise LookupError(f"{mutant.name}: its place is {source.count(mutant.old)} times in {path}; plant it anew")
    path.write_text(source.replace(mutant.old, mutant.new), encoding="utf-8")


def _explore(budget: int, seed: int, names: list[str]) -> tuple[str | None, int, str]:
    from trio_progress.testing import ScheduleError, exhaust, explore

    from . import _scenarios

    _scenarios.quiet()
    tried = 0
    for name in names:
        try:
            if name == EXHAUST:
                return (
                    None,
                    exhaust(_scenarios.one_session_left, deviations=1, most=budget, horizon=600.0).schedules,
                    "",
                )
            explore(getattr(_scenarios, name), schedules=budget, seed=seed, horizon=600.0, steps=20_000, shrink=0)
        except ScheduleError as error:
            leaf: BaseException = error.error
            while isinstance(leaf, BaseExceptionGroup):
                leaf = leaf.exceptions[0]
            return name, tried + error.tried, f"{type(leaf).__name__}: {leaf}"[:200]
        tried += budget
    return None, tried, ""


def _main() -> None:
    budget, seed, folder, *names = sys.argv[1:]
    import trio_progress

    assert Path(trio_progress.__file__).is_relative_to(Path(folder).resolve()) or trio_progress.__file__.startswith(
        folder
    ), trio_progress.__file__
    print(json.dumps(_explore(int(budget), int(seed), names)))


if __name__ == "__main__":
    _main()
