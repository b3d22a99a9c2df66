"""What a session's state asks of its owner, and what a call with bad input does.

Such a call raises at once, or, where the session is not strict, is noted and dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Concatenate, Final, ParamSpec, Protocol, TypeVar

from ..errors import ForeignProcessError, ForeignThreadError, PhaseError, SessionClosedError

if TYPE_CHECKING:
    from .phase import PhaseNode
    from .tree import PhaseTree

REFUSED: Final = (
    ValueError,
    TypeError,
    ArithmeticError,
    PhaseError,
    SessionClosedError,
    ForeignThreadError,
    ForeignProcessError,
)
"""What a call with bad input raises; with `strict=False` it is noted instead."""


class Unset:
    """Tells "not given" from None."""

    def __repr__(self) -> str:
        return "unset"


UNSET: Final = Unset()


class Host(Protocol):
    """The owner of a state, as far as the state needs it: nothing here waits."""

    def late(self, what: str, where: str) -> None:
        """An update came for something that has ended."""

    def drop(self, error: Exception) -> None:
        """Bad input was dropped, because the session is not strict."""

    def mark_dirty(self) -> None:
        """Something has changed since the last published state; called once until the next `publish()`."""

    def request_persist(self) -> None:
        """Something was published that should not wait for the next interval to be stored."""

    def drain(self, node: PhaseNode) -> None:
        """A phase is about to end: what threads have counted on it is to be brought in now."""

    def timed(self, node: PhaseNode) -> None:
        """A phase has completed: how long it took can be counted."""

    def refuse_result(self, error: Exception) -> None:
        """A result came that cannot be kept."""


_G = TypeVar("_G", bound="PhaseNode | PhaseTree")
_P = ParamSpec("_P")


def guarded(method: Callable[Concatenate[_G, _P], None]) -> Callable[Concatenate[_G, _P], None]:
    """Where the session is not strict, bad input to the method is noted and dropped."""

    @wraps(method)
    def call(self: _G, /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except REFUSED as error:
            if self.state.strict:
                raise
            self.state.host.drop(error)

    return call
