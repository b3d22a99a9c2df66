"""Every way in which a session and its phases can change, one scenario each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support import QuietHost
from trio_progress import PhaseError, PhaseSpec, Pipeline, SessionClosedError
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

    def statuses(self) -> dict[str, str]:
        return {phase.name: phase.status for phase in self.state.snapshot().phases}


@pytest.fixture
def run() -> Run:
    return Run(Pipeline("research", RESEARCH))


@pytest.fixture
def free() -> Run:
    """Without a pipeline: phases are added as they come."""
    return Run()


# Publishing


def test_a_transition_is_published_at_once_and_counts_wait_for_the_next_tick(run: Run) -> None:
    state = run.state
    assert state.seq == 1
    search = run.enter("search", total=10)
    assert state.seq == 2
    search.advance()
    search.update(message="one")
    state.increment("found")
    state.emit("e")
    assert state.seq == 2
    assert state.publish() == 3
    assert state.publish() == 3
    search.advance()
    state.leave(search, "completed")
    assert state.seq == 4
    state.hand_over("analysis")
    assert state.seq == 5
    state.set_result({})
    assert state.seq == 6
    state.skip_phase("report")
    assert state.seq == 7
    state.end("completed")
    assert (state.seq, state.dirty) == (8, False)


def test_a_burst_of_updates_tells_the_owner_once(run: Run) -> None:
    search = run.enter("search")
    told = run.host.stirs
    for _ in range(1000):
        search.advance()
        run.state.increment("found")
    assert run.host.stirs == told + 1
    run.state.publish()
    search.advance()
    assert run.host.stirs == told + 2


def test_a_published_state_stays_as_it_was(run: Run) -> None:
    search = run.enter("search", total=10)
    search.set({"page": 1})
    run.state.set({"mode": "fast"})
    before = run.state.snapshot()
    search.advance(3)
    search.set({"page": 2})
    run.state.set({"mode": "slow"})
    run.state.increment("found")
    run.state.end("completed")
    assert before.phase("search").done == 0
    assert (before.phase("search").fields, before.fields, before.counters) == ({"page": 1}, {"mode": "fast"}, {})
    assert before.status == "running"


def test_only_what_changed_is_stamped(run: Run) -> None:
    search, analysis = run.enter("search"), run.enter("analysis")
    before = run.state.snapshot()
    analysis.advance()
    seq = run.state.publish()
    assert (search.v, analysis.v) == (2, seq)
    assert [phase.path for phase in run.state.update_since(before.seq, "").phases] == [("analysis",)]


def test_a_change_deep_in_the_tree_is_told_with_what_is_above_it(run: Run) -> None:
    run.enter("search")
    run.enter("search", "site", total=4)
    page = run.enter("search", "site", "page", total=2)
    run.enter("analysis")
    before = run.state.snapshot()
    page.advance()
    run.state.publish()
    paths = [phase.path for phase in run.state.update_since(before.seq, "").phases]
    assert paths == [("search",), ("search", "site"), ("search", "site", "page")]


# Entering and leaving


def test_phases_may_overlap(run: Run) -> None:
    search, analysis = run.enter("search", total=2), run.enter("analysis", total=2)
    analysis.advance()
    search.advance()
    assert run.statuses() == {"search": "running", "analysis": "running", "report": "pending"}
    run.state.leave(search, "completed")
    analysis.advance()
    assert run.state.snapshot().phase("analysis").done == 2


def test_leaving_a_phase_ends_what_is_open_within_as_it_ended(free: Run) -> None:
    work = free.enter("work")
    free.enter("work", "child")
    free.enter("work", "child", "grandchild")
    free.state.leave(free.enter("work", "done"), "completed")
    free.state.leave(work, "failed")
    snapshot = free.state.snapshot()
    assert snapshot.phase("work", "child", "grandchild").status == "failed"
    assert snapshot.phase("work", "done").status == "completed"
    before = free.state.seq
    free.state.leave(work, "completed")
    assert (free.state.seq, work.status) == (before, "failed")


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_phase_that_failed_may_be_entered_again_and_counts_anew(status: Any, run: Run) -> None:
    search = run.enter("search", total=10)
    child = run.enter("search", "site")
    run.state.leave(child, "completed")
    search.advance(4)
    search.skip(2)
    run.now = 5
    run.state.leave(search, status)
    failed = run.state.snapshot()
    assert failed.phase("search").ended_at is not None
    run.now = 9
    assert run.enter("search") is search
    again = run.state.snapshot().phase("search")
    assert (again.status, again.attempt, again.done, again.skipped, again.total) == ("running", 2, 1, 0, 10)
    assert again.ended_at is None
    assert again.started_at != failed.phase("search").started_at
    assert again.phases[0].status == "completed"
    assert run.state.snapshot().progress == failed.progress
    assert run.state.snapshot().raw < failed.raw


@pytest.mark.parametrize("how", ["running", "completed", "skipped"])
def test_what_is_open_or_over_cannot_be_entered_and_the_error_says_what_to_do(how: str, run: Run) -> None:
    if how == "skipped":
        run.state.skip_phase("search")
    else:
        search = run.enter("search")
        if how == "completed":
            run.state.leave(search, "completed")
    before = run.state.snapshot()
    with pytest.raises(PhaseError, match=r"is open already: use|cannot be entered again: enter"):
        run.enter("search")
    assert run.state.snapshot() is before


def test_an_unknown_phase_is_refused_with_what_there_is_or_was_meant(run: Run) -> None:
    with pytest.raises(PhaseError, match=r"did you mean 'search'\?"):
        run.enter("serach")
    with pytest.raises(PhaseError, match="there are 'search', 'analysis', 'report'"):
        run.enter("zzz")


def test_an_alias_leads_to_its_phase() -> None:
    run = Run(Pipeline("p", [PhaseSpec("load", aliases=("import", "ingest"))]))
    load = run.enter("import")
    assert (load.name, run.state.find("ingest")) == ("load", load)
    with pytest.raises(PhaseError, match="'load' is open already"):
        run.enter("load")
    run.state.hand_over("ingest", total=4)
    assert load.total == 4


def test_a_child_needs_an_open_parent(run: Run) -> None:
    search = run.enter("search")
    run.state.leave(search, "failed")
    with pytest.raises(PhaseError, match="which is failed"):
        run.enter("search", "site")
    with pytest.raises(PhaseError, match="which is pending"):
        run.enter("report", "site")


def test_counting_before_the_beginning_is_an_error(run: Run) -> None:
    search = run.state.find("search")
    calls: list[Callable[[], None]] = [
        search.advance,
        search.skip,
        lambda: search.extend(1),
        lambda: search.update(done=1),
        lambda: search.set({"a": 1}),
    ]
    for call in calls:
        with pytest.raises(PhaseError, match="has not begun: enter it"):
            call()
    assert run.state.publish() == 1
    assert run.host.lates == 0


def test_a_skipped_phase_counts_as_done_and_says_why(run: Run) -> None:
    run.state.skip_phase("search", "nothing to search for")
    search = run.state.snapshot().phase("search")
    assert (search.status, search.fraction, search.message) == ("skipped", 1, "nothing to search for")
    assert run.state.snapshot().progress == pytest.approx(0.5)
    seq = run.state.seq
    run.state.skip_phase("search")
    assert run.state.seq == seq
    run.enter("analysis")
    with pytest.raises(PhaseError, match="is running and cannot be skipped"):
        run.state.skip_phase("analysis")
    with pytest.raises(PhaseError, match="has no phase 'reprot': did you mean"):
        run.state.skip_phase("reprot")


def test_a_phase_that_failed_can_be_given_up_by_skipping_it(run: Run) -> None:
    run.state.leave(run.enter("search"), "failed")
    run.state.skip_phase("search", "without it")
    assert run.state.snapshot().phase("search").status == "skipped"


# The hand-over


def test_a_hand_over_completes_skips_and_begins_in_one_state(run: Run) -> None:
    run.state.hand_over("search", total=4)
    before = run.state.seq
    run.now = 3
    report = run.state.hand_over("report", total=1)
    assert run.state.seq == before + 1
    assert run.statuses() == {"search": "completed", "analysis": "skipped", "report": "running"}
    assert report.total == 1
    assert run.state.snapshot().phase("search").ended_at == run.state.snapshot().phase("report").started_at


def test_a_hand_over_to_what_runs_returns_it_and_sets_what_is_given(run: Run) -> None:
    analysis = run.state.hand_over("analysis", total=3)
    analysis.advance()
    assert run.state.hand_over("analysis", total=9, title="Second look") is analysis
    assert (analysis.done, analysis.total, analysis.title, analysis.attempt) == (1, 9, "Second look", 1)


@pytest.mark.parametrize("how", ["completed", "skipped"])
def test_a_late_hand_over_changes_nothing_and_is_counted(how: str, run: Run) -> None:
    if how == "completed":
        run.state.hand_over("search")
    run.state.hand_over("report")
    before = run.state.snapshot()
    assert run.state.hand_over("search", total=9).status == how
    assert run.state.snapshot() is before
    assert run.host.lates == 1


def test_a_hand_over_completes_the_children_too_and_leaves_failures_alone(run: Run) -> None:
    run.state.leave(run.enter("search"), "failed")
    run.enter("analysis")
    run.enter("analysis", "part")
    run.state.hand_over("report")
    assert run.statuses() == {"search": "failed", "analysis": "completed", "report": "running"}
    assert run.state.snapshot().phase("analysis", "part").status == "completed"


def test_without_a_pipeline_a_hand_over_completes_all_that_runs(free: Run) -> None:
    free.enter("one")
    free.enter("two")
    free.state.hand_over("three")
    assert free.statuses() == {"one": "completed", "two": "completed", "three": "running"}


def test_leaving_a_phase_that_was_handed_over_changes_nothing(run: Run) -> None:
    search = run.state.hand_over("search")
    run.state.hand_over("analysis")
    before = run.state.snapshot()
    run.state.leave(search, "failed")
    assert run.state.snapshot() is before


# Late updates


def test_late_updates_change_nothing_and_are_counted(run: Run) -> None:
    search = run.enter("search", total=5)
    run.state.leave(search, "completed")
    before = run.state.snapshot()
    calls: list[Callable[[], None]] = [
        search.advance,
        search.skip,
        lambda: search.extend(1),
        lambda: search.update(done=1, total=2, message="late"),
        lambda: search.set({"a": 1}),
    ]
    for call in calls:
        call()
    assert run.state.snapshot() is before
    assert run.host.lates == len(calls)


def test_pain_4_nothing_changes_a_session_that_has_ended(run: Run) -> None:
    search = run.enter("search", total=5)
    search.advance(5)
    run.state.end("completed")
    run.now += 50
    before = run.state.snapshot()
    late: list[Callable[[], None]] = [
        search.advance,
        run.state.find("report").advance,
        lambda: run.state.increment("n"),
        lambda: run.state.set({"a": 1}),
        lambda: run.state.update(message="late"),
        lambda: run.state.emit("late"),
    ]
    for call in late:
        call()
    errors: list[Callable[[], object]] = [
        lambda: run.enter("analysis"),
        lambda: run.state.hand_over("analysis"),
        lambda: run.state.skip_phase("report"),
        lambda: run.state.save({}),
        lambda: run.state.set_result({}),
        lambda: run.state.fail("late"),
    ]
    for refused in errors:
        with pytest.raises(SessionClosedError, match="is completed"):
            refused()
    run.state.leave(search, "failed")
    run.state.end("failed")
    run.state.beat()
    run.state.publish()
    assert run.state.snapshot() == before
    assert run.host.lates == len(late)
    assert run.state.event_log.newest == 0


# The end


@pytest.mark.parametrize(
    ("status", "becomes"),
    [
        ("completed", "completed"),
        ("failed", "failed"),
        ("cancelled", "cancelled"),
        ("timed_out", "cancelled"),
        ("interrupted", "cancelled"),
    ],
)
def test_open_phases_get_the_sessions_end(status: SessionStatus, becomes: str, run: Run) -> None:
    run.enter("search")
    run.enter("search", "site")
    run.state.end(status)
    snapshot = run.state.snapshot()
    assert (snapshot.status, snapshot.ended) == (status, True)
    assert snapshot.phase("search").status == snapshot.phase("search", "site").status == becomes
    assert snapshot.phase("report").status == ("skipped" if status == "completed" else "pending")


def test_pain_4_the_end_takes_in_all_that_was_counted_before_it(run: Run) -> None:
    search = run.enter("search", total=5)
    search.advance(2)
    run.state.publish()
    search.advance(3)
    run.state.increment("found", 7)
    run.state.emit("last")
    run.state.end("failed")
    snapshot = run.state.snapshot()
    assert (snapshot.phase("search").done, snapshot.counters, snapshot.events) == (5, {"found": 7}, 1)
    assert snapshot.progress == pytest.approx(0.5 * CAP)


def test_fail_is_taken_by_the_end_and_wins_over_returning(run: Run) -> None:
    run.state.fail("no answer", {"tries": 3})
    assert run.state.snapshot().status == "running"
    run.state.end("completed")
    snapshot = run.state.snapshot()
    assert snapshot.status == "failed"
    assert snapshot.error is not None
    assert (snapshot.error.type, snapshot.error.message, snapshot.error.details) == (
        "Failure",
        "no answer",
        {"tries": 3},
    )
    assert snapshot.progress < 1


def test_what_was_open_when_the_session_failed_has_failed_unless_all_of_it_was_counted(run: Run) -> None:
    search = run.state.enter(run.state.root, "search", total=10)
    part = run.state.enter(search, "part")
    whole = run.state.enter(search, "whole", total=2)
    search.advance(3)
    run.state.fail("no quota")
    later = run.state.enter(search, "later")
    whole.advance(2)
    for node in (part, whole, later, search):
        run.state.leave(node, "completed")
    assert [node.status for node in (part, whole, later, search)] == ["failed", "completed", "completed", "failed"]
    assert run.state.snapshot().phase("search").fraction == pytest.approx(0.3)
    again = run.state.enter(run.state.root, "search", total=10)
    run.state.leave(again, "completed")
    assert again.status == "completed", "it was begun after that was said"


# Values


def test_pain_16_increments_commute_and_may_fall(run: Run) -> None:
    run.state.increment("n", 5)
    run.state.increment("n", -2)
    run.state.increment("x", 0.5)
    assert run.state.snapshot().counters == {"n": 3, "x": 0.5}


def test_fields_merge_and_the_newest_of_each_wins(run: Run) -> None:
    run.state.set({"a": 1, "b": [1]})
    run.state.set({"b": None})
    search = run.enter("search")
    search.set({"cost": 1.5})
    search.set({"pages": {"read": 2}})
    snapshot = run.state.snapshot()
    assert snapshot.fields == {"a": 1, "b": None}
    assert snapshot.phase("search").fields == {"cost": 1.5, "pages": {"read": 2}}


def test_what_the_caller_changes_later_changes_nothing_here(run: Run) -> None:
    data: dict[str, Any] = {"list": [1]}
    run.state.set({"f": data})
    run.state.set_result(data)
    run.state.save(data)
    run.state.emit("e", data)
    data["list"].append(2)
    event = run.state.event_log.first_after(0)
    assert event is not None
    assert [run.state.fields["f"], run.state.result, run.state.saved, event.data] == [{"list": [1]}] * 4


def test_an_update_sets_only_what_is_given(run: Run) -> None:
    search = run.enter("search", total=5)
    search.update(done=3, message="three")
    search.update(total=6)
    assert (search.done, search.total, search.message) == (3, 6, "three")
    search.update(message=None)
    assert (search.done, search.message) == (3, None)
    run.state.update(title="Newer")
    run.state.update(message="going")
    assert (run.state.snapshot().title, run.state.snapshot().message) == ("Newer", "going")
