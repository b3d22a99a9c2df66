"""The pure state against a naive model: whatever is called in whatever order, both agree."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.support import QuietHost, examples
from trio_progress import Limits, PhaseError, Pipeline, SessionClosedError, Snapshot
from trio_progress.protocol.clock import Clock
from trio_progress.protocol.snapshot import PhaseSnapshot
from trio_progress.state.phase import PhaseNode
from trio_progress.state.record import decode_record, encode_record, resume_from
from trio_progress.state.session import SessionState

NAMES = ["search", "analysis", "report"]
CHILDREN = ["a", "b", "c", "d", "e"]
PIPELINE = Pipeline("research", {"search": 3, "analysis": 2, "report": 1})
LIMITS = Limits(phases=6, counters=3, fields=2)

counts = st.integers(0, 5) | st.floats(0, 5).map(lambda value: round(value, 3))


class Model(RuleBasedStateMachine):
    """What is known of each phase by path: its status and its count, and of the session its counters."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.host = QuietHost()
        self.state = SessionState(
            "a",
            host=self.host,
            clock=Clock(lambda: self.now, lambda: 1e9 + self.now),
            pipeline=PIPELINE,
            limits=LIMITS,
            event_limit=4,
        )
        self.state.begin(7)
        self.status: dict[tuple[str, ...], str] = {(name,): "pending" for name in NAMES}
        self.done: dict[tuple[str, ...], float] = dict.fromkeys(self.status, 0)
        self.counters: dict[str, float] = {}
        self.events = 0
        self.completed: set[tuple[str, ...]] = set()
        self.published: list[tuple[Snapshot, Snapshot]] = []
        self.remember()

    # How the state is used

    def node(self, path: tuple[str, ...]) -> PhaseNode | None:
        node: PhaseNode | None = self.state.root
        for name in path:
            below = None if node is None else node.children.get(name)
            node = None if below is None else self.state.own(below)
        return node

    def remember(self) -> None:
        """Keeps the published state beside a deep copy, so that a later change of it would show."""
        snapshot = self.state.snapshot()
        if not self.published or self.published[-1][0].seq != snapshot.seq:
            copied = msgspec.json.decode(msgspec.json.encode(snapshot), type=Snapshot)
            self.published.append((snapshot, copied))

    @rule(seconds=st.floats(0, 30))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def publish(self) -> None:
        self.remember()

    @rule(name=st.sampled_from(NAMES), total=st.none() | st.integers(0, 9))
    def enter(self, name: str, total: int | None) -> None:
        self.enter_at((name,), self.state.root, total)

    @rule(parent=st.sampled_from(NAMES), name=st.sampled_from(CHILDREN), total=st.none() | st.integers(0, 9))
    def enter_child(self, parent: str, name: str, total: int | None) -> None:
        above = self.state.find(parent)
        if self.status[parent,] != "running":
            with pytest.raises((PhaseError, SessionClosedError)):
                self.state.enter(above, name, total=total)
            return
        self.enter_at((parent, name), above, total)

    def enter_at(self, path: tuple[str, ...], above: PhaseNode, total: int | None) -> None:
        if self.state.over or self.status.get(path, "pending") in ("running", "completed", "skipped"):
            seq = self.state.seq
            with pytest.raises((PhaseError, SessionClosedError)):
                self.state.enter(above, path[-1], total=total)
            assert self.state.seq == seq
            return
        fresh = path not in self.status
        if fresh and len(self.status) >= LIMITS.phases and not self.foldable():
            with pytest.raises(PhaseError, match="limit 'phases'"):
                self.state.enter(above, path[-1], total=total)
            return
        self.state.enter(above, path[-1], total=total)
        if fresh:
            self.forget_folded()
        self.status[path] = "running"
        self.done[path] = 0
        self.remember()

    @rule(parent=st.sampled_from(NAMES), name=st.sampled_from(CHILDREN))
    def do_again(self, parent: str, name: str) -> None:
        path = (parent, name)
        if self.state.over or self.status[parent,] != "running" or self.status.get(path) != "completed":
            return
        above = self.state.find(parent)
        self.state.publish()
        fraction = above.fraction
        child = self.state.enter(above, name, again=True)
        assert above.fraction == fraction, "what was reached is not taken back"
        assert child.attempt > 1
        self.completed.discard(path)
        self.status[path] = "running"
        self.done[path] = 0
        self.remember()

    def foldable(self) -> list[tuple[str, ...]]:
        over = ("completed", "failed", "cancelled", "skipped")
        return [path for path, status in self.status.items() if len(path) > 1 and status in over]

    def forget_folded(self) -> None:
        for path in [path for path in self.status if self.node(path) is None]:
            assert len(path) > 1
            assert self.status[path] in ("completed", "failed", "cancelled")
            del self.status[path], self.done[path]
            self.completed.discard(path)

    @rule(path=st.data(), n=counts)
    def advance(self, path: st.DataObject, n: float) -> None:
        chosen = path.draw(st.sampled_from(sorted(self.status)))
        node = self.node(chosen)
        assert node is not None
        if self.status[chosen] == "running":
            node.advance(n)
            self.done[chosen] += n
        elif self.status[chosen] == "pending" and not self.state.over and n:
            with pytest.raises(PhaseError, match="has not begun"):
                node.advance(n)
        else:
            late = self.host.lates
            node.advance(n)
            assert self.host.lates == late + bool(n)

    @rule(data=st.data(), status=st.sampled_from(["completed", "failed", "cancelled"]))
    def leave(self, data: st.DataObject, status: str) -> None:
        chosen = data.draw(st.sampled_from(sorted(self.status)))
        node = self.node(chosen)
        assert node is not None
        self.state.leave(node, status)  # type: ignore[arg-type]
        if self.status[chosen] == "running":
            for path in self.status:
                if path[: len(chosen)] == chosen and self.status[path] == "running":
                    self.ended(path, status)
            self.remember()

    def ended(self, path: tuple[str, ...], status: str) -> None:
        self.status[path] = status
        if status == "completed":
            self.completed.add(path)

    @rule(name=st.sampled_from(NAMES))
    def hand_over(self, name: str) -> None:
        if self.state.over:
            with pytest.raises(SessionClosedError):
                self.state.hand_over(name)
            return
        self.state.hand_over(name)
        if self.status[name,] in ("completed", "skipped"):
            return
        for before in NAMES[: NAMES.index(name)]:
            if self.status[before,] == "running":
                for path in self.status:
                    if path[0] == before and self.status[path] == "running":
                        self.ended(path, "completed")
            elif self.status[before,] == "pending":
                self.status[before,] = "skipped"
        if self.status[name,] != "running":
            self.status[name,] = "running"
            self.done[name,] = 0
        self.remember()

    @rule(name=st.sampled_from(["x", "y", "z", "too many"]), n=counts)
    def increment(self, name: str, n: float) -> None:
        if self.state.over:
            self.state.increment(name, n)
        elif name not in self.counters and len(self.counters) == LIMITS.counters:
            with pytest.raises(ValueError, match="limit 'counters'"):
                self.state.increment(name, n)
        else:
            self.state.increment(name, n)
            self.counters[name] = self.counters.get(name, 0) + n

    @rule()
    def emit(self) -> None:
        self.state.emit("e", {"n": self.events})
        self.events += not self.state.over

    @rule(bad=st.sampled_from([float("nan"), float("inf"), -1, 2**53, "1", None]))
    def refused(self, bad: object) -> None:
        before = self.state.snapshot()
        node = self.state.find("search")
        for call in (node.advance, node.skip, node.extend):
            with pytest.raises((ValueError, TypeError)):
                call(bad)  # type: ignore[arg-type]
        assert self.state.snapshot() is before
        self.remember()

    @precondition(lambda self: len(self.published) > 12)
    @rule(status=st.sampled_from(["completed", "failed", "cancelled", "timed_out", "interrupted"]))
    def end(self, status: str) -> None:
        if self.state.over:
            return
        self.state.end(status)  # type: ignore[arg-type]
        becomes = status if status in ("completed", "failed") else "cancelled"
        for path in self.status:
            if self.status[path] == "running":
                self.ended(path, becomes)
            elif self.status[path] == "pending" and status == "completed":
                self.status[path] = "skipped"
        assert (self.state.snapshot().progress == 1.0) == (status == "completed")
        self.remember()

    # What must stay true

    @invariant()
    def the_state_is_the_models(self) -> None:
        for path, status in self.status.items():
            node = self.node(path)
            assert node is not None
            assert node.status == status
            if status != "skipped":
                assert node.done == pytest.approx(self.done[path])
        assert self.state.counters == pytest.approx(self.counters)
        assert self.state.event_log.newest == self.events

    @invariant()
    def no_completion_is_lost_and_progress_never_falls(self) -> None:
        newest = self.published[-1][0]
        if len(self.published) > 1:
            before = self.published[-2][0]
            assert newest.seq > before.seq
            assert newest.progress >= before.progress
        for path in self.completed:
            assert newest.phase(*path).status == "completed"
        assert newest.progress < 1 or newest.status == "completed"

    @invariant()
    def a_fraction_is_one_only_of_what_has_ended(self) -> None:
        for phase in walk(self.published[-1][0].phases):
            assert (phase.fraction == 1.0) == (phase.status in ("completed", "skipped"))

    @invariant()
    def what_was_handed_out_does_not_change(self) -> None:
        for snapshot, copied in self.published[-6:]:
            assert snapshot == copied

    @invariant()
    def every_update_fits(self) -> None:
        newest = self.published[-1][0]
        if self.state.seq != newest.seq or self.state.dirty:
            return
        for old, _ in self.published[-8:]:
            if self.state.oldest_delta <= old.seq:
                update = self.state.update_since(old.seq, newest.resume)
                merged = update.apply(old)
                assert merged.resuming("") == self.state.snapshot().resuming("")

    def teardown(self) -> None:
        self.state.publish()
        data = encode_record(self.state)
        record = decode_record("a", self.state.epoch, self.state.seq, data)
        assert record.state.resuming("") == self.state.snapshot().resuming("")
        again = SessionState("a", host=QuietHost(), clock=self.state.clock, pipeline=PIPELINE, limits=LIMITS)
        resume_from(again, record, (), 4)
        for path, status in self.status.items():
            node = again.root
            for name in path:
                node = node.children[name]
            assert node.status == (status if status in ("completed", "skipped") else "pending")


def walk(phases: tuple[PhaseSnapshot, ...]) -> list[PhaseSnapshot]:
    return [found for phase in phases for found in (phase, *walk(phase.phases))]


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=examples(150), stateful_step_count=40)
