"""How the end of a run changes what is known of its pipeline."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_progress import PhaseHistory, PipelineHistory
from trio_progress.state.history import (
    KEPT_FOR,
    KNOTS,
    PHASES_KEPT,
    PIPELINES_KEPT,
    Lesson,
    PhaseLesson,
    decode_history,
    encode_history,
    forgotten,
    given_history,
    history_of_seconds,
    learned,
)

DAY = 86400.0


def taught(*seconds: float | None, history: PipelineHistory | None = None) -> PipelineHistory:
    """The history after runs in which the one phase took so long; None: it was skipped."""
    for number, took in enumerate(seconds):
        history = learned(history, Lesson(at=number * 60.0, phases={"a": PhaseLesson(seconds=took)}))
    assert history is not None
    return history


def test_times_are_geometric_means_in_which_the_newest_run_weighs_a_third_at_least() -> None:
    assert taught(10.0).phases["a"].seconds == 10
    assert taught(10.0, 14.0).phases["a"].seconds == pytest.approx(math.sqrt(140))
    steady = taught(*[10.0] * 20)
    assert taught(14.0, history=steady).phases["a"].seconds == pytest.approx(10 * 1.4**0.3)


def test_a_slow_first_run_is_believed_less_than_the_second() -> None:
    assert taught(100.0, 10.0).phases["a"].seconds == pytest.approx(100 * 0.1**0.75)


def test_what_takes_longer_twice_has_changed_and_once_is_an_accident() -> None:
    steady = taught(*[10.0] * 20)
    once = taught(60.0, history=steady)
    assert once.phases["a"].seconds == pytest.approx(10 * 6**0.3)
    twice = taught(60.0, history=once)
    assert twice.phases["a"].seconds > 30


def test_skipping_teaches_how_often_a_phase_is_worked_on() -> None:
    history = taught(10.0, *[None] * 9)
    phase = history.phases["a"]
    assert (phase.runs, phase.reached, phase.seconds) == (1, 10, 10)
    assert phase.worked < 0.25
    assert taught(10.0, history=history).phases["a"].worked > phase.worked
    assert taught(None).phases == {}


def test_units_and_the_growth_of_totals_are_learnt() -> None:
    lesson = PhaseLesson(seconds=40.0, total=400, count=400, first_total=20, alone=0.5, children=3)
    phase = learned(None, Lesson(at=0.0, phases={"a": lesson})).phases["a"]
    assert (phase.unit_seconds, phase.count, phase.alone, phase.children) == (0.1, 400, 0.5, 3)
    assert phase.growth == pytest.approx(math.log(20))


def test_what_needed_no_work_is_added_to_the_time() -> None:
    phase = learned(None, Lesson(at=0.0, phases={"a": PhaseLesson(seconds=10.0, needed=0.25)})).phases["a"]
    assert phase.seconds == 40


def test_the_range_narrows_in_a_few_regular_runs_and_widens_in_one_that_was_off() -> None:
    def judged(*misses: float, history: PipelineHistory) -> list[float]:
        spreads = []
        for miss in misses:
            history = learned(history, Lesson(at=1.0, phases={}, miss=miss, error=miss / 10))
            spreads.append(history.spread)
        assert history.error is not None
        assert min(misses) / 10 <= history.error <= max(misses) / 10
        return spreads

    regular = judged(*[0.05] * 4, history=PipelineHistory())
    assert regular == sorted(regular, reverse=True)
    assert 0.08 < regular[0] < 0.1
    assert 0.05 < regular[-1] < 0.06
    assert judged(1.0, history=PipelineHistory(judged=4, spread=0.05)) == [pytest.approx(0.05**0.7)]
    assert judged(0.0, history=PipelineHistory(judged=4, spread=0.02)) == [pytest.approx(0.02)]


def test_phases_that_nobody_ran_for_a_month_go() -> None:
    both = Lesson(at=0.0, phases={name: PhaseLesson(seconds=1.0) for name in ("a", "b")})
    history = learned(None, both)
    for day in (20, 29):
        history = learned(history, Lesson(at=day * DAY, phases={"a": PhaseLesson(seconds=1.0)}))
        assert set(history.phases) == {"a", "b"}
    history = learned(history, Lesson(at=31 * DAY, phases={"a": PhaseLesson(seconds=1.0)}))
    assert set(history.phases) == {"a"}


def test_a_history_is_bounded() -> None:
    history = None
    for number in range(3):
        phases = {f"p{number}-{index}": PhaseLesson(seconds=1.0) for index in range(PHASES_KEPT)}
        history = learned(history, Lesson(at=float(number), phases=phases))
        assert len(history.phases) == PHASES_KEPT
        assert all(name.startswith(f"p{number}-") for name in history.phases)


def test_pipelines_that_nobody_ran_for_a_month_go_and_so_do_too_many() -> None:
    histories = {f"p{index}": PipelineHistory(runs=1, at=float(index)) for index in range(PIPELINES_KEPT + 5)}
    assert set(forgotten(histories, 1000.0)) == {f"p{index}" for index in range(5)}
    assert forgotten({"old": PipelineHistory(at=0.0), "new": PipelineHistory(at=KEPT_FOR)}, KEPT_FOR + 1) == ["old"]


def test_what_older_versions_kept_is_a_history_of_one_run() -> None:
    history = history_of_seconds({"fetch": 12.0, "build": 0.0}, 7.0)
    assert history is not None
    assert (history.runs, history.at, history.phases["fetch"].seconds) == (1, 7.0, 12.0)
    assert history_of_seconds({}) is None


some_seconds = st.none() | st.floats(0, 1e7)
some_lesson = st.builds(
    PhaseLesson,
    seconds=some_seconds,
    needed=st.floats(0, 1),
    total=st.none() | st.floats(0, 1e9),
    count=st.floats(0, 1e9),
    first_total=st.none() | st.floats(0, 1e9),
    alone=st.none() | st.floats(0, 1),
    children=st.none() | st.integers(1, 10_000),
    profile=st.just(()) | st.just(tuple(index / len(KNOTS) for index in range(len(KNOTS)))),
)


@given(
    st.lists(st.tuples(st.dictionaries(st.sampled_from("abc"), some_lesson), st.none() | st.floats(0, 20)), max_size=8)
)
def test_whatever_is_learnt_can_be_stored_and_read_again(
    runs: list[tuple[dict[str, PhaseLesson], float | None]],
) -> None:
    history: PipelineHistory | None = None
    for number, (phases, miss) in enumerate(runs):
        history = learned(history, Lesson(at=float(number), phases=phases, miss=miss, error=miss and min(miss, 1.0)))
        assert decode_history(encode_history(history)) == history
        for phase in history.phases.values():
            assert isinstance(phase, PhaseHistory)
            assert 0 < phase.seconds < math.inf
            assert 0 <= phase.worked <= 1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'{"spread": -1}',
        b'{"phases": {"a": {"seconds": 1e400}}}',
        b"\xff",
        b"1",
        b'{"error": -0.5}',
        b'{"error": 1e308}',
        b'{"at": 1e300}',
        b'{"runs": 1' + b"0" * 400 + b"}",
        b'{"judged": 1' + b"0" * 400 + b"}",
        b'{"phases": {"a": {"seconds": 1, "reached": 1' + b"0" * 400 + b"}}}",
    ],
)
def test_what_is_no_history_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="no history"):
        decode_history(data)


def test_a_history_of_more_phases_than_are_kept_is_not_taken_in() -> None:
    def of(number: int) -> PipelineHistory:
        return PipelineHistory(runs=1, at=1.0, phases={f"p{n}": PhaseHistory(seconds=1.0) for n in range(number)})

    for taken in (of(PHASES_KEPT), of(PHASES_KEPT).to_json()):
        assert given_history(taken) == of(PHASES_KEPT)
    for refused in (of(PHASES_KEPT + 1), of(PHASES_KEPT + 1).to_json()):
        with pytest.raises(ValueError, match="at most 200 phases"):
            given_history(refused)


@pytest.mark.parametrize(
    "made",
    [
        PipelineHistory(phases=None),  # type: ignore[arg-type]
        PipelineHistory(runs="3"),  # type: ignore[arg-type]
        PipelineHistory(spread=math.nan),
        PipelineHistory(phases={"a": PhaseHistory(seconds="1")}),  # type: ignore[arg-type]
    ],
    ids=["phases", "runs", "spread", "seconds"],
)
def test_a_history_that_was_made_with_wrong_values_is_not_taken_in(made: PipelineHistory) -> None:
    with pytest.raises(ValueError, match="no history"):
        given_history(made)
