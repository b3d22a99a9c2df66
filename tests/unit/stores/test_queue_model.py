"""What the store in memory and the one in a file hand out, beside a plain list of what waits, after any writes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import trio
from hypothesis import example, given, settings
from trio.testing import MockClock

from tests.store_contract.queue_model import QueueModel
from tests.store_contract.queue_steps import COURSE, Step, steps
from tests.support import examples
from trio_progress.stores import memory, memory_queue
from trio_progress.stores.base import Store
from trio_progress.stores.memory import MemoryStore
from trio_progress.stores.sqlite import queue, writes
from trio_progress.stores.sqlite.backend import SqliteBackend
from trio_progress.stores.sqlite.machine import MachineClock
from trio_progress.stores.threaded import ThreadedStore


def run(make: Callable[[MockClock], Store], done: list[Step]) -> None:
    async def main() -> None:
        store = make(clock)
        try:
            await QueueModel(store, clock.jump, trio.current_time).run(done)
        finally:
            await store.aclose()

    clock = MockClock()
    trio.run(main, clock=clock)


def in_memory(clock: MockClock) -> Store:
    return MemoryStore()


def in_a_file(clock: MockClock, folder: Path) -> Store:
    machine = MachineClock("boot", clock.current_time, lambda: 1e9 + clock.current_time())
    return ThreadedStore(SqliteBackend(folder / "store.db", idle_poll=0.002, clock=machine))


@example(done=COURSE)
@given(done=steps())
def test_the_store_in_memory_hands_out_what_a_list_would(done: list[Step]) -> None:
    run(in_memory, done)


@settings(max_examples=examples(30))
@example(done=COURSE)
@given(done=steps())
def test_the_store_in_a_file_hands_out_what_a_list_would(done: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run(lambda clock: in_a_file(clock, Path(folder)), done)


# Bugs that are planted, each of which the course finds

IN_MEMORY = {
    "the newest comes first": (
        "entries: Iterator[Entry] = self._takeable.oldest_first(goes_by, buckets)",
        "entries: Iterator[Entry] = reversed(list(self._takeable.oldest_first(goes_by, buckets)))",
    ),
    "what is reserved is given away": ("if session_id not in self._reserved and", "if"),
    "what a process cannot open is given to it": (" and session_id not in take.without", ""),
    "a reservation never lapses": ("and reserved[1] <= now:", "and reserved[1] < 0:"),
    "anybody gives back": (
        'if self._reserved.get(session_id, ("", 0.0))[0] == release.id:',
        "if session_id in self._reserved:",
    ),
    "what is given back rings nobody": (
        "                    self._ring(session_id, now)\n",
        "                    pass\n",
    ),
    "a claim ends no reservation": (
        "if self._reserved.pop(session_id, None) is not None and",
        "if session_id in self._reserved and",
    ),
    "written off while it is reserved, it rings nobody": ('._replace(bucket="")', ""),
    "an owner that comes back ends a reservation": ("self._unlist(session_id)  # A", "self.drop(session_id)  # A"),
    "who has come last is rung": ("in list(self._waiting.items()):", "in reversed(list(self._waiting.items())):"),
    "who cannot use it is rung": ("elif any(map(stands.is_wanted, waiting.wanted)):", "else:"),
    "who is not heard of is rung": ("if waiting.until <= now:", "if False:"),
    "who has left is rung": ("if release.leaves:", "if False:"),
    "who has enough is rung": ("if not short or (known is", "if (known is"),
    "who looks again loses its place": (
        "            self._waiting[take.id] =",
        "            self._waiting.pop(take.id, None)\n            self._waiting[take.id] =",
    ),
    "who was rung and leaves rings nobody": ("            self._ring_next(release.id, (), now)\n", ""),
    "who was rung for what it wants no more rings nobody": ("        self._ring_next(take.id, short, now)\n", ""),
    "the next is rung for what is taken": (" or rung.session_id in self._reserved:", ":"),
    "the next is rung for what was looked at in vain": ("if not any(map(stands.is_wanted, short)):", "if True:"),
    "what was begun too often is not told": ("[begun(wanted.max_attempts)]", "[begun(wanted.max_attempts + 1)]"),
}
IN_A_FILE = {
    "the newest comes first": ("ORDER BY queued_at, session", "ORDER BY queued_at DESC, session"),
    "what is reserved is given away": (
        "if session in without or self._is_reserved(session):",
        "if session in without:",
    ),
    "a reservation never lapses": ("return row is not None and self._left(row) > 0", "return row is not None"),
    "what has lapsed is not found": ("merge(self._indexed(wanted, buckets), lapsed)", "self._indexed(wanted, buckets)"),
    "labels are not looked at": ("or not wanted.fits(by.pipeline, labels_of(by))", ""),
    "who has come last is rung": ("FROM waiting ORDER BY n", "FROM waiting ORDER BY n DESC"),
    "who is not heard of is rung": ("here = self._left(lease) > 0", "here = True"),
    "who looks again loses its place": (
        "if left <= 0:",
        "if self._stop_waiting(take.id) is None:",
    ),
    "who was rung and leaves rings nobody": ("            self._ring_next(release.id)\n", ""),
    "who was rung for what it wants no more rings nobody": ("        self._ring_next(take.id, short)\n", ""),
    "the next is rung for what is taken": ("if session is None or self._is_reserved(session):", "if session is None:"),
    "the next is rung for what was looked at in vain": (
        "if not any(bucket in buckets_of(one) and one.fits(by.pipeline, labels) for one in short):",
        "if True:",
    ),
}


def planted(module: ModuleType, bug: tuple[str, str]) -> ModuleType:
    """A copy of a module with other text in it.

    Raises:
        LookupError: The text that is to be replaced is not there, or not once: the bug is to be planted anew.
    """
    assert module.__file__ is not None
    source = Path(module.__file__).read_text(encoding="utf-8")
    if source.count(bug[0]) != 1:
        raise LookupError(f"{bug[0]!r} is there {source.count(bug[0])} times")
    copy = ModuleType(module.__name__)
    vars(copy)["__package__"] = module.__package__
    exec(compile(source.replace(*bug), module.__file__, "exec"), vars(copy))
    return copy


@pytest.mark.parametrize("name", IN_MEMORY)
def test_a_bug_that_is_planted_into_the_store_in_memory_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MemoryQueue", planted(memory_queue, IN_MEMORY[name]).MemoryQueue)
    with pytest.raises(AssertionError):
        run(in_memory, COURSE)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", IN_A_FILE)
def test_a_bug_that_is_planted_into_the_store_in_a_file_is_found(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writes, "Queue", planted(queue, IN_A_FILE[name]).Queue)
    with pytest.raises(AssertionError):
        run(lambda clock: in_a_file(clock, tmp_path), COURSE)
