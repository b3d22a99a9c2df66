"""The pure state beside a naive model that computes all anew: trees of any depth, folding, all pairs of states."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.support import QuietHost, examples
from trio_progress import Limits, PhaseError, Pipeline, ProtocolError, SessionClosedError, Snapshot
from trio_progress.protocol.clock import Clock
from trio_progress.protocol.snapshot import PhaseSnapshot, PhaseStatus, SessionStatus
from trio_progress.state.fraction import CAP
from trio_progress.state.phase import PhaseNode
from trio_progress.state.record import decode_record, encode_record, resume_from
from trio_progress.state.session import SessionState

LIMITS = Limits(phases=4, depth=3, counters=2, fields=2)
WEIGHTS = {"search": 3, "analysis": 2, "report": 1}
NAMES = [*WEIGHTS, "a", "b"]

ABSORBING = ("completed", "skipped")
OVER = (*ABSORBING, "failed", "cancelled")

some_name = st.sampled_from(NAMES)
some_phase = st.integers(0, 9)
some_count = st.integers(0, 6) | st.sampled_from([0.25, 2.5])
some_total = st.none() | st.integers(0, 9)


@dataclass
class Thing:
    """A phase, as the model has it; `was` is the fraction in which it failed."""

    name: str
    weight: float = 1
    declared: bool = False
    status: str = "pending"
    attempt: int = 0
    done: float = 0
    skipped: float = 0
    total: float | None = None
    message: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    below: dict[str, Thing] = field(default_factory=dict)
    folded: int = 0
    folded_weight: float = 0
    folded_units: int = 0
    was: float | None = None

    def told(self) -> float:
        """What is said to be done: at least the children that completed and weigh nothing."""
        if self.total is None:
            return self.done
        units = sum(one.status == "completed" and not one.weight for one in self.below.values())
        return max(self.done, units + self.folded_units)

    def fraction(self) -> float | None:
        if self.status in ABSORBING:
            return 1.0
        if self.status == "pending":
            return 0.0
        return self.was if self.status in OVER else self.computed()

    def computed(self) -> float | None:
        parts: list[tuple[float, float]] = [(child.weight, child.fraction() or 0.0) for child in self.below.values()]
        parts += [(self.folded_weight, 1.0)] * bool(self.folded)
        own = None if self.total is None else min(self.told() / self.total, 1.0) if self.total else 0.0
        if not parts:
            return None if own is None else min(own, CAP)
        if self.total:
            units = [one.fraction() or 0.0 for one in self.below.values() if not one.weight and one.status == "running"]
            own = min((self.told() + sum(units)) / self.total, 1.0)
        weight = sum(weight for weight, _ in parts)
        if own is not None:
            parts.append((1.0, own))
            weight += 1.0
        elif self.name and weight:
            # Another child of the usual weight may come.
            done = sum(weight * part for weight, part in parts)
            weight = max(weight, done + weight / (len(self.below) + self.folded))
        return min(sum(weight * part for weight, part in parts) / weight, CAP) if weight else None

    def walk(self, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Thing]]:
        for name, child in self.below.items():
            yield (*above, name), child
            yield from child.walk((*above, name))

    def close(self, status: str) -> None:
        for child in self.below.values():
            if child.status == "running":
                child.close(status)
        self.was = self.computed() if status not in ABSORBING and self.status == "running" else self.was
        self.status = status


class StateMachine(RuleBasedStateMachine):
    """Whatever is called, in whatever order and whenever it is published, both agree."""

    @initialize(declared=st.booleans())
    def begin(self, declared: bool) -> None:
        self.now = 0.0
        self.host = QuietHost()
        self.pipeline = Pipeline("research", WEIGHTS) if declared else None
        self.state = SessionState(
            "a",
            host=self.host,
            clock=Clock(lambda: self.now, lambda: 1e9 + self.now),
            pipeline=self.pipeline,
            limits=LIMITS,
        )
        self.top = Thing("", status="running")
        if declared:
            self.top.below = {name: Thing(name, weight / 6, declared=True) for name, weight in WEIGHTS.items()}
        self.counters: dict[str, float] = {}
        self.fields: dict[str, Any] = {}
        self.progress = 0.0
        self.touched = False
        self.states: list[tuple[Snapshot, bytes]] = []
        self.state.begin(7)
        self.publish()

    # Where things are

    def node(self, path: tuple[str, ...]) -> PhaseNode:
        node = self.state.root
        for name in path:
            node = self.state.own(node.children[name])
        return node

    def chosen(self, index: int) -> tuple[tuple[str, ...], Thing]:
        there = [((), self.top), *self.top.walk()]
        return there[index % len(there)]

    # What is done

    @rule(seconds=st.floats(0, 40))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def publish(self) -> None:
        for _, thing in self.top.walk():
            thing.skipped = min(thing.skipped, thing.done)
        before = self.states[-1][0] if self.states else None
        snapshot = self.state.snapshot()
        if before is not None and not self.touched:
            assert snapshot.seq == before.seq
        elif before is not None:
            assert snapshot.seq == before.seq + 1
        self.touched = False
        if before is None or before.seq != snapshot.seq:
            self.progress = max(self.progress, 1.0 if snapshot.status == "completed" else self.top.computed() or 0.0)
            self.states.append((snapshot, msgspec.json.encode(snapshot)))
            self.compare(snapshot)
            self.updates_fit([0, len(self.states) // 2, -2])

    def at_once(self) -> None:
        """What was called must have been published by itself."""
        assert not self.state.dirty
        assert self.state.seq == self.states[-1][0].seq + 1
        self.touched = True
        self.publish()

    @rule(index=some_phase, name=some_name, total=some_total, weight=st.sampled_from([None, 0, 2]))
    def enter(self, index: int, name: str, total: float | None, weight: float | None) -> None:
        path, above = self.chosen(index)
        if not path and self.pipeline is not None:
            weight = None
        thing = above.below.get(name)
        allowed = (
            not self.state.over
            and above.status == "running"
            and len(path) < LIMITS.depth
            and (thing is None or thing.status not in ("running", *ABSORBING))
            and (thing is not None or path != () or self.pipeline is None)
            and (thing is not None or self.has_room())
        )
        if not allowed:
            self.refused(lambda: self.state.enter(self.node(path), name, total=total, weight=weight))
            return
        self.state.enter(self.node(path), name, total=total, weight=weight)
        thing = thing or self.made(above, name)
        if weight is not None:
            thing.weight = weight
        self.run(thing)
        thing.total = total
        self.at_once()

    def has_room(self) -> bool:
        there = list(self.top.walk())
        return len(there) < LIMITS.phases or any(not thing.declared and thing.status in OVER for _, thing in there)

    def made(self, above: Thing, name: str) -> Thing:
        there = list(self.top.walk())
        if len(there) >= LIMITS.phases:
            path, gone = next((path, thing) for path, thing in there if not thing.declared and thing.status in OVER)
            parent = dict([((), self.top), *there])[path[:-1]]
            del parent.below[path[-1]]
            parent.folded += 1 + gone.folded
            parent.folded_weight += gone.weight
            parent.folded_units += gone.status == "completed" and not gone.weight
        above.below[name] = Thing(name, 1.0 if above is self.top or above.total is None else 0.0)
        return above.below[name]

    def run(self, thing: Thing) -> None:
        thing.status = "running"
        thing.attempt += 1
        if thing.attempt > 1:
            thing.done = thing.skipped = 0

    @rule(index=some_phase, status=st.sampled_from(["completed", "completed", "failed", "cancelled"]))
    def leave(self, index: int, status: PhaseStatus) -> None:
        path, thing = self.chosen(index)
        if not path:
            return
        running = thing.status == "running"
        self.state.leave(self.node(path), status)
        if running:
            thing.close(status)
            self.at_once()

    @rule(name=some_name, total=some_total)
    def hand_over(self, name: str, total: float | None) -> None:
        target = self.top.below.get(name)
        if self.state.over or (target is None and self.pipeline is not None):
            self.refused(lambda: self.state.hand_over(name, total=total))
        elif target is not None and target.status in ABSORBING:
            self.late(lambda: self.state.hand_over(name, total=total))
        else:
            self.state.hand_over(name, total=total)
            for before in self.top.below.values():
                if before is target:
                    break
                if before.status == "running":
                    before.close("completed")
                elif before.status == "pending":
                    before.status = "skipped"
            target = target or self.made(self.top, name)
            if target.status != "running":
                self.run(target)
            target.total = total
            self.at_once()

    @rule(name=some_name)
    def skip_phase(self, name: str) -> None:
        thing = self.top.below.get(name)
        if self.state.over or thing is None or thing.status in ("running", "completed"):
            self.refused(lambda: self.state.skip_phase(name, "why"))
        elif thing.status == "skipped":
            self.state.skip_phase(name, "again")
        else:
            self.state.skip_phase(name, "why")
            thing.status, thing.message = "skipped", "why"
            self.at_once()

    @rule(
        index=some_phase, n=some_count, what=st.sampled_from(["advance", "advance", "skip", "extend", "update", "set"])
    )
    def count(self, index: int, n: float, what: str) -> None:
        path, thing = self.chosen(index)
        if not path:
            return
        node = self.node(path)
        calls: dict[str, Callable[[], None]] = {
            "advance": lambda: node.advance(n),
            "skip": lambda: node.skip(n),
            "extend": lambda: node.extend(n),
            "update": lambda: node.update(done=n, message=f"at {n}"),
            "set": lambda: node.set({f"field{n}": n}),
        }
        known = thing.fields | ({f"field{n}": n} if what == "set" else {})
        if not n and what in ("advance", "skip"):
            self.unchanged(calls[what])
        elif thing.status == "pending" and not self.state.over:
            self.refused(calls[what])
        elif thing.status != "running":  # Of what comes late it is not asked whether there is room for it.
            self.late(calls[what])
        elif len(known) > LIMITS.fields:
            self.refused(calls[what])
        else:
            calls[what]()
            self.touched = True
            thing.fields = known
            if what in ("advance", "skip"):
                thing.done += n
                thing.skipped += n if what == "skip" else 0
            elif what == "extend":
                thing.total = (thing.done if thing.total is None else thing.total) + n
            elif what == "update":
                thing.done, thing.message = n, f"at {n}"

    @rule(name=some_name, n=some_count)
    def increment(self, name: str, n: float) -> None:
        if self.state.over:
            self.late(lambda: self.state.increment(name, n))
        elif name not in self.counters and len(self.counters) == LIMITS.counters:
            self.refused(lambda: self.state.increment(name, n))
        else:
            self.state.increment(name, n)
            self.counters[name] = self.counters.get(name, 0) + n
            self.touched = True

    @rule(name=st.sampled_from(["x", "y", "z"]), value=st.sampled_from([1, None, [2], {"a": []}]))
    def set(self, name: str, value: Any) -> None:
        merged = {**self.fields, name: value}
        if self.state.over:
            self.late(lambda: self.state.set({name: value}))
        elif len(merged) > LIMITS.fields:
            self.refused(lambda: self.state.set({name: value}))
        else:
            self.state.set({name: value})
            self.fields = deepcopy(merged)
            self.touched = True

    @rule()
    def emit(self) -> None:
        if self.state.over:
            self.late(lambda: self.state.emit("e"))
        else:
            self.state.emit("e", {"n": 1})
            self.touched = True

    @rule()
    def set_result(self) -> None:
        if self.state.over:
            self.refused(lambda: self.state.set_result({"n": self.now}))
        else:
            self.state.set_result({"n": self.now})
            self.at_once()

    @rule(status=st.sampled_from(["completed", "failed", "cancelled", "timed_out", "interrupted"]))
    def end(self, status: SessionStatus) -> None:
        if self.state.over:
            self.unchanged(lambda: self.state.end(status))
            return
        if len(self.states) < 15:
            return
        self.state.end(status)
        becomes = status if status in ("completed", "failed") else "cancelled"
        for thing in self.top.below.values():
            if thing.status == "running":
                thing.close(becomes)
            elif thing.status == "pending" and status == "completed":
                thing.status = "skipped"
        self.at_once()
        assert (self.states[-1][0].progress == 1.0) == (status == "completed")

    # What a call must not do

    def unchanged(self, call: Callable[[], object]) -> None:
        before = self.state.seq, self.state.dirty, self.values()
        call()
        assert (self.state.seq, self.state.dirty, self.values()) == before

    def refused(self, call: Callable[[], object]) -> None:
        def raises() -> None:
            with pytest.raises((PhaseError, SessionClosedError, ValueError)):
                call()

        # A refused call may find out after it has told its host; then there is nothing to publish.
        before = self.state.seq, self.values()
        raises()
        assert (self.state.seq, self.values()) == before

    def late(self, call: Callable[[], object]) -> None:
        lates = self.host.lates
        self.unchanged(call)
        assert self.host.lates == lates + 1

    def values(self) -> list[object]:
        state = self.state
        phases = [
            (node.path, node.status, node.done, node.total, node.skipped, node.message, node.fields, node.attempt)
            for node in state.walk()
        ]
        return [*phases, dict(state.counters), state.fields, state.result, state.event_log.newest, state.status]

    # What must hold

    def compare(self, snapshot: Snapshot) -> None:
        assert shown(snapshot.phases) == [
            (
                path,
                thing.status,
                thing.attempt,
                thing.total,
                thing.message,
                thing.fields,
                thing.folded,
                pytest.approx(thing.told()),
                pytest.approx(thing.skipped),
                pytest.approx(thing.fraction(), abs=1e-12) if thing.fraction() is not None else None,
            )
            for path, thing in self.top.walk()
        ]
        assert snapshot.counters == pytest.approx(self.counters)
        assert snapshot.fields == self.fields
        if any(phase.status == "running" and phase.fraction is None for phase in snapshot.phases):
            # In a first run the bar creeps through a phase of which nobody knows how far it is.
            assert snapshot.progress >= self.progress - 1e-9
            self.progress = snapshot.progress
        assert snapshot.progress == pytest.approx(self.progress)
        assert snapshot.progress < 1 or snapshot.status == "completed"
        for _, phase in flat(snapshot.phases):
            assert (phase.fraction == 1) == (phase.status in ABSORBING)

    def updates_fit(self, chosen: list[int]) -> None:
        newest = self.states[-1][0]
        for index in chosen:
            old = self.states[index][0] if -len(self.states) <= index else newest
            if old.seq >= self.state.oldest_delta:
                merged = self.state.update_since(old.seq, newest.resume).apply(old)
                assert same(merged) == same(self.state.snapshot())

    @invariant()
    def progress_and_seq_only_rise(self) -> None:
        if len(self.states) > 1:
            (before, _), (after, _) = self.states[-2:]
            assert after.seq > before.seq
            assert after.progress >= before.progress

    def teardown(self) -> None:
        if not hasattr(self, "state"):
            return
        self.publish()
        self.updates_fit(list(range(len(self.states))))
        for snapshot, encoded in self.states:
            assert msgspec.json.encode(snapshot) == encoded, "a published state has changed"
        record = decode_record("a", 7, self.state.seq, encode_record(self.state))
        assert same(record.state) == same(self.state.snapshot())
        again = SessionState("a", host=QuietHost(), clock=self.state.clock, pipeline=self.pipeline, limits=LIMITS)
        resume_from(again, record, (), 10)
        again.begin(8)
        for path, phase in flat(again.snapshot().phases):
            before = self.states[-1][0].phase(*path)
            assert phase.status == (before.status if before.status in ABSORBING else "pending")
            assert phase.attempt == before.attempt
            if before.status in ABSORBING:
                assert phase.done == before.done
            else:  # What was counted begins anew; children that have completed stay, and are units.
                stays = sum(child.status == "completed" for child in phase.phases) + phase.folded
                assert phase.done <= (stays if phase.total is not None else 0)
        assert again.attempt == 2
        if self.states[-1][0].seq > self.state.oldest_delta:
            with pytest.raises(ProtocolError):
                self.state.update_since(self.states[-1][0].seq - 1, "").apply(self.states[-1][0])


def same(snapshot: Snapshot) -> Snapshot:
    """Without what is of the moment in which it was asked for."""
    return msgspec.structs.replace(snapshot, resume="", liveness="ok")


def flat(
    phases: tuple[PhaseSnapshot, ...], above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], PhaseSnapshot]]:
    for phase in phases:
        yield (*above, phase.name), phase
        yield from flat(phase.phases, (*above, phase.name))


def shown(phases: tuple[PhaseSnapshot, ...]) -> list[tuple[object, ...]]:
    return [
        (
            path,
            phase.status,
            phase.attempt,
            phase.total,
            phase.message,
            phase.fields,
            phase.folded,
            phase.done,
            phase.skipped,
            phase.fraction,
        )
        for path, phase in flat(phases)
    ]


TestStateMachine = StateMachine.TestCase
TestStateMachine.settings = settings(max_examples=examples(200), stateful_step_count=50)
