"""What a session's state asks of its owner: it waits for nothing, and knows nobody else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from .guard import Noting

if TYPE_CHECKING:
    from .phase import PhaseNode


class Host(Noting, Protocol):
    """The owner of a state, as far as the state needs it."""

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
