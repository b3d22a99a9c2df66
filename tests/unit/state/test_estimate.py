"""Rates and estimates, with the figures worked out by hand."""

from __future__ import annotations

from itertools import pairwise
from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import QuietHost
from trio_progress import Limits, Pipeline
from trio_progress.protocol.clock import Clock
from trio_progress.state.fraction import Part, by_weights
from trio_progress.state.history import history_of_seconds, learned
from trio_progress.state.phase import TAU, WARM_UP, Rate
from trio_progress.state.session import SessionState


def part(
    weight: float = 1,
    fraction: float | None = 0,
    *,
    free: float = 0,
    spent: float = 0,
    running: bool = False,
    finished: bool = False,
    eta: float | None = None,
    open_ended: bool = False,
) -> Part:
    return Part(weight, fraction, free, spent, running, finished, eta, open_ended)


def remaining(parts: list[Part]) -> float | None:
    return by_weights(parts)[1]


class Run:
    """A state whose clock is turned by hand."""

    def __init__(self, pipeline: Pipeline | None = None, limits: Limits = Limits()) -> None:  # noqa: B008 - frozen
        self.now = 100.0
        clock = Clock(lambda: self.now, lambda: 1e9 + self.now)
        self.state = SessionState("a", host=QuietHost(), clock=clock, pipeline=pipeline, limits=limits)
        self.state.begin(1)


# The rate


def test_a_steady_rate_is_exact_from_the_first_sample_on() -> None:
    rate = Rate(50.0)
    for second in range(1, 100):
        rate.sample(7, 50.0 + second)
        assert rate.value == pytest.approx(7)


@given(st.lists(st.floats(0.001, 30), min_size=1, max_size=20))
def test_a_steady_rate_is_the_same_however_it_is_sampled(pauses: list[float]) -> None:
    rate = Rate(0.0)
    now = 0.0
    for pause in pauses:
        now += pause
        rate.sample(3 * pause, now)
    if now > WARM_UP * 1.01:
        assert rate.value == pytest.approx(3)


def test_the_past_fades_by_1_over_e_in_tau_seconds() -> None:
    rate = Rate(0.0)
    rate.sample(10 * TAU, TAU)  # 10 a second for one TAU
    rate.sample(0, 2 * TAU)  # and nothing for the next
    once = TAU * (1 - exp(-1))
    assert rate.value == pytest.approx(10 * once * exp(-1) / (once * exp(-1) + once))
    assert rate.value == pytest.approx(10 * 0.26894, rel=1e-4)


def test_a_rate_is_told_only_after_warming_up_and_once_something_was_done() -> None:
    rate = Rate(0.0)
    told = [rate.value]
    for units, moment in ((40, 0.2), (160, 1.0)):
        rate.sample(units, moment)
        told.append(rate.value)
    assert told == [None, None, pytest.approx(200)]
    idle = Rate(0.0)
    idle.sample(0, 60)
    assert idle.value is None


def test_a_rate_that_fades_away_is_never_zero() -> None:
    rate = Rate(0.0)
    rate.sample(10, 1.0)
    for step in range(2000):
        rate.sample(0, 1.0 + 10 * step)
        assert rate.value is None or rate.value > 0
    assert rate.value is None


def test_a_rate_falls_in_a_pause_and_not_while_the_next_sample_is_yet_to_come() -> None:
    slow, fast = Rate(0.0), Rate(0.0)
    for number in range(1, 11):
        slow.sample(1, 30.0 * number)
    for number in range(1, 301):
        fast.sample(1, float(number))
    assert slow.value_at(300 + 59) == slow.value == pytest.approx(1 / 30)
    fallen = [fast.value_at(300 + seconds) or 0 for seconds in (2, 3, 10, 50, 59)]
    assert fallen == sorted(fallen, reverse=True)
    assert fallen[0] == fast.value == pytest.approx(1)
    assert 0 < fallen[-1] < 0.5 < fallen[-3] < 1
    assert (slow.value_at(300 + 150) or 0) < 1 / 60


def test_samples_of_one_moment_add_up() -> None:
    one, other = Rate(0.0), Rate(0.0)
    for _ in range(4):
        one.sample(2, 0.0)
    one.sample(0, 5.0)
    other.sample(8, 0.0)
    other.sample(0, 5.0)
    assert one.value == other.value is not None


def test_a_rate_never_turns_negative_and_a_clock_that_stands_still_breaks_nothing() -> None:
    run = Run()
    work = run.state.enter(run.state.root, "work", total=10)
    work.update(done=8)
    run.now += 2
    run.state.publish()
    work.update(done=3)
    run.state.publish()
    run.now += 2
    work.update(done=1)
    assert (run.state.snapshot().phase("work").rate or 0) > 0


# A phase


def test_the_eta_of_a_phase_is_what_is_left_at_its_rate() -> None:
    run = Run()
    work = run.state.enter(run.state.root, "work", total=100)
    for _ in range(10):
        run.now += 1
        work.advance(2)
        run.state.publish()
    shown = run.state.snapshot().phase("work")
    assert shown.rate == pytest.approx(2)
    assert shown.eta == pytest.approx(80 / 2)
    assert run.state.snapshot().eta == pytest.approx(40)


def test_pain_20_what_is_skipped_on_resuming_is_not_in_the_rate() -> None:
    run = Run()
    work = run.state.enter(run.state.root, "work", total=1000)
    work.skip(800)
    for _ in range(20):
        run.now += 1
        work.advance()
        run.state.publish()
    shown = run.state.snapshot().phase("work")
    assert (shown.done, shown.skipped) == (820, 800)
    assert shown.rate == pytest.approx(1)
    assert shown.eta == pytest.approx(180)


def test_an_indeterminate_phase_has_a_rate_and_no_eta() -> None:
    run = Run()
    work = run.state.enter(run.state.root, "work")
    run.now += 4
    work.advance(8)
    shown = run.state.snapshot().phase("work")
    assert shown.rate == pytest.approx(2)
    assert (shown.eta, run.state.snapshot().eta) == (None, None)


@pytest.mark.parametrize("total", [0, 3])
def test_past_its_total_nobody_knows_how_long_a_phase_takes(total: int) -> None:
    run = Run()
    work = run.state.enter(run.state.root, "work", total=total)
    run.now += 2
    work.advance(total)
    run.state.publish()
    run.now += 2
    work.advance(9)
    snapshot = run.state.snapshot()
    assert (snapshot.phase("work").eta, snapshot.eta) == (None, None)
    work.update(total=2 * work.done)
    assert run.state.snapshot().phase("work").eta == pytest.approx(4, rel=0.2)


def test_a_phase_of_children_is_estimated_by_the_pace_of_its_fraction() -> None:
    run = Run()
    work = run.state.enter(run.state.root, "work")
    child = run.state.enter(work, "child", total=100)
    for _ in range(30):
        run.now += 1
        child.advance()
        run.state.publish()
    shown = run.state.snapshot().phase("work")
    # Nobody knows whether there will be another one.
    assert shown.fraction == pytest.approx(0.3 / 1.3)
    assert shown.eta is None
    assert run.state.snapshot().eta is None


def test_a_further_attempt_is_measured_anew() -> None:
    run = Run()
    work = run.state.enter(run.state.root, "work", total=100)
    run.now += 1
    work.advance(90)
    run.state.leave(work, "failed")
    run.now += 1000
    run.state.enter(run.state.root, "work")
    assert run.state.snapshot().phase("work").rate is None
    run.now += 2
    work.advance(2)
    assert run.state.snapshot().phase("work").rate == pytest.approx(1)


def test_a_phase_that_has_ended_keeps_its_rate_and_has_no_eta() -> None:
    run = Run()
    work = run.state.enter(run.state.root, "work", total=10)
    run.now += 5
    work.advance(10)
    run.state.leave(work, "completed")
    run.now += 500
    shown = run.state.snapshot().phase("work")
    assert shown.rate == pytest.approx(2)
    assert shown.eta is None


def test_a_phase_that_has_ended_keeps_its_rate_when_a_child_of_it_folds() -> None:
    run = Run(Pipeline("p", ["work", "other"]), Limits(phases=3))
    work = run.state.enter(run.state.root, "work", total=10)
    run.state.leave(run.state.enter(work, "child"), "completed")
    run.now += 5
    work.advance(10)
    run.state.leave(work, "completed")
    run.now += 500
    other = run.state.enter(run.state.root, "other")
    run.state.enter(other, "x")
    assert run.state.snapshot().phase("work").folded == 1
    assert run.state.snapshot().phase("work").rate == pytest.approx(2, rel=0.02)


# A session


def test_the_estimate_belongs_to_its_state_and_not_to_the_moment_of_asking() -> None:
    run = Run(Pipeline("p", {"one": 1, "two": 1}))
    one = run.state.enter(run.state.root, "one", total=10)
    run.now += 5
    one.advance(5)
    before = run.state.snapshot()
    run.now += 60
    run.state.beat()
    assert run.state.snapshot().eta == before.eta is not None
    update = run.state.update_since(before.seq - 1, "")
    assert update.head.eta == before.eta


def test_nothing_begun_has_no_eta_unless_it_was_run_before() -> None:
    run = Run(Pipeline("p", {"one": 1, "two": 1}))
    assert run.state.snapshot().eta is None
    run = Run(Pipeline("p", {"one": 1, "two": 1}))
    run.state.use_history(history_of_seconds({"one": 30.0, "two": 12.0}))
    run.state.touch()
    assert run.state.snapshot().eta == pytest.approx(42)
    run.state.enter(run.state.root, "one")
    run.now += 10
    run.state.increment("x")
    assert run.state.snapshot().eta == pytest.approx(20 + 12)
    run.now += 100
    run.state.increment("x")
    # It is overdue: a quarter of its time once more, and all goes slower than usual.
    assert (run.state.snapshot().eta or 0) > 110 / 4 + 12


def test_a_phase_that_takes_longer_than_ever_has_never_nothing_left() -> None:
    run = Run(Pipeline("p", {"one": 1}))
    run.state.use_history(history_of_seconds({"one": 10.0}))
    run.state.enter(run.state.root, "one")
    seen = []
    for _ in range(4):
        run.now += 4
        run.state.increment("x")
        seen.append(run.state.snapshot().eta)
    assert seen == [6, 2, pytest.approx(1.1, abs=0.1), 4]
    done = part(1, 1, spent=10, finished=True)
    assert remaining([done, part(1, 0.5, running=True, spent=12)]) == pytest.approx(0.5 * 22 / 1.5)
    assert remaining([done, part(2, None, running=True, spent=12)]) == 8
    assert remaining([done, part(1, None, running=True, spent=12)]) is None
    assert remaining([done, part(1, 1, running=True, spent=12, eta=0)]) == 0


def test_what_would_take_years_is_not_known(exhaustive: bool) -> None:
    run = Run(Pipeline("p", {"one": 1, "two": 1}))
    one = run.state.enter(run.state.root, "one", total=1e6)
    two = run.state.enter(run.state.root, "two")
    child = run.state.enter(two, "child", total=1e6)
    for step in range(20_000 if exhaustive else 2_000):
        run.now += 1 if step < 10 else 1000
        if step < 10:
            one.advance(1)
            child.advance(1)
        else:
            one.update(message=str(step))
            child.update(message=str(step))
        snapshot = run.state.snapshot()
        for eta in (snapshot.eta, snapshot.phase("one").eta, snapshot.phase("two").eta):
            assert eta is None or eta < 20 * 365 * 86400
    assert [phase.eta for phase in run.state.snapshot().phases] == [None, None]


def test_phases_that_run_together_last_as_long_as_the_longest() -> None:
    both = [part(running=True, eta=10), part(running=True, eta=30)]
    assert remaining(both) == 30
    assert remaining([part(2, 1, spent=12, finished=True), *both, part(1), part(1)]) == 30 + 2 * 6


def test_what_was_never_run_before_is_estimated_by_its_weight_at_the_pace_of_this_run() -> None:
    parts = [part(4, 1, spent=20, finished=True), part(2, 0.5, spent=5, running=True), part(4)]
    # 5 units of weight took 25 s: 5 s each; 1 is left of the second, 4 of the third.
    assert remaining(parts) == pytest.approx(5 + 20)


def test_a_phases_own_rate_comes_before_the_weight() -> None:
    done = part(1, 1, spent=10, finished=True)
    assert remaining([done, part(1, 0.5, running=True, spent=3, eta=2)]) == 2
    assert remaining([done, part(1, 0.5, running=True, spent=3, eta=2, open_ended=True)]) is None
    assert remaining([done, part(1, 0.5, running=True, spent=3)]) == pytest.approx(0.5 * 13 / 1.5)


def test_without_anything_to_go_by_there_is_no_figure() -> None:
    assert remaining([part(running=True), part()]) is None
    assert remaining([part(1, 0.5, spent=WARM_UP / 2, running=True)]) is None
    assert remaining([part(1, 1, spent=3, finished=True)]) == 0
    assert remaining([]) == 0


some_fraction = st.none() | st.floats(0, 1)
some_part = st.tuples(st.floats(0, 10), some_fraction, st.floats(0, 1), st.floats(0, 1e6), st.booleans(), st.booleans())


@given(st.lists(some_part, max_size=6))
def test_an_estimate_is_never_negative(parts: list[tuple[float, float | None, float, float, bool, bool]]) -> None:
    estimate = remaining(
        [
            part(weight, fraction, free=free, spent=spent, running=running, finished=finished)
            for weight, fraction, free, spent, running, finished in parts
        ]
    )
    assert estimate is None or estimate >= 0


def test_a_phase_of_unknown_length_makes_the_estimate_fall_while_it_goes_on() -> None:
    run = Run(Pipeline("p", {"fetch": 1, "parse": 1, "load": 1}))
    fetch = run.state.enter(run.state.root, "fetch", total=100)
    run.now += 100
    fetch.advance(100)
    run.state.leave(fetch, "completed")
    run.state.enter(run.state.root, "parse")
    seen = []
    for _ in range(12):
        run.now += 10
        run.state.increment("x")
        seen.append(run.state.snapshot().eta)
    # By the pace of the first one 100 s each; what parse takes beyond that is not known, and load is yet to come.
    assert seen == pytest.approx([190, 180, 170, 160, 150, 140, 130, 120, 110, 100, 100, 100])


def test_what_was_skipped_says_nothing_of_the_pace() -> None:
    run = Run(Pipeline("p", {"a": 8, "b": 1, "c": 1, "d": 1}))
    run.state.skip_phase("a")
    b = run.state.enter(run.state.root, "b")
    run.now += 100
    run.state.leave(b, "completed")
    assert run.state.snapshot().eta == pytest.approx(200)
    c = run.state.enter(run.state.root, "c", total=1000)
    c.skip(900)
    run.now += 100
    c.advance(100)
    run.state.leave(c, "completed")
    # 100 of its units took 100 s, so a whole one takes 1,000; b took 100: both together 200 s for 1.1 phases.
    assert run.state.snapshot().eta == pytest.approx(200 / 1.1, rel=1e-3)


def test_what_a_child_has_skipped_is_not_in_its_parents_pace() -> None:
    run = Run(Pipeline("p", {"a": 1}))
    a = run.state.enter(run.state.root, "a")
    a.usual_children = 1
    x = run.state.enter(a, "x", total=1000)
    x.skip(900)
    for _ in range(6):
        run.now += 1
        x.advance()
        run.state.publish()
    snapshot = run.state.snapshot()
    assert snapshot.phase("a", "x").eta == pytest.approx(94)
    assert snapshot.phase("a").eta == pytest.approx(94)
    assert snapshot.eta == pytest.approx(94)


def test_children_that_an_earlier_attempt_completed_are_not_in_the_pace_of_this_one() -> None:
    run = Run(Pipeline("p", {"a": 1}))
    a = run.state.enter(run.state.root, "a")
    for name in ("x", "y", "z"):
        child = run.state.enter(a, name, total=10)
        child.advance(10)
        run.state.leave(child, "completed")
    run.state.leave(a, "failed")
    a = run.state.enter(run.state.root, "a")
    a.usual_children = 4
    last = run.state.enter(a, "last", total=100)
    for _ in range(6):
        run.now += 1
        last.advance()
        run.state.publish()
    assert run.state.snapshot().phase("a").eta == pytest.approx(94)


def test_of_a_session_whose_phases_are_not_declared_nobody_knows_what_comes_after_the_last() -> None:
    run = Run()
    for name in ("one", "two"):
        phase = run.state.enter(run.state.root, name, total=10)
        run.now += 5
        phase.advance(5)
        assert run.state.snapshot().phase(name).eta == pytest.approx(5)
        assert run.state.snapshot().eta == pytest.approx(5)
        run.state.leave(phase, "completed")
        assert run.state.snapshot().eta is None


def test_of_a_phase_that_was_done_in_part_before_the_whole_is_learnt() -> None:
    run = Run(Pipeline("p", {"a": 1, "b": 1}))
    for name, skipped in (("a", 95), ("b", 0)):
        phase = run.state.enter(run.state.root, name, total=100)
        phase.skip(skipped)
        run.now += 5
        phase.advance(100 - skipped)
        run.state.leave(phase, "completed")
    run.state.end("completed")
    lesson = run.state.lesson()
    assert lesson is not None
    a, b = (learned(None, lesson).phases[name] for name in "ab")
    # What was passed over took no time: the whole would have taken a hundred seconds.
    assert a.seconds == pytest.approx(100, rel=0.01)
    assert b.seconds == 5


def test_the_eta_of_a_session_that_has_ended_is_none() -> None:
    run = Run(Pipeline("p", {"one": 1, "two": 1}))
    one = run.state.enter(run.state.root, "one", total=10)
    run.now += 5
    one.advance(5)
    assert pytest.approx(5 + 10) == run.state.snapshot().eta
    run.state.end("failed")
    assert run.state.snapshot().eta is None


def test_the_eta_falls_while_the_work_goes_on_steadily() -> None:
    run = Run(Pipeline("p", {"one": 1, "two": 1}))
    seen: list[float] = []
    for name in ("one", "two"):
        phase = run.state.enter(run.state.root, name, total=20)
        for _ in range(20):
            run.now += 1
            phase.advance()
            eta = run.state.snapshot().eta
            if eta is not None:
                seen.append(eta)
        run.state.leave(phase, "completed")
    assert seen[0] == pytest.approx(19 + 20)
    assert seen[-1] == pytest.approx(0, abs=1e-9)
    assert all(after <= before + 1e-9 for before, after in pairwise(seen))
