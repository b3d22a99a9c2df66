"""The state of one session: what is true of it now, and every way in which that can change.

1. Mutations are synchronous. A transition (a phase begins or ends, a hand-over, a result, the end) is
   published at once: `seq` rises by one. Counts, fields, messages and events only mark what changed, and
   the next `publish()` takes them all together.
2. A published state is never changed again: what readers hold stays as it was.
3. The end is set once. From then on nothing changes: updates are counted as late, transitions are errors.
4. Nothing here waits, reads a clock of its own, or knows who listens. Its owner learns by the `Host` that something
   changed (`mark_dirty`), that it should be stored soon (`request_persist`), and what was late or dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Never

from ..protocol.snapshot import ErrorInfo, PhaseStatus, SessionStatus
from . import checks
from .checks import checked_fields, merged_fields
from .estimate import Estimator
from .events import LoggedEvent
from .guard import UNSET, Unset, guarded
from .phase import OVER
from .pipeline import Pipeline
from .reading import SessionReading

if TYPE_CHECKING:
    from ..protocol.clock import Clock
    from .history import Lesson, PipelineHistory
    from .limits import Limits
    from .quantities import Number

_PHASE_END: Mapping[str, PhaseStatus] = {
    "completed": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
    "timed_out": "cancelled",
    "interrupted": "cancelled",
}
"""What becomes of the phases that are open when the session ends."""


class SessionState(SessionReading):
    """One session's state in one epoch."""

    __slots__ = ()

    # The session's own values

    @guarded
    def increment(self, name: str, n: Number = 1) -> None:
        """Adds `n` to a counter; the first time it begins at 0."""
        checks.name("a counter's name", name, self.limits)
        n = checks.number("n", n, least=None)
        value = checks.number(f"counter {name!r}", self.counters.get(name, 0) + n, least=None)
        if self._counts("increment"):
            # Of what comes late it is not asked whether there is room for it.
            if name not in self.counters and len(self.counters) >= self.limits.counters:
                raise ValueError(
                    f"a session has at most {self.limits.counters} counters (limit 'counters'): no room for {name!r}"
                )
            self.mark_dirty()
            self.counters[name] = value
            self._head_changed = self._moved = True

    @guarded
    def set(self, fields: dict[str, Any]) -> None:
        """Sets fields of the session."""
        checked = checked_fields(fields, self.limits)
        if self._counts("set"):
            merged = merged_fields(self.fields, checked, self.limits)
            self.mark_dirty()
            self.fields = merged
            self._head_changed = True

    @guarded
    def update(self, *, message: str | Unset | None = UNSET, title: str | Unset = UNSET) -> None:
        """Sets the session's message or title."""
        if not isinstance(message, Unset):
            message = checks.message("message", message, self.limits)
        if not isinstance(title, Unset):
            title = checks.title("title", title, self.limits)
        if self._counts("update"):
            self.mark_dirty()
            if not isinstance(message, Unset):
                self.message = message
            if not isinstance(title, Unset):
                self.title = title
            self._head_changed = True

    @guarded
    def emit(self, name: str, data: Any = None) -> None:
        """Logs a custom event."""
        checks.name("an event's name", name, self.limits)
        data = checks.data(f"the data of event {name!r}", data, self.limits.value_bytes, "value_bytes")
        if self._counts("emit"):
            self.mark_dirty()
            self.event_log.append(LoggedEvent(self.event_log.newest + 1, self.seq + 1, name, data, self.clock.wall()))
            self._head_changed = True

    @guarded
    def save(self, data: Any) -> None:
        """Keeps data for a later attempt; the newest wins."""
        data = checks.data("what is saved", data, self.limits.saved_bytes, "saved_bytes")
        self.check_open("nothing can be saved")
        self.mark_dirty()
        self.saved = data
        self._head_changed = True

    @guarded
    def set_result(self, result: Any) -> None:
        """Sets what the work came to; published at once. One that cannot be kept is an error, and remembered."""
        self.check_open("the result cannot be set")
        try:
            result = checks.data("the result", result, self.limits.result_bytes, "result_bytes")
        except Exception as error:
            self.result_refused = error
            self.host.refuse_result(error)
            raise
        self.mark_dirty()
        self.result = result
        self.result_refused = None
        self._head_changed = True
        self.publish()
        self.host.request_persist()

    @guarded
    def fail(self, reason: str, details: Mapping[str, Any] | None = None) -> None:
        """Says that the session has failed, whichever way its scope is left."""
        text = checks.message("reason", reason, self.limits)
        data = checks.data("details", details if details is not None else {}, self.limits.value_bytes, "value_bytes")
        if not isinstance(data, dict):
            raise TypeError(f"details must be a mapping, not {details!r:.200}")
        self.check_open("the session cannot fail")
        self.failure = ErrorInfo(type="Failure", message=text, details=data)
        for node in self.walk():
            if node.status == "running":
                node.failing = True

    def _counts(self, what: str) -> bool:
        if self.over:
            self.host.late(what, "")
            return False
        return True

    # Life

    def begin(self, epoch: int) -> None:
        """Goes to running, in `epoch`, and publishes that."""
        self.epoch = epoch
        self.status = "running"
        self.started = self.progressed = self.heartbeat = self.clock.wall()
        self.started_mono = self.progressed_mono = self.clock.monotonic()
        if self.queued is None:
            self.queued = self.started
        self._head_changed = True
        self.dirty = True
        self.publish()

    def move(self, epoch: int) -> None:
        """Goes on under another epoch: the store had given out the one that was chosen locally."""
        self.epoch = epoch
        self._head = None

    def use_history(self, history: PipelineHistory | None) -> None:
        """Takes over what earlier runs of the pipeline have taught; the bar goes on from where it is."""
        pipeline = self.pipeline
        if self.pipeline_name is None:
            return
        if pipeline is None:
            estimator = Estimator(history, None)
        else:
            learnt = history if pipeline.learn and history is not None and history.phases else None
            if learnt is None and not (pipeline.usual or self.estimator.usual):
                return  # Nothing is known of any phase, and nothing was.
            weights = {spec.name: spec.weight for spec in pipeline}
            estimator = Estimator(learnt, weights, pipeline.usual)
        estimator.bar = self.progress
        self.estimator = estimator
        self._shown = None
        for node in self.root.children.values():
            if not node.shared:
                self.expect(node)
                node.snapshot = None

    def lesson(self) -> Lesson | None:
        """What this run has taught, once it is over; None: nothing, or its pipeline does not learn."""
        if not self.over or self.pipeline_name is None or self.ended_mono is None:
            return None
        if self.pipeline is not None and not self.pipeline.learn:
            return None
        worked = self.worked_before + self.ended_mono - self.started_mono
        lesson = self.estimator.lesson(
            self.root.children.values(), worked, self.ended or 0.0, completed=self.status == "completed"
        )
        return lesson if lesson.phases else None

    def touch(self) -> None:
        """The session's own values were set from outside; the next published state has them."""
        self.mark_dirty()
        self._head_changed = True

    def beat(self) -> None:
        """The owner's event loop lives."""
        if not self.over:
            self.heartbeat = self.clock.wall()
            self._head = None

    def finished_but_for_the_result(self, error: BaseException | None) -> bool:
        """Whether nothing is wrong but that the result could not be kept: all that is known of was worked on."""
        return self.only_result_refused(error) and all(
            node.status in OVER or (node.status == "running" and (node.total is None or node.all_counted))
            for node in self.root.children.values()
        )

    def end(self, status: SessionStatus, error: ErrorInfo | None = None) -> None:
        """Ends the attempt, once and for all: open phases get the session's end, and the state freezes."""
        if self.over:
            return
        if self.failure is not None and status in ("completed", "cancelled", "failed"):
            status, error = "failed", self.failure
        self.dirty = True  # The host is not asked from here on: whoever ends the session is awake.
        if self.result_refused is not None:
            # Its kind only: the text may quote what viewers are not to see.
            said = f"The result could not be kept: {type(self.result_refused).__name__}"
            self.message = said if self.message is None else checks.message("", f"{said}. {self.message}", self.limits)
            self.result_refused = None  # It may hold on to much by its traceback.
        self.estimate()  # The bar of an end that is no success stays where it was.
        self.end_phases(_PHASE_END[status])
        self.status = status
        self.error = error
        self.ended = self.clock.wall()
        self.ended_mono = self.clock.monotonic()
        self._head_changed = True
        self.publish()
        self.over = True
        self.root.status = _PHASE_END[status]


class _Nobody:
    """The host of a session that is declared and that nobody runs: nobody is to be woken, and nothing could end."""

    def _ignore(self, *_: object) -> None:
        """Nobody listens."""

    mark_dirty = request_persist = drain = timed = late = refuse_result = _ignore

    def drop(self, error: Exception) -> Never:
        raise error


def checked_pipeline(given: object) -> Pipeline | str | None:
    """A pipeline, the name of one whose phases come as they are entered, or None.

    Raises:
        ValueError, TypeError: It is something else, or no name.
    """
    if isinstance(given, str):
        return checks.name("a pipeline's name", given)
    if given is not None and not isinstance(given, Pipeline):
        raise TypeError(f"pipeline must be a trio_progress.Pipeline, the name of one, or None, not {given!r:.200}")
    return given


def queued_state(
    session_id: str,
    pipeline: Pipeline | str | None,
    title: str | None,
    labels: Mapping[str, str] | None,
    clock: Clock,
    limits: Limits,
    parent: str | None = None,
) -> SessionState:
    """A session as queued, published.

    Raises:
        ValueError, TypeError: A value is out of range.
    """
    state = SessionState(
        checks.session_id(session_id),
        host=_Nobody(),
        clock=clock,
        pipeline=checked_pipeline(pipeline),
        title=None if title is None else checks.title("title", title, limits),
        labels=checks.labels(labels, limits),
        limits=limits,
    )
    state.parent = None if parent is None else checks.parent_id(parent, session_id)
    state.queued = clock.wall()
    state.touch()
    state.publish()
    return state
