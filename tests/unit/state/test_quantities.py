"""Any real number counts by its value, in every call that takes one; what is kept of it is a plain int or float."""

from __future__ import annotations

import array
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any, NoReturn

import pytest

from tests.support import QuietHost
from trio_progress import Limits, PhaseSpec, Pipeline
from trio_progress.protocol.clock import Clock
from trio_progress.protocol.page import check_page
from trio_progress.server.settings import ServerSettings, checked_port
from trio_progress.settings import Settings
from trio_progress.state import checks
from trio_progress.state.limits import MAX_UNITS
from trio_progress.state.phase import PhaseNode
from trio_progress.state.record import encode_record
from trio_progress.state.session import SessionState


class Kind:
    """A dtype, as far as it is asked."""

    def __init__(self, kind: str) -> None:
        self.kind = kind


class Narrow:
    """A number as numpy's scalars of 8 bits are one: it wraps, and what it is added to becomes one as well."""

    shape: tuple[int, ...] = ()

    def __init__(self, value: Any, kind: str = "u", item: Any = None) -> None:
        self.value = value
        self.dtype = Kind(kind)
        self._item = value if item is None else item

    def item(self) -> Any:
        return self if self._item is Narrow else self._item

    def __radd__(self, other: Any) -> Narrow:
        if other > 255:
            raise OverflowError("out of bounds for 8 bits")
        return Narrow((other + self.value) % 256)

    __add__ = __radd__

    def __lt__(self, other: Any) -> bool:
        return bool(self.value < other)

    def __gt__(self, other: Any) -> bool:
        return bool(self.value > other)

    def __float__(self) -> float:
        return float(self.value)


class Masked(Narrow):
    """One whose value is missing."""

    mask = True


class Tensor(Narrow):
    """One with dimensions: that it holds but one number makes it none."""

    shape = (1,)

    def __index__(self) -> int:
        return int(self.value)


class Indexed:
    """A whole number by its own word, as gmpy2's are."""

    def __index__(self) -> int:
        return 7


class Broken:
    def __float__(self) -> NoReturn:
        raise RuntimeError("not today")


GOOD: list[tuple[Any, int | float]] = [
    (Narrow(200), 200),
    (Narrow(1.5, "f"), 1.5),
    (Narrow(2.5, "f", item=Narrow), 2.5),  # as long doubles are items of themselves
    (Narrow(True, "b"), 1),
    (Indexed(), 7),
    (True, 1),
    (Decimal("0.5"), 0.5),
    (Fraction(3, 4), 0.75),
    (3, 3),
    (10**10, 10**10),
    (2.0**40, 2.0**40),
]
BAD: list[Any] = [
    Narrow(1 + 2j, "c"),
    Narrow(5, "M", item="2026-01-01"),
    Narrow(math.nan, "f"),
    Masked(0.0, "f"),
    Narrow(5, "V", item=b"5"),
    Tensor(3),
    Broken(),
    Decimal("sNaN"),
    Decimal("1e400"),
    Fraction(10**400),
    10**5000,
    bytearray(b"1"),
    memoryview(b"12"),
    array.array("b", b"12"),
    "5",
    None,
    [1],
]


@pytest.fixture
def state() -> SessionState:
    state = SessionState("a", host=QuietHost(), clock=Clock(lambda: 5.0, lambda: 1e9))
    state.begin(1)
    return state


@pytest.fixture
def phase(state: SessionState) -> PhaseNode:
    return state.enter(state.root, "x")


def kinds(*values: object) -> set[type]:
    return {type(value) for value in values}


@pytest.mark.parametrize(("given", "value"), GOOD)
def test_the_running_count_is_of_the_value_and_never_of_the_type(
    given: Any, value: float, phase: PhaseNode, state: SessionState
) -> None:
    for count in range(1, 6):  # The first goes the long way, the others the short one.
        phase.advance(given)
        assert phase.done == count * value
        assert kinds(phase.done) <= {int, float}
    phase.skip(given)
    phase.extend(given)
    assert (phase.done, phase.skipped, phase.total) == (6 * value, value, 7 * value)
    for _ in range(3):
        state.increment("n", given)
    assert state.counters == {"n": 3 * value}
    phase.update(done=given, total=given)
    assert (phase.done, phase.total) == (value, value)
    assert kinds(phase.done, phase.total, phase.skipped, state.counters["n"]) <= {int, float}
    encode_record(state)


def test_a_narrow_number_adds_to_a_count_that_it_could_not_hold(phase: PhaseNode) -> None:
    phase.advance(300)
    phase.advance(Narrow(3))
    phase.advance(Narrow(250))
    phase.advance()
    assert (phase.done, type(phase.done)) == (554, int)


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: type(bad).__name__)
@pytest.mark.parametrize("warm", [False, True])
def test_what_is_no_real_number_is_refused_at_the_call(
    warm: bool, bad: Any, phase: PhaseNode, state: SessionState
) -> None:
    if warm:
        phase.advance()
    before = (phase.done, phase.total, dict(state.counters))
    calls: list[Callable[[Any], object]] = [
        phase.advance,
        phase.skip,
        phase.extend,
        lambda n: phase.update(done=n),
        lambda n: state.increment("n", n),
        lambda n: state.enter(state.root, "y", weight=n, total=n) if n is not None else checks.number("n", n),
        lambda n: PhaseSpec("y", weight=n),
    ]
    for call in calls:
        with pytest.raises((TypeError, ValueError)) as caught:
            call(bad)
        assert len(str(caught.value)) < 400
    assert (phase.done, phase.total, dict(state.counters)) == before


@pytest.mark.parametrize(("given", "value"), GOOD)
def test_what_is_declared_or_set_is_kept_as_a_plain_number(given: Any, value: float, state: SessionState) -> None:
    spec = PhaseSpec("x", weight=given, total=given, stall_after=given)
    assert (spec.weight, spec.total, spec.stall_after) == (value, value, value)
    pipeline = Pipeline("p", {"x": given, "y": given})
    assert [spec.weight / pipeline.weight for spec in pipeline.phases] == [0.5, 0.5]
    node = state.enter(state.root, "y", total=given, weight=given)
    assert (node.total, node.weight) == (value, value)
    settings = Settings(persist_interval=given, stall_after=given, flush_timeout=given)
    server = ServerSettings(keepalive=given, drain_timeout=given)
    kept = [spec.weight, spec.total, node.total, node.weight, settings.persist_interval, settings.flush_timeout]
    assert kinds(*kept, server.keepalive, server.drain_timeout, settings.stall_after) <= {int, float}


def test_never_is_infinite_in_any_kind_of_number() -> None:
    for never in (math.inf, Decimal("Infinity"), Narrow(math.inf, "f")):
        assert PhaseSpec("x", stall_after=never).stall_after == math.inf  # type: ignore[arg-type]
        assert type(Settings(stall_after=never).stall_after) is float  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="stall_after"):
        Settings(stall_after=math.nan)


def test_a_bound_is_a_whole_number_of_any_kind() -> None:
    limits = Limits(phases=Indexed(), fields=9)  # type: ignore[arg-type]
    assert (limits.phases, limits.fields) == (7, 9)
    assert kinds(limits.phases, Settings(event_limit=Indexed()).event_limit) == {int}  # type: ignore[arg-type]
    bads: list[Any] = [True, 0, 1.0, Narrow(1.0, "f"), "3", Tensor(3)]
    for bad in bads:
        with pytest.raises(ValueError, match="whole number"):
            replace(limits, depth=bad)
    for large in (MAX_UNITS, 10**5000):  # SQLite takes 64 bits of a number, and Redis of most.
        with pytest.raises(ValueError, match="below"):
            Settings(event_limit=large)
    assert Settings(event_limit=MAX_UNITS - 1).event_limit == MAX_UNITS - 1


def test_a_port_and_the_length_of_a_page_are_whole_numbers_of_any_kind() -> None:
    assert kinds(checked_port("port", Indexed()), check_page(None, Indexed(), None)) == {int}
    bads: list[Any] = [True, -1, 7.0, Narrow(7.0, "f"), "7", 10**400, None]
    for bad in bads:
        with pytest.raises(ValueError, match="port must be a whole number"):
            checked_port("port", bad)
        with pytest.raises(ValueError, match="limit must be a whole number"):
            check_page(None, bad, None)


def test_the_bounds_of_a_count_hold_on_every_way(phase: PhaseNode) -> None:
    phase.advance()
    for n in (MAX_UNITS, float(MAX_UNITS), -1, -0.5, math.inf):
        with pytest.raises(ValueError, match="n must be"):
            phase.advance(n)
    for n in (0, 0.0, 2**30 - 1, 2**30, MAX_UNITS - 2**31 - 10):
        phase.advance(n)
    assert phase.done == MAX_UNITS - 10


# Values


def spread(value: Any) -> Iterator[Any]:
    yield value
    yield [value]
    yield {"a": (value,)}


@pytest.mark.parametrize(
    ("given", "value"),
    [
        (Narrow(200), 200),
        (Narrow(1.5, "f"), 1.5),
        (Narrow(True, "b"), True),
        (Narrow(2.5, "f", item=Narrow), 2.5),
        (Indexed(), 7),
    ],
)
def test_scalars_are_plain_values_in_all_that_is_kept(given: Any, value: object, state: SessionState) -> None:
    for wrapped, plain in zip(spread(given), spread(value), strict=True):
        state.set({"a": wrapped})
        state.set_result(wrapped)
        state.save(wrapped)
        state.emit("e", wrapped)
        (*_, event) = state.event_log.after(0)
        for kept in (state.fields["a"], state.result, state.saved, event.data):
            assert repr(kept) == repr(plain).replace("(", "[").replace(",)", "]")


@pytest.mark.parametrize(
    ("bad", "instead"),
    [
        (Narrow(1 + 2j, "c"), "a float or a str"),
        (Narrow(math.nan, "f"), "JSON has no nan"),
        (Narrow(2**60), "within 2\\*\\*53"),
        (Decimal("1.5"), "a float or a str"),
        ({1, 2}, "a list of it"),
        (range(3), "a list of it"),
    ],
)
def test_what_is_no_json_is_refused_with_what_to_send_instead(bad: Any, instead: str, state: SessionState) -> None:
    with pytest.raises((TypeError, ValueError), match=instead):
        state.set({"a": bad})
    assert state.fields == {}
