"""The errors of the package, as they come back from where pickle or copy has carried them."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import trio_progress
from trio_progress import errors

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
