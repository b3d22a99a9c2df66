"""What is shown of how far a session is: fractions, their mean, folded phases, and whether it still advances."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.support import QuietHost
from trio_progress import Limits, PhaseError, PhaseSpec, Pipeline
from trio_progress.protocol.clock import Clock
from trio_progress.protocol.snapshot import SessionStatus
from trio_progress.state.fraction import CAP
from trio_progress.state.phase import PhaseNode
from trio_progress.state.session import SessionState

RESEARCH = {"search": 3, "analysis": 2, "report": 1}


class Run:
    """A state in epoch 7 with clocks that are turned by hand."""

    def __init__(self, pipeline: Pipeline | None = None, **given: Any) -> None:
        self.now = 0.0
        self.host = QuietHost()
        clock = Clock(lambda: self.now, lambda: 1e9 + self.now)
        self.state = SessionState("a", host=self.host, clock=clock, pipeline=pipeline, **given)
        self.state.begin(7)

    def enter(self, *path: str, **given: Any) -> PhaseNode:
        above = self.state.root
        for name in path[:-1]:
            above = above.children[name]
        return self.state.enter(above, path[-1], **given)


@pytest.fixture
def run() -> Run:
    return Run(Pipeline("research", RESEARCH))


@pytest.fixture
def free() -> Run:
    """Without a pipeline: phases are added as they come."""
    return Run()


# Weights and fractions


def test_weights_are_normalised_and_the_whole_is_their_mean(run: Run) -> None:
    assert [phase.weight for phase in run.state.snapshot().phases] == pytest.approx([3 / 6, 2 / 6, 1 / 6])
    with_search = run.enter("search", total=4)
    with_search.advance(2)
    assert run.state.snapshot().progress == pytest.approx(0.25)
    run.state.leave(with_search, "completed")
    assert run.state.snapshot().progress == pytest.approx(0.5)


def test_a_phase_of_no_weight_changes_nothing_of_the_whole() -> None:
    run = Run(Pipeline("p", {"warm up": 0, "work": 5}))
    warm = run.enter("warm up", total=1)
    warm.advance()
    run.state.leave(warm, "completed")
    assert run.state.snapshot().progress == 0
    work = run.enter("work", total=2)
    work.advance()
    assert run.state.snapshot().progress == pytest.approx(0.5)


def test_an_indeterminate_phase_has_no_fraction_and_counts_as_nothing_done(run: Run) -> None:
    search = run.enter("search")
    search.advance(1000)
    snapshot = run.state.snapshot()
    assert (snapshot.phase("search").fraction, snapshot.progress) == (None, 0)
    run.state.leave(search, "completed")
    assert run.state.snapshot().phase("search").fraction == 1
    assert run.state.snapshot().progress == pytest.approx(0.5)


def test_a_phase_may_learn_its_total_and_lose_it(run: Run) -> None:
    search = run.enter("search")
    search.advance(3)
    search.extend(7)
    assert (search.done, search.total) == (3, 10)
    assert run.state.snapshot().phase("search").fraction == pytest.approx(0.3)
    search.extend(2)
    assert search.total == 12
    search.update(total=None)
    assert run.state.snapshot().phase("search").fraction is None


def test_a_total_of_none_given_on_entering_makes_a_declared_total_unknown() -> None:
    pipeline = Pipeline("p", [PhaseSpec("fetch", total=8, unit="pages"), PhaseSpec("load", total=5)])
    run = Run(pipeline)
    assert (run.enter("fetch").total, run.state.find("fetch").unit) == (8, "pages")
    assert run.enter("load", total=None).total is None


def test_pain_17_growing_totals_do_not_take_the_whole_back_and_raw_shows_the_truth(run: Run) -> None:
    search = run.enter("search", total=10)
    search.advance(8)
    high = run.state.snapshot()
    search.extend(30)
    held = run.state.snapshot()
    assert held.progress == high.progress == pytest.approx(0.4)
    assert held.raw == pytest.approx(0.1)
    assert held.phase("search").fraction == pytest.approx(0.2)
    search.advance(30)
    assert run.state.snapshot().progress == pytest.approx(0.475)


def test_pain_17_nothing_is_at_100_percent_before_its_scope_was_left(free: Run) -> None:
    work = free.enter("work", total=3)
    child = free.enter("work", "child", total=2, weight=1)
    for count in range(1, 6):
        child.advance()
        work.advance()
        snapshot = free.state.snapshot()
        assert snapshot.phase("work", "child").fraction == min(count / 2, CAP)
        assert snapshot.phase("work").fraction == pytest.approx(min((min(count / 2, CAP) + min(count / 3, 1)) / 2, CAP))
        assert snapshot.progress < 1
    free.state.leave(child, "completed")
    free.state.leave(work, "completed")
    snapshot = free.state.snapshot()
    assert snapshot.phase("work").fraction == 1
    assert snapshot.progress == CAP  # Another phase may come: only the end knows.
    free.state.end("completed")
    assert free.state.snapshot().progress == 1


@pytest.mark.parametrize("status", ["failed", "cancelled", "timed_out", "interrupted"])
def test_what_did_not_complete_is_not_at_100_percent(status: SessionStatus, run: Run) -> None:
    for name in RESEARCH:
        phase = run.enter(name, total=1)
        phase.advance()
        run.state.leave(phase, "completed")
    run.state.end(status)
    assert run.state.snapshot().progress == CAP


def test_a_phase_with_children_is_the_mean_of_its_own_units_and_theirs(free: Run) -> None:
    work = free.enter("work", total=4)
    work.advance(2)
    heavy = free.enter("work", "heavy", total=10, weight=2)
    heavy.advance(5)
    free.enter("work", "light", weight=1)
    # Own units weigh 1: (1 * 0.5 + 2 * 0.5 + 1 * 0) / 4.
    assert free.state.snapshot().phase("work").fraction == pytest.approx(1.5 / 4)
    free.state.leave(heavy, "completed")
    assert free.state.snapshot().phase("work").fraction == pytest.approx(2.5 / 4)


def test_without_own_units_children_alone_count(free: Run) -> None:
    free.enter("work")
    free.state.leave(free.enter("work", "one"), "completed")
    free.enter("work", "two", total=2).advance()
    assert free.state.snapshot().phase("work").fraction == pytest.approx(1.5 / 2.5)


def test_more_done_than_there_was_does_not_stand_for_the_children(free: Run) -> None:
    work = free.enter("work", total=2)
    free.enter("work", "child", total=2, weight=1)
    work.advance(50)
    assert free.state.snapshot().phase("work").fraction == pytest.approx(0.5)


def test_children_without_a_weight_are_parts_of_the_units_that_are_counted(free: Run) -> None:
    work = free.enter("work", total=100)
    for item in range(50):
        child = free.enter("work", f"item {item}", total=4)
        assert child.weight == 0
        child.advance(3)
        before = free.state.snapshot().phase("work").fraction
        assert before == pytest.approx((item + 0.75) / 100)
        free.state.leave(child, "completed")
        work.advance()
        assert free.state.snapshot().phase("work").fraction == pytest.approx((item + 1) / 100)
    for worker in range(10):
        free.enter("work", f"worker {worker}", total=10).advance(5)
    assert free.state.snapshot().phase("work").fraction == pytest.approx(0.55)
    work.advance(48)
    assert free.state.snapshot().phase("work").fraction == CAP, "no more than there is"


def test_children_that_are_there_before_the_total_is_known_keep_their_weight(free: Run) -> None:
    work = free.enter("work")
    first = free.enter("work", "first", total=2)
    first.advance()
    work.update(total=4)
    assert free.enter("work", "second", total=2).weight == 0
    assert first.weight == 1
    assert free.state.snapshot().phase("work").fraction == pytest.approx(0.25)
    work.update(total=None)
    assert free.state.snapshot().phase("work").fraction == pytest.approx(0.5), "what weighs nothing counts no more"


def test_more_done_than_there_was_does_not_pass_the_cap(run: Run) -> None:
    search = run.enter("search", total=2)
    search.advance(50)
    assert run.state.snapshot().phase("search").fraction == CAP


# Folding


def test_folding_keeps_the_tree_bounded_and_the_fraction_true() -> None:
    run = Run(limits=Limits(phases=4))
    work = run.enter("work")
    for number in range(10):
        child = run.enter("work", f"part {number}", weight=2)
        run.state.leave(child, "completed")
    run.enter("work", "open", weight=20)
    snapshot = run.state.snapshot().phase("work")
    assert [phase.name for phase in snapshot.phases] == ["part 8", "part 9", "open"]
    assert (snapshot.folded, snapshot.folded_weight) == (8, 16)
    assert snapshot.fraction == pytest.approx(20 / 40)
    assert work.status == "running"


def test_a_folded_subtree_is_counted_whole() -> None:
    run = Run(limits=Limits(phases=4))
    run.enter("work")
    site = run.enter("work", "site")
    run.enter("work", "site", "page")
    run.state.leave(site, "completed")
    for name in ("one", "two"):
        run.enter("work", name)
    work = run.state.snapshot().phase("work")
    assert [phase.name for phase in work.phases] == ["one", "two"]
    assert work.folded == 1
    run.enter("work", "three")
    with pytest.raises(PhaseError, match="limit 'phases'"):
        run.enter("work", "four")


def test_what_folds_brings_along_what_had_folded_into_it() -> None:
    run = Run(limits=Limits(phases=4))
    run.enter("work")
    site = run.enter("work", "site")
    for number in range(5):
        run.state.leave(run.enter("work", "site", f"page {number}"), "completed")
    assert run.state.snapshot().phase("work", "site").folded == 3
    run.state.leave(site, "completed")
    for number in range(2):
        run.state.leave(run.enter("work", f"other {number}"), "completed")
    work = run.state.snapshot().phase("work")
    assert [phase.name for phase in work.phases] == ["other 0", "other 1"]
    assert (work.folded, work.folded_weight) == (4, 1)


def test_a_name_that_was_folded_may_come_again() -> None:
    run = Run(limits=Limits(phases=2))
    run.enter("work")
    before = run.state.snapshot()
    for _ in range(3):
        run.state.leave(run.enter("work", "again"), "completed")
        run.state.leave(run.enter("work", "other"), "completed")
    after = run.state.snapshot()
    update = run.state.update_since(before.seq, after.resume)
    assert update.apply(before) == after


# Liveness


def test_pain_19_two_clocks_tell_a_stalled_session_from_one_that_works() -> None:
    run = Run(Pipeline("p", {"work": 1}), stall_after=10)
    work = run.enter("work", total=100)
    run.now = 10
    assert run.state.snapshot().liveness == "ok"
    run.now = 10.5
    run.state.beat()
    stalled = run.state.snapshot()
    assert stalled.liveness == "stalled"
    assert stalled.heartbeat_at is not None
    assert stalled.progressed_at is not None
    assert (stalled.heartbeat_at - stalled.progressed_at).total_seconds() == 10.5
    work.update(message="still here")  # A message is no progress.
    assert run.state.snapshot().liveness == "stalled"
    work.advance()
    assert run.state.snapshot().liveness == "ok"


def test_a_phase_has_a_patience_of_its_own_and_the_longest_that_runs_counts() -> None:
    patience = {"quick": 5, "slow": 100, "never": math.inf}
    run = Run(Pipeline("p", [PhaseSpec(name, stall_after=own) for name, own in patience.items()]), stall_after=50)
    assert run.state.snapshot().stall_after == 50
    run.enter("quick")
    run.now = 6
    assert (run.state.snapshot().stall_after, run.state.snapshot().liveness) == (5, "stalled")
    run.enter("slow")
    run.now = 60
    assert (run.state.snapshot().stall_after, run.state.snapshot().liveness) == (100, "ok")
    run.enter("never")
    run.now = 10_000
    assert (run.state.snapshot().stall_after, run.state.snapshot().liveness) == (None, "ok")


def test_what_has_ended_or_not_begun_is_not_stalled() -> None:
    run = Run(stall_after=1)
    run.state.end("failed")
    run.now = 100
    assert run.state.snapshot().liveness == "ok"
