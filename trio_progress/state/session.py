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
from typing import TYPE_CHECKING, Any

import msgspec

from ..protocol.clock import Clock, shown_seconds, utc
from ..protocol.messages import Position, Update
from ..protocol.snapshot import ErrorInfo, Head, Liveness, PhaseStatus, SessionStatus, Snapshot
from . import checks
from .events import EventLog, LoggedEvent
from .fields import checked_fields, merged_fields
from .guard import UNSET, Unset, guarded
from .limits import Limits
from .phase import OVER
from .reading import eta, liveness, phase_changes, phase_snapshot
from .transitions import PhaseTransitions

if TYPE_CHECKING:
    from .host import Host
    from .pipeline import Pipeline
    from .quantities import Number

_PHASE_END: Mapping[str, PhaseStatus] = {
    "completed": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
    "timed_out": "cancelled",
    "interrupted": "cancelled",
}
"""What becomes of the phases that are open when the session ends."""


class SessionState(PhaseTransitions):
    """One session's state in one epoch."""

    __slots__ = (
        "_snapshot",
        "attempt",
        "counters",
        "ended",
        "ended_mono",
        "epoch",
        "error",
        "event_log",
        "failure",
        "fields",
        "heartbeat",
        "labels",
        "message",
        "pipeline_name",
        "queued",
        "result",
        "saved",
        "started",
        "title",
    )

    def __init__(
        self,
        session_id: str,
        *,
        host: Host,
        clock: Clock,
        pipeline: Pipeline | None = None,
        title: str | None = None,
        labels: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        strict: bool = True,
        event_limit: int = 1000,
        stall_after: float | None = 60.0,
    ) -> None:
        super().__init__(
            session_id,
            host=host,
            clock=clock,
            pipeline=pipeline,
            limits=Limits() if limits is None else limits,
            strict=strict,
            stall_after=stall_after,
        )
        self.pipeline_name = None if pipeline is None else pipeline.name
        self.title = session_id if title is None else title
        self.labels = dict(labels or {})
        self.epoch = 0
        self.attempt = 1
        self.message: str | None = None
        self.counters: dict[str, int | float] = {}
        self.fields: dict[str, Any] = {}
        self.saved: Any = None
        self.result: Any = None
        self.error: ErrorInfo | None = None
        self.failure: ErrorInfo | None = None
        """What `fail()` has said, until the end takes it."""
        self.queued: float | None = None
        self.started: float | None = None
        self.heartbeat: float | None = None
        self.ended: float | None = None
        self.ended_mono: float | None = None
        self.event_log = EventLog(event_limit)
        self.result_refused = None
        self._snapshot: tuple[Head, Snapshot] | None = None
        """The newest one, and the head that it was made of."""

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

    def durations(self) -> dict[str, float]:
        """Seconds that the completed phases of the pipeline took, for the history; without what was done before."""
        return {
            node.name: node.spent
            for node in self.root.children.values()
            if node.declared and node.status == "completed" and node.attempt > 0 and not node.free
        }

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
        self.end_phases(_PHASE_END[status])
        self.status = status
        self.error = error
        self.ended = self.clock.wall()
        self.ended_mono = self.clock.monotonic()
        self._head_changed = True
        self.publish()
        self.over = True
        self.root.status = _PHASE_END[status]

    # Reading

    @property
    def elapsed(self) -> float | None:
        """Seconds that the attempt ran until it last advanced, and in all once it has ended; None: not begun."""
        if self.started is None:
            return None
        until = self.progressed_mono if self.ended_mono is None else self.ended_mono
        return shown_seconds(until - self.started_mono)

    def liveness(self) -> Liveness:
        """Whether the work advances, by the monotonic clock; a session that is not running is "ok"."""
        return liveness(self)[0]

    def head(self) -> Head:
        """The newest published state without its phases; built once for one change, but for how alive it is."""
        alive, stall_after = liveness(self)
        head = self._head
        if head is None:
            head = self._head = Head(
                id=self.id,
                pipeline=self.pipeline_name,
                title=self.title,
                labels=self.labels,
                epoch=self.epoch,
                seq=self.seq,
                attempt=self.attempt,
                status=self.status,
                liveness=alive,
                progress=self.progress,
                raw=self.raw,
                eta=eta(self),
                message=self.message,
                counters=dict(self.counters),
                fields=self.fields,
                result=self.result,
                error=self.error,
                queued_at=utc(self.queued),
                started_at=utc(self.started),
                progressed_at=utc(self.progressed),
                heartbeat_at=utc(self.heartbeat),
                ended_at=utc(self.ended),
                stall_after=stall_after,
                events=self.event_log.newest,
                elapsed=self.elapsed,
            )
        elif head.liveness != alive:
            head = self._head = msgspec.structs.replace(head, liveness=alive)
        return head

    def snapshot(self) -> Snapshot:
        """The state of this moment, published for it: for the author and the persister, who are no readers."""
        self.publish()
        return self.published_state()

    def published_state(self) -> Snapshot:
        """The newest published state."""
        head = self.head()
        if self._snapshot is None or self._snapshot[0] is not head:
            phases = tuple(phase_snapshot(node) for node in self.root.children.values())
            resume = Position(self.epoch, self.seq, self.event_log.newest).token()
            self._snapshot = head, Snapshot(**msgspec.structs.asdict(head), phases=phases, resume=resume)
        return self._snapshot[1]

    def update_since(self, since: int, resume: str) -> Update:
        """What changed after the published state `since`, which must not lie before `oldest_delta`."""
        folded = tuple(tombstone.path for tombstone in self.tombstones if tombstone.seq > since)
        return Update(
            session=self.id,
            from_=since,
            seq=self.seq,
            resume=resume,
            head=self.head(),
            phases=tuple(phase_changes(self.root, since)),
            folded=folded,
        )
