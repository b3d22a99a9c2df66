"""What is told of an attempt as it happens, to whoever traces it: `trio_progress.tracing`, where that is in use.

None of these raises, waits, or changes the session. The hot path tells nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from ..state.phase import PhaseNode
    from ..state.session import SessionState


class Tracing(Protocol):
    """What traces one attempt."""

    def begin(self, before: str | None) -> str | None:
        """The attempt begins; returns what is stored of it, for the next one.

        Args:
            before: What was stored by the attempt before, or by whoever declared the session.
        """

    def attach(self) -> None:
        """The block of the session begins, in this task."""

    def detach(self) -> None:
        """It is left, in this task."""

    def entered(self, node: PhaseNode) -> None:
        """A phase was entered by a block, in this task."""

    def left(self, node: PhaseNode, error: BaseException | None) -> None:
        """The block of a phase was left; the phase may have ended before."""

    def handed_over(self, node: PhaseNode) -> None:
        """A hand-over has ended what ran before a phase, which runs, or had ended itself."""

    def emitted(self, name: str, data: Any) -> None:
        """A custom event was logged."""

    def end(self) -> None:
        """The attempt has ended, and its phases with it."""


MakeTracing: TypeAlias = "Callable[[SessionState], Tracing]"
