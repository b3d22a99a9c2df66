"""For any tree, history and order of calls: the bar rises within an epoch, is below 1 before the end, and finite."""

from __future__ import annotations

import math
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.support import QuietHost
from trio_progress import PhaseHistory, Pipeline, PipelineHistory
from trio_progress.protocol.clock import Clock
from trio_progress.protocol.outlook import outlook_at
from trio_progress.protocol.snapshot import Snapshot
from trio_progress.state.history import KNOTS
from trio_progress.state.session import SessionState

NAMES = ("a", "b", "c")
PIPELINE = Pipeline("p", {"a": 1, "b": 5, "c": 0})
LOOKS = ("read", "tick", "heartbeat")
"""Who comes to see a state: who asks for it, and who follows and is told what is new."""

some_seconds = st.floats(0.001, 1e9)
some_phase = st.builds(
    PhaseHistory,
    runs=st.integers(1, 9),
    seconds=some_seconds,
    unit_seconds=st.none() | some_seconds,
    count=st.none() | st.floats(0.001, 1e9),
    worked=st.floats(0, 1),
    alone=st.floats(0, 1),
    children=st.none() | st.floats(0.5, 100),
    growth=st.floats(-5, 5),
    profile=st.just(())
    | st.lists(st.floats(0, 1), min_size=len(KNOTS), max_size=len(KNOTS)).map(lambda x: (*sorted(x),)),
)
some_history = st.none() | st.builds(
    PipelineHistory,
    runs=st.integers(1, 9),
    spread=st.floats(0, 20),
    phases=st.dictionaries(st.sampled_from(NAMES), some_phase),
)
some_call = st.one_of(
    st.tuples(st.just("wait"), st.floats(0, 1e4) | st.floats(0.1, 100)),
    st.tuples(st.just("enter"), st.sampled_from(NAMES), st.none() | st.integers(0, 50)),
    st.tuples(st.just("child"), st.sampled_from(NAMES), st.none() | st.integers(0, 9), st.none() | st.floats(0, 3)),
    st.tuples(st.just("advance"), st.sampled_from(NAMES), st.integers(0, 30)),
    st.tuples(st.just("total"), st.sampled_from(NAMES), st.none() | st.integers(0, 100)),
    st.tuples(st.just("skip units"), st.sampled_from(NAMES), st.integers(0, 30)),
    st.tuples(st.just("leave"), st.sampled_from(NAMES), st.sampled_from(["completed", "failed"])),
    st.tuples(st.just("skip"), st.sampled_from(NAMES)),
    st.tuples(st.sampled_from(LOOKS)),
    st.tuples(st.just("history"), some_history),
)


class Run:
    """A state whose clock is turned by hand."""

    def __init__(self, pipeline: Pipeline | str) -> None:
        self.now = 0.0
        self.state = SessionState(
            "a",
            host=QuietHost(),
            clock=Clock(lambda: self.now, lambda: 1e9 + self.now),
            pipeline=pipeline,
        )
        self.state.begin(1)
        self.children = 0

    def call(self, what: str, *given: Any) -> None:
        if what == "wait":
            self.now += given[0]
        elif what == "history":
            self.state.use_history(given[0])
            self.state.touch()
        elif what not in LOOKS and (node := self.state.get(given[0])) is not None:
            self.on(what, node, *given[1:])
        elif what == "enter":
            self.state.enter(self.state.root, given[0], total=given[1])

    def look(self, how: str) -> Snapshot | None:
        """What somebody sees; None: there is nothing new for who follows."""
        if how == "heartbeat":
            self.state.note_time()
        before = self.state.seq
        seq = self.state.publish()
        published = self.state.published_state()
        if how != "read":
            return None if seq == before else published
        read = self.state.snapshot_now()
        assert read.seq == self.state.seq == seq
        assert self.state.published_state() is published
        return read

    def on(self, what: str, node: Any, *given: Any) -> None:
        if what == "enter" and node.status in ("pending", "failed"):
            self.state.enter(self.state.root, node.name, total=given[0])
        elif what == "skip" and node.status in ("pending", "failed"):
            self.state.skip_phase(node.name)
        elif node.status != "running":
            return
        elif what == "child":
            self.children += 1
            child = self.state.enter(node, f"{self.children}", total=given[0], weight=given[1])
            if self.children % 2:
                self.state.leave(child, "completed")
        elif what == "advance":
            node.advance(given[0])
        elif what == "total":
            node.update(total=given[0])
        elif what == "skip units":
            node.skip(given[0])
        elif what == "leave":
            self.state.leave(node, given[0])


class Seen:
    """What somebody has seen of a run, who reads, and follows, and is told by heartbeats."""

    def __init__(self, history: PipelineHistory | None, pipeline: Pipeline | str) -> None:
        self.run = Run(pipeline)
        self.run.state.use_history(history)
        self.told = 0.0

    def call(self, what: str, *given: Any) -> None:
        run = self.run
        if what not in LOOKS:
            run.call(what, *given)
        elif (seen := run.look(what)) is not None:
            self.check(seen)
            self.told = seen.progress

    def check(self, snapshot: Snapshot) -> None:
        assert self.told <= snapshot.progress < 1
        for seconds in (snapshot.eta, *(snapshot.eta_range or ())):
            assert seconds is None or 0 <= seconds < math.inf
        if snapshot.eta_range is not None and snapshot.eta is not None:
            assert snapshot.eta_range[0] <= snapshot.eta * (1 + 1e-9) + 1e-9
            assert snapshot.eta <= snapshot.eta_range[1] * (1 + 1e-9) + 1e-9
        for later in (0.0, 1.0, 100.0, 1e6):
            outlook = outlook_at(snapshot, 1e9 + self.run.now + later)
            assert outlook.eta is None or 0 <= outlook.eta < math.inf

    def end(self, how: Any) -> None:
        self.run.state.end(how)
        last = self.run.state.snapshot()
        assert (last.progress == 1) == (how == "completed")
        assert last.progress >= self.told
        lesson = self.run.state.lesson()
        assert lesson is None or lesson.miss is None or math.isfinite(lesson.miss)


some_pipeline: st.SearchStrategy[Pipeline | str] = st.sampled_from([PIPELINE, PIPELINE, "p"])


@given(some_history, some_pipeline, st.lists(some_call, max_size=40), st.sampled_from(["completed", "failed"]))
def test_the_bar_only_rises_is_below_1_before_the_end_and_finite(
    history: PipelineHistory | None, pipeline: Pipeline | str, calls: list[tuple[Any, ...]], end: Any
) -> None:
    seen = Seen(history, pipeline)
    for what, *arguments in calls:
        seen.call(what, *arguments)
    seen.end(end)


def test_the_bar_only_rises_for_who_reads_and_follows_at_any_time() -> None:
    for seed in range(80):
        draw = Random(seed)
        phases = {name: PhaseHistory(seconds=draw.choice([1, 20, 300]), worked=draw.random()) for name in NAMES}
        history = PipelineHistory(runs=3, phases=phases) if draw.random() < 0.8 else None
        seen = Seen(history, PIPELINE if draw.random() < 0.7 else "p")
        for _ in range(60):
            what = draw.choice(["wait", "wait", *LOOKS, *LOOKS, "enter", "advance", "total", "leave", "skip"])
            name = draw.choice(NAMES)
            given: tuple[Any, ...] = {
                "wait": (draw.choice([0.2, 1, 5, 50]),),
                "enter": (name, draw.choice([None, 8])),
                "advance": (name, draw.randint(0, 3)),
                "total": (name, draw.choice([None, 4, 40])),
                "leave": (name, draw.choice(["completed", "completed", "failed"])),
                "skip": (name,),
            }.get(what, ())
            seen.call(what, *given)
        seen.end(draw.choice(["completed", "failed"]))
