"""The total of a phase that loops are counted on, by what each has said and given."""

from __future__ import annotations

from typing import Any

import pytest

from trio_progress.state.limits import MAX_UNITS
from trio_progress.state.loops import Loop, Loops, length_of


class Owner:
    """What iterates."""


class Sized:
    def __init__(self, said: Any) -> None:
        self.said = said

    def __len__(self) -> Any:
        if isinstance(self.said, Exception):
            raise self.said
        return self.said


def begun(loops: Loops, length: int | None) -> tuple[Owner, Loop]:
    owner = Owner()
    loop = Loop(owner, length, lambda: None)
    loops.add(loop)
    return owner, loop


def test_loops_add_up_with_what_was_done_before() -> None:
    loops = Loops(5)
    kept = [begun(loops, 10), begun(loops, 20)]
    assert loops.total() == 35
    loops.more(2)
    assert loops.total() == 37
    assert kept


def test_a_loop_that_has_ended_counts_for_what_it_gave() -> None:
    loops = Loops(0)
    (_, first), (_owner, _) = begun(loops, 10), begun(loops, 10)
    first.given, first.over = 3, True
    assert loops.total() == 13


def test_a_loop_that_is_gone_counts_for_what_it_gave() -> None:
    loops = Loops(0)
    owner, loop = begun(loops, 10)
    assert loops.total() == 10
    loop.given = 4
    del owner
    assert loops.total() == 4


def test_nobody_knows_the_total_while_a_loop_without_a_length_runs() -> None:
    loops = Loops(0)
    _sized, (_other, endless) = begun(loops, 10), begun(loops, None)
    assert loops.total() is None
    endless.given, endless.over = 7, True
    assert loops.total() == 17


def test_loops_that_never_said_a_length_give_no_total() -> None:
    loops = Loops(0)
    _, loop = begun(loops, None)
    loop.given, loop.over = 3, True
    assert loops.total() is None
    _owner, _ = begun(loops, 10)
    assert loops.total() == 13


def test_a_total_beyond_what_can_be_counted_is_none() -> None:
    loops = Loops(0)
    kept = [begun(loops, MAX_UNITS - 1), begun(loops, MAX_UNITS - 1)]
    assert loops.total() is None
    assert kept


@pytest.mark.parametrize(
    "items",
    [
        Sized(TypeError("no len()")),
        Sized(NotImplementedError()),
        Sized(AttributeError("no")),
        Sized(RuntimeError("ask me later")),
        Sized(-1),
        Sized(1.5),
        Sized(None),
        Sized(MAX_UNITS),
        range(MAX_UNITS),
        range(10**30),
        iter([]),
        5,
    ],
)
def test_a_length_that_is_none_is_not_known(items: object) -> None:
    assert length_of(items) is None


def test_a_length_is_what_len_says() -> None:
    assert [length_of(""), length_of("abc"), length_of(range(7)), length_of(Sized(3)), length_of({1: 2})] == [
        0,
        3,
        7,
        3,
        1,
    ]
