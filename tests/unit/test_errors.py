"""The errors of the package, as they come back from where pickle or copy has carried them."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import trio_progress
from trio_progress import errors, testing

MADE: list[errors.ProgressError] = [
    errors.ProgressError("odd"),
    errors.SessionActiveError("r-42", "in this process"),
    errors.SessionEndedError("r-42", "failed"),
    errors.SessionEndedError("r-42", "failed", "text"),
    errors.SessionCompletedError("r-42"),
    errors.SessionClosedError("closed"),
    errors.SessionCancelledError("r-42", "why"),
    errors.SessionCancelledError("r-42", None),
    errors.SessionNotFoundError("r-42"),
    errors.ForeignThreadError("thread"),
    errors.ForeignProcessError("session 'r-42'", 1, 2),
    errors.PhaseError("phase"),
    errors.StoreError("store", 2),
    errors.CorruptEntryError("entry"),
    errors.FencedError("r-42", 7),
    errors.ProtocolError("protocol"),
]


def pickled(protocol: int) -> Callable[[Any], Any]:
    return lambda error: pickle.loads(pickle.dumps(error, protocol))


WAYS = {
    **{f"pickle {protocol}": pickled(protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)},
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


def test_all_errors_are_among_those_that_are_tried() -> None:
    public = {getattr(trio_progress, name) for name in dir(trio_progress) if name.endswith("Error")}
    assert {type(error) for error in MADE} == public
    assert public == {kind for name, kind in vars(errors).items() if name.endswith("Error")}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("error", MADE, ids=lambda error: type(error).__name__)
def test_an_error_comes_back_as_itself(way: str, error: errors.ProgressError) -> None:
    error.add_note("while it was tried")
    came = WAYS[way](error)
    assert type(came) is type(error)
    assert (str(came), came.args, vars(came)) == (str(error), error.args, vars(error))


def test_so_does_an_error_of_a_user_that_is_made_from_ours() -> None:
    came = pickle.loads(pickle.dumps(OursError(3)))
    assert (type(came), str(came), came.code) == (OursError, "failed with 3", 3)


class OursError(errors.StoreError):
    def __init__(self, code: int) -> None:
        super().__init__(f"failed with {code}")
        self.code = code


def failed_schedule() -> testing.ScheduleError:
    async def fails() -> None:
        raise OursError(3)

    with pytest.raises(testing.ScheduleError) as caught:
        testing.explore(fails, schedules=1, seed=1)
    return caught.value


TESTING: dict[str, Callable[[], BaseException]] = {
    "LeftoverError": lambda: testing.LeftoverError(["a task", "a file"]),
    "NotProvenError": lambda: testing.NotProvenError("too many"),
    "ScheduleError": failed_schedule,
    "StuckError": lambda: testing.StuckError("stuck"),
    "UnsupportedTrioError": lambda: testing.UnsupportedTrioError("no such part"),
}


def test_all_errors_of_testing_are_among_those_that_are_tried() -> None:
    assert set(TESTING) == {name for name in dir(testing) if name.endswith("Error")}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", TESTING)
def test_so_do_those_of_testing_which_a_pool_may_explore(way: str, name: str) -> None:
    error = TESTING[name]()
    came: Any = WAYS[way](error)
    assert type(came) is type(error)
    assert (str(came), came.args) == (str(error), error.args)
    assert set(vars(came)) == set(vars(error))
    if isinstance(error, testing.ScheduleError) and isinstance(came, testing.ScheduleError):
        assert (came.timeline, came.page()) == (error.timeline, error.page())
        assert str(came.error) == "OursError: failed with 3"
