"""What the nodes of a Cluster have answered, and what they have not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from ...errors import StoreError

T = TypeVar("T")


class UnansweredError(StoreError):
    """A node of a Cluster gave no reply to what it was needed for; stands in the place of that.

    Args:
        refused: Whether the node has answered, and can or may do nothing.
    """

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


def answered(results: Sequence[T | UnansweredError]) -> list[T]:
    """The results.

    Raises:
        UnansweredError: One of them is none.
    """
    found: list[T] = []
    for result in results:
        if isinstance(result, UnansweredError):
            raise result
        found.append(result)
    return found


def some_answered(results: Sequence[T | UnansweredError]) -> list[T]:
    """The results but for those of nodes that do not answer.

    Raises:
        UnansweredError: All of them are such, or a node has refused what it was asked.
    """
    found = [result for result in results if not isinstance(result, UnansweredError)]
    for result in results:
        if isinstance(result, UnansweredError) and (result.refused or not found):
            raise result
    return found
