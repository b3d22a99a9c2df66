"""`Session`: what the author of a pipeline holds while it runs. Its life is told in `scope.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, final

import trio

from ..errors import SessionClosedError
from ..state import checks
from ..state.checks import copied
from ..state.guard import REFUSED, UNSET, Unset
from .current import NULL_PHASE
from .phase import Children, Phase, PhaseScope, phase_of, phase_scope
from .read_only import SESSION_INSTEAD, ReadOnly

if TYPE_CHECKING:
    from ..protocol.snapshot import SessionStatus, Snapshot
    from ..state.pipeline import Pipeline
    from ..state.quantities import Number
    from .core import SessionCore


@final
class _Phases(Children):
    """The top-level phases of a session by name or alias, in their order."""

    __slots__ = ()

    def __getitem__(self, name: str) -> Phase:
        node = self._core.state.get(name)
        if node is None:
            self._core.refuse(KeyError(name))
            return NULL_PHASE  # type: ignore[return-value]
        return phase_of(self._core, node)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._core.state.get(name) is not None

    def get(self, name: str, default: Any = None) -> Any:
        """The phase of that name, or else the default, also where the session is not strict."""
        node = self._core.state.get(name)
        return default if node is None else phase_of(self._core, node)


@final
class Session(ReadOnly):
    """One tracked run, from `async with tracker.session(...) as session`.

    All methods but `flush()` are synchronous, have no checkpoint, and take effect at once. They belong to
    the event loop's thread; from others use `phase.from_thread()`. Its values are read-only: `update()`,
    `set()`, `save()` and `set_result()` change them.
    """

    __slots__ = ("_core",)

    def __init__(self, core: SessionCore) -> None:
        object.__setattr__(self, "_core", core)

    # How it stands

    @property
    def id(self) -> str:
        """The session's id."""
        return self._core.state.id

    @property
    def pipeline(self) -> Pipeline | None:
        """The pipeline that it runs; None: nobody declares its phases."""
        return self._core.state.pipeline

    @property
    def epoch(self) -> int:
        """The number of this ownership; every claim of the id raises it."""
        return self._core.state.epoch

    @property
    def attempt(self) -> int:
        """1, and one more for each time that the session was resumed."""
        return self._core.state.attempt

    @property
    def status(self) -> SessionStatus:
        """How it stands, or how it ended."""
        return self._core.state.status

    @property
    def saved(self) -> Any:
        """A copy of what was saved last, by this attempt or the one that it goes on from; None: nothing."""
        return copied(self._core.state.saved)

    @property
    def phases(self) -> Mapping[str, Phase]:
        """Every top-level phase by name; also how workers far away get at an open one."""
        return _Phases(self._core, self._core.state.root)

    def snapshot(self) -> Snapshot:
        """The session as it is now, frozen: ETA, range and bar are as of this moment too.

        Raises:
            ForeignThreadError: Called from a foreign thread while the session is open.
        """
        state = self._core.state
        if not state.over:
            self._core.check_thread()
        self._core.draw_counts()
        state.publish()
        return state.snapshot_now()

    def _repr_html_(self) -> str:
        """What a notebook shows of it."""
        return self.snapshot()._repr_html_()

    # Phases

    def phase(
        self,
        name: str,
        *,
        total: float | Unset | None = UNSET,
        weight: float | None = None,
        title: str | None = None,
        unit: str | None = None,
    ) -> PhaseScope:
        """A phase, to be entered by `with`; phases may overlap.

        Args:
            name: One that the pipeline declares, or an alias of it; any, where there is no pipeline.
            total: How much there is to do; None: not known. Not given: as the pipeline declares it.
            weight: Its share among its siblings, at least 0; only where no pipeline declares it.
            title: What people are shown.
            unit: What is counted.

        Raises:
            PhaseError: The phase is unknown; when it is entered: it is open, completed or skipped.
            ValueError, TypeError: A value is out of range.
            SessionClosedError: When it is entered: the session has ended.
        """
        return phase_scope(self._core, self._core.state.root, name, total=total, weight=weight, title=title, unit=unit)

    def advance_to(
        self,
        name: str,
        *,
        total: float | Unset | None = UNSET,
        title: str | None = None,
        unit: str | None = None,
    ) -> Phase:
        """Hands over to the phase `name`, in one step: completes what runs before it and skips what lies between.

        `with` is optional: the next hand-over, or the session's end, ends the phase as well. When the phase
        runs already, it is returned; when the hand-over has passed it, nothing changes and the call is
        counted as late.

        Raises:
            PhaseError: The phase is unknown.
            ValueError, TypeError: A value is out of range.
            SessionClosedError: The session has ended.
        """
        try:
            node = self._core.state.hand_over(name, total=total, title=title, unit=unit)
        except REFUSED as error:
            self._core.refuse(error)
            return NULL_PHASE  # type: ignore[return-value]
        if self._core.tracing is not None:
            self._core.tracing.handed_over(node)
        return phase_of(self._core, node)

    def skip_phase(self, name: str, reason: str | None = None) -> None:
        """Marks a phase as not to be worked on; it counts as done. `reason` becomes its message.

        Raises:
            PhaseError: It is unknown, open or completed.
            SessionClosedError: The session has ended.
        """
        self._core.state.skip_phase(name, reason)

    # Values

    def increment(self, name: str, n: Number = 1) -> None:
        """Adds `n`, any finite number, to a counter; a counter begins at 0.

        Raises:
            ValueError, TypeError: `n` is no finite number, or there are too many counters.
        """
        self._core.state.increment(name, n)

    def set(self, **fields: Any) -> None:
        """Sets fields: JSON values by name, shown beside the session; the newest value of each wins.

        Raises:
            ValueError, TypeError: A value is no JSON data or too large, or there are too many fields.
        """
        self._core.state.set(fields)

    def update(self, *, message: str | Unset | None = UNSET, title: str | Unset = UNSET) -> None:
        """Sets the message or the title that people are shown; what is not given stays.

        Raises:
            ValueError, TypeError: Not a str, or too long a title.
        """
        self._core.state.update(message=message, title=title)

    def emit(self, name: str, data: Any = None) -> None:
        """Logs a custom event with JSON data: ordered, numbered, the newest `event_limit` retained.

        Raises:
            ValueError, TypeError: `data` is no JSON data, or too large.
        """
        self._core.state.emit(name, data)
        if self._core.tracing is not None:
            self._core.tracing.emitted(name, data)

    def save(self, data: Any) -> None:
        """Keeps JSON data for a later attempt (see `saved`); the newest wins. `flush()` makes sure that it is stored.

        Raises:
            ValueError, TypeError: `data` is no JSON data, or too large.
            SessionClosedError: The session has ended.
        """
        self._core.state.save(data)

    def set_result(self, result: Any) -> None:
        """Sets what the work came to, as JSON data; published and stored at once.

        One that cannot be kept is logged as an error and raises. Where that ends the block, it does not change
        how work ended that was done: the session completes, and its message says that there is no result.

        Raises:
            ValueError, TypeError: `result` is no JSON data, or too large.
            SessionClosedError: The session has ended.
        """
        self._core.state.set_result(result)

    # Ending

    def cancel(self, reason: str | None = None) -> None:
        """Cancels the body of the session. Its block ends quietly, as a cancel scope does; see `status`.

        When the body reaches no checkpoint after this, it completes.

        Raises:
            SessionClosedError: The session has ended.
        """
        core = self._core
        try:
            core.check_caller()
            text = checks.message("reason", reason, core.state.limits)
            if core.state.over:
                raise SessionClosedError(f"session {self.id!r} cannot be cancelled: it is {self.status}")
        except REFUSED as error:
            core.refuse(error)
        else:
            core.cancel(text)

    def fail(self, reason: str, details: Mapping[str, Any] | None = None) -> None:
        """Says that the session has failed, for an error that was caught; does not cancel. Viewers see both.

        Raises:
            ValueError, TypeError: `details` is no mapping of JSON data, or too large.
            SessionClosedError: The session has ended.
        """
        try:
            self._core.check_caller()
        except REFUSED as error:
            self._core.refuse(error)
        else:
            self._core.state.fail(reason, details)

    async def flush(self) -> None:
        """Waits until the store holds all that was said so far. A checkpoint; cancelling it loses nothing.

        Raises:
            FencedError: Another owner has taken the session over.
            SessionClosedError: The session has ended.
        """
        self._core.check_process()
        await trio.lowlevel.checkpoint()
        if self._core.state.over:
            raise SessionClosedError(f"session {self.id!r} cannot be flushed: it is {self.status}")
        self._core.draw_counts()
        await self._core.persister.flush()

    def __repr__(self) -> str:
        # Rounded down, so that 100% means done; 0.29 * 100 is a little below 29.
        return f"<Session {self.id!r} {self.status} {int(self._core.state.progress * 100 + 1e-9)}%>"

    def _read_only(self) -> tuple[str, Mapping[str, str]]:
        return self.id, SESSION_INSTEAD
