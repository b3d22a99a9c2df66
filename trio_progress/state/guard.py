"""What a call with bad input does.

Such a call raises at once, or, where the session is not strict, is noted and dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

from ..errors import ForeignProcessError, ForeignThreadError, PhaseError, SessionClosedError

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


class Noting(Protocol):
    """Who notes calls that change nothing."""

    def late(self, what: str, where: str) -> None:
        """An update came for something that has ended."""

    def drop(self, error: Exception) -> None:
        """Bad input was dropped, because the session is not strict."""


_G = TypeVar("_G")
_P = ParamSpec("_P")


def guarded(method: Callable[Concatenate[_G, _P], None]) -> Callable[Concatenate[_G, _P], None]:
    """Where the session is not strict, bad input to the method, of a phase or of the tree, is noted and dropped."""

    @wraps(method)
    def call(self: Any, /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except REFUSED as error:
            if self.state.strict:
                raise
            self.state.host.drop(error)

    return call
