"""Whatever happens at whichever step, a session leaves nothing behind and ends exactly once."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Iterator

import pytest
import trio
import trio.testing

from tests.support import Cases, RecordingStore, Seeds, seeded_scheduler
from trio_progress import End, Pipeline, ProgressTracker, SessionActiveError, SessionNotFoundError, open_tracker
from trio_progress.protocol.messages import Message
from trio_progress.tracker import runtime_of

_memory_channel = trio.open_memory_channel[None]
PIPELINE = Pipeline("research", {"search": 3, "analysis": 2, "report": 1})
Scenario = Callable[[ProgressTracker], Awaitable[None]]
Channel = tuple[trio.MemorySendChannel[None], trio.MemoryReceiveChannel[None]]


async def flat(tracker: ProgressTracker) -> None:
    async with tracker.session("a", PIPELINE) as session:
        with session.phase("search", total=6) as phase:
            async with trio.open_nursery() as nursery:
                for _ in range(2):
                    nursery.start_soon(worker, phase.advance)
        await trio.sleep(3)
        session.emit("found", {"n": 1})
        session.advance_to("report").advance()


async def nested(tracker: ProgressTracker) -> None:
    async with tracker.session("a", PIPELINE) as outer, trio.open_nursery() as nursery:
        with outer.phase("search", total=3) as phase:
            nursery.start_soon(worker, phase.advance)  # noqa: ASYNC111 - a child is ended before its parent
            async with tracker.session("b") as inner:
                with inner.phase("part", total=3) as part:
                    await worker(part.advance)
            phase.advance()
        await trio.sleep(0.2)


async def beside(tracker: ProgressTracker) -> None:
    async def one(session_id: str) -> None:
        async with tracker.session(session_id) as session:
            await worker(lambda: session.increment("n"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one, "a")
        nursery.start_soon(one, "b")


async def cancelled_by_itself(tracker: ProgressTracker) -> None:
    async with tracker.session("a", PIPELINE) as session:
        with session.phase("search"):
            session.cancel("enough")
            await trio.sleep(1)


async def under_a_deadline(tracker: ProgressTracker) -> None:
    with trio.move_on_after(0.15):
        async with tracker.session("a", PIPELINE) as session:
            with session.phase("search") as phase:
                while True:
                    phase.advance()
                    await trio.sleep(0.02)


async def resumed(tracker: ProgressTracker) -> None:
    async with tracker.session("a", PIPELINE) as session:
        with session.phase("search"):
            await trio.sleep(0.01)
        session.fail("not yet")
    async with tracker.session("a", PIPELINE, resume="always") as session:
        session.advance_to("analysis")
        await trio.sleep(0.01)


async def worker(count: Callable[[], None]) -> None:
    for _ in range(3):
        count()
        await trio.sleep(0.05)


class At(trio.abc.Instrument):
    """Does something at the n-th step of any task."""

    def __init__(self, n: int, action: Callable[[], object]) -> None:
        self.n = n
        self.steps = 0
        self.action = action

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += 1
        if self.steps == self.n:
            self.action()


class Seen:
    """What the subscribers got, and the channels that were made."""

    def __init__(self) -> None:
        self.messages: dict[str, list[Message]] = {"a": [], "b": []}
        self.channels: list[trio.MemorySendChannel[None]] = []

    def __call__(self, size: int) -> Channel:
        ends: Channel = _memory_channel(size)
        self.channels.append(ends[0])
        return ends

    async def follow(self, tracker: ProgressTracker, session_id: str) -> None:
        # Shielded, so that it is there for the end, whatever is cancelled around it.
        with trio.CancelScope(shield=True):
            with trio.move_on_after(30):
                async with tracker.subscribe(session_id, wait=True) as messages:
                    async for message in messages:
                        self.messages[session_id].append(message)


async def run_once(
    scenario: Scenario, n: int, kind: str, store: RecordingStore, seen: Seen, whole: bool
) -> tuple[bool, ProgressTracker]:
    """One run with a cancel or a Ctrl-C at step n; says whether the scenario was over before that."""
    scope = trio.CancelScope()
    action = scope.cancel if kind == "cancel" else lambda: signal.raise_signal(signal.SIGINT)
    instrument = At(n, action)
    tracker_seen: list[ProgressTracker] = []

    async def with_tracker() -> None:
        async with open_tracker(store) as tracker:
            tracker_seen.append(tracker)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(seen.follow, tracker, "a")
                nursery.start_soon(seen.follow, tracker, "b")
                await trio.testing.wait_all_tasks_blocked()
                if whole:
                    await scenario(tracker)
                else:
                    trio.lowlevel.add_instrument(instrument)
                    try:
                        with scope:
                            await scenario(tracker)
                    finally:
                        trio.lowlevel.remove_instrument(instrument)
                nursery.cancel_scope.cancel()

    if whole:
        trio.lowlevel.add_instrument(instrument)
        try:
            with scope:
                await with_tracker()
        finally:
            trio.lowlevel.remove_instrument(instrument)
    else:
        await with_tracker()
    return instrument.steps < n, tracker_seen[0] if tracker_seen else None  # type: ignore[return-value]


def check(store: RecordingStore, seen: Seen, tracker: ProgressTracker | None, about: str) -> None:
    """Nothing is left, every epoch ended once, and `End` came last wherever a session began."""
    for channel in seen.channels:
        open_ends = channel.statistics().open_send_channels + channel.statistics().open_receive_channels
        assert open_ends == 0, about
    assert store.leases == {}, about
    for session_id in store.taken:
        for epoch, ends in store.ends(session_id).items():
            assert len(ends) == 1, f"{about}: session {session_id} epoch {epoch} has the ends {ends}"
        keys = [key for key, _ in store.taken[session_id]]
        assert keys == sorted(keys), about
        assert store.taken[session_id][-1][1].ended, about
    for session_id, messages in seen.messages.items():
        places = [place for place, message in enumerate(messages) if isinstance(message, End)]
        if places:
            assert places == [len(messages) - 1], f"{about}: {messages}"
        first_epoch = [key for key, _ in store.taken.get(session_id, ())][:1]
        if first_epoch and tracker is not None:
            assert places, f"{about}: the subscriber of {session_id} saw no end: {messages}"
            last = messages[-1]
            assert isinstance(last, End)
            stored_end = store.ends(session_id)[first_epoch[0].epoch][0]
            assert (last.status, last.persisted_seq) == (stored_end.status, stored_end.seq), about
    if tracker is not None:
        assert runtime_of(tracker).open == {}, about
        assert runtime_of(tracker).hub.topics == {}, about
        assert runtime_of(tracker).held()["writers"] == (), about


def sweep(
    scenario: Scenario, kind: str, seed: int, whole: bool, stride: int, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[int, list[str]]]:
    """Runs with the n-th step hit, for each `stride`-th n from where the seed says; yields how the sessions ended."""
    n = seed % stride + 1 - stride
    while True:
        n += stride
        store, seen = RecordingStore(delay=0.001), Seen()
        monkeypatch.setattr("trio_progress.session.lifecycle.trio.open_memory_channel", seen)
        about = f"{scenario.__name__}, {kind} at step {n}"
        tracker = None
        done = False
        with seeded_scheduler(seed):
            clock = trio.testing.MockClock(autojump_threshold=0)
            try:
                done, tracker = trio.run(run_once, scenario, n, kind, store, seen, whole, clock=clock)
            except* KeyboardInterrupt:
                assert kind == "interrupt", about
        check(store, seen, tracker, about)
        yield n, [ends[0].status for session_id in store.taken for ends in store.ends(session_id).values()]
        if done:
            return
        assert n < 2000, "the scenario does not end"


@pytest.mark.parametrize("whole", [False, True], ids=["scenario", "tracker"])
@pytest.mark.parametrize("kind", ["cancel", "interrupt"])
@pytest.mark.parametrize("scenario", [flat, nested, beside, cancelled_by_itself, under_a_deadline, resumed])
def test_a_cancel_or_a_ctrl_c_at_any_step_leaves_nothing_and_ends_each_session_once(
    scenario: Scenario, kind: str, whole: bool, seed: int, cases: Cases, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes: dict[str, int] = {}
    steps = 0
    # Of the one that cancels itself few steps end by the cancel or the Ctrl-C that comes at them.
    percent = cases(25 if scenario is cancelled_by_itself else 8, exhaustive=100)
    for step, statuses in sweep(scenario, kind, seed, whole, 100 // percent, monkeypatch):
        steps = step
        for status in statuses:
            outcomes[status] = outcomes.get(status, 0) + 1
    assert steps > 20
    expected = {"cancel": "cancelled", "interrupt": "interrupted"}[kind]
    assert outcomes.get(expected, 0) > 0, outcomes


def test_a_second_ctrl_c_while_leaving_changes_nothing(seed: int, exhaustive: bool) -> None:
    hit = 0
    for first in range(5, 60, 5):
        for later in range(1, 25, 2) if exhaustive else range(1 + seed % 8, 25, 8):
            store, seen = RecordingStore(delay=0.05), Seen()

            count = At(first, lambda: signal.raise_signal(signal.SIGINT))
            again = At(first + later, lambda: signal.raise_signal(signal.SIGINT))

            async def main(store: RecordingStore = store, both: tuple[At, At] = (count, again)) -> None:
                async with open_tracker(store) as tracker:
                    for one in both:
                        trio.lowlevel.add_instrument(one)
                    await flat(tracker)

            interrupted = False
            with seeded_scheduler(seed):
                try:
                    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
                except* KeyboardInterrupt:
                    interrupted = True
            assert interrupted == (count.steps >= first)
            check(store, seen, None, f"Ctrl-C at {first} and {first + later}")
            hit += bool(store.taken)
    assert hit > (50 if exhaustive else 12)


def test_the_same_id_again_and_again_from_many_tasks_never_leaks_and_never_breaks(
    seeds: Seeds,
) -> None:
    """The seed's third race: start and cleanup of one id, concurrently."""
    for seed in seeds(8, exhaustive=100):
        store = RecordingStore(delay=0.001)
        begun = refused = 0

        async def main(seed: int = seed, store: RecordingStore = store) -> None:
            nonlocal begun, refused
            async with open_tracker(store) as tracker, trio.open_nursery() as nursery:

                async def one(number: int) -> None:
                    nonlocal begun, refused
                    await trio.sleep(rng.random() * 0.05)
                    with trio.move_on_after(rng.random() * 0.05):
                        try:
                            async with tracker.session("same") as session:
                                begun += 1
                                session.increment("n", number)
                                await trio.sleep(rng.random() * 0.02)
                        except SessionActiveError:
                            refused += 1
                    if rng.random() < 0.3:
                        try:
                            await tracker.cancel("same")
                        except SessionNotFoundError:
                            pass

                for number in range(20):
                    nursery.start_soon(one, number)

        with seeded_scheduler(seed) as rng:
            trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
        assert begun > 0
        assert store.leases == {}
        assert sum(len(ends) for ends in store.ends("same").values()) == len(store.ends("same")) >= begun
