"""What authors hold of a session or a phase has values that are read, and methods that change them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from ..state.checks import copied
from ..state.fraction import rate_and_eta
from .one_process import OneProcess

if TYPE_CHECKING:
    from ..protocol.snapshot import PhaseStatus
    from ..state.phase import PhaseNode
    from .core import SessionCore

SESSION_INSTEAD: Final = {
    "message": "use `session.update(message=...)`",
    "title": "use `session.update(title=...)`",
    "saved": "use `session.save(data)`",
    "result": "use `session.set_result(data)`",
    "status": "the end of its block ends it; `session.fail(reason)` and `session.cancel(reason)` say how",
    "phases": "`session.phase(name)` begins one",
    "labels": "give them to `tracker.session(..., labels=...)`",
}
"""What to do instead of assigning to an attribute of a session."""

PHASE_INSTEAD: Final = {
    "done": "use `phase.update(done=...)`, or `phase.advance()` to count on",
    "total": "use `phase.update(total=...)`, or `phase.extend()` for more than there was",
    "message": "use `phase.update(message=...)`",
    "fields": "use `phase.set(name=value)`",
    "status": "leaving the `with` block ends the phase, and `session.skip_phase(name)` passes it over",
    "title": "give it where the phase is entered: `session.phase(name, title=...)`",
    "unit": "give it where the phase is entered: `session.phase(name, unit=...)`",
    "weight": "give it to the pipeline, or where the phase is entered: `phase.phase(name, weight=...)`",
}
"""What to do instead of assigning to an attribute of a phase."""


class ReadOnly(OneProcess):
    """What authors hold of a session or a phase: its values are read, and its methods change them."""

    __slots__ = ()

    _core: SessionCore

    def _read_only(self) -> tuple[str, Mapping[str, str]]:
        """What it is called, and what to do instead of assigning to an attribute."""
        raise NotImplementedError

    if not TYPE_CHECKING:  # Type checkers know without these that there is no such use.

        def __setattr__(self, name: str, value: object) -> None:
            kind = type(self).__name__.lower()
            called, others = self._read_only()
            instead = others.get(name, f"a {kind} keeps what `{kind}.set({name}=...)` is given")
            self._core.refuse(AttributeError(f"{name!r} of {kind} {called!r} cannot be assigned: {instead}"))

        def __delattr__(self, name: str) -> None:
            self.__setattr__(name, None)


class PhaseReading(ReadOnly):
    """How a phase stands."""

    __slots__ = ("_core", "_node")

    _node: PhaseNode

    @property
    def name(self) -> str:
        """Its name, unique among its siblings."""
        return self._node.name

    @property
    def title(self) -> str:
        """What people are shown."""
        return self._node.title

    @property
    def label(self) -> str:
        """The names down to it, as one text."""
        return self._node.label

    @property
    def path(self) -> tuple[str, ...]:
        """The names down to it."""
        return self._node.path

    @property
    def status(self) -> PhaseStatus:
        """How it stands, or how it ended."""
        return self._node.status

    @property
    def running(self) -> bool:
        """Whether it has begun and not ended."""
        return self._node.status == "running"

    @property
    def attempt(self) -> int:
        """How often it was entered; 0: it has not begun."""
        return self._node.attempt

    @property
    def done(self) -> float:
        """Units that are done, those that needed no work among them. `advance()` and `update()` change it."""
        return self._node.counted

    @property
    def skipped(self) -> float:
        """Units that needed no work, as `skip()` has counted them."""
        return self._node.skipped

    @property
    def total(self) -> float | None:
        """Units that there are to do; None: not known. `update()` and `extend()` change it."""
        return self._node.total

    @property
    def unit(self) -> str | None:
        """What is counted."""
        return self._node.unit

    @property
    def weight(self) -> float:
        """Its share among its siblings."""
        return self._node.weight

    @property
    def fraction(self) -> float | None:
        """How far it was in the newest published state, 0 to 1; None: not known."""
        return self._node.fraction

    @property
    def rate(self) -> float | None:
        """Units a second, smoothed, without the skipped ones; of a phase that has ended, as it was then."""
        return rate_and_eta(self._node)[0]

    @property
    def eta(self) -> float | None:
        """Seconds to its end by its own rate; None where that is not known."""
        return rate_and_eta(self._node)[1]

    @property
    def message(self) -> str | None:
        """What people are told. `update()` changes it."""
        return self._node.message

    @property
    def fields(self) -> dict[str, Any]:
        """A copy of the fields. `set()` changes them."""
        fields: dict[str, Any] = copied(self._node.fields)
        return fields
