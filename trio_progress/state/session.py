"""The state of one session: what is true of it now, and every way in which that can change.

1. Mutations are synchronous. A transition (a phase begins or ends, a hand-over, a result, the end) is
   published at once: `seq` rises by one. Counts, fields, messages and events only mark what changed, and
   the next `publish()` takes them all together.
2. A published state is never changed again: what readers hold stays as it was.
3. `progress` never falls within an epoch; `raw` is the truth of the moment.
4. The end is set once. From then on nothing changes: updates are counted as late, transitions are errors.
5. Nothing here waits, reads a clock of its own, or knows who listens. It tells its owner of three things
   by the `Host`: that something changed (`stir`), that it should be stored soon (`urge`), and what was
   late or dropped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple, Protocol

from ..errors import PhaseError, SessionClosedError
from . import checks
from .clock import Clock, utc
from .estimate import Part, remaining
from .events import EventLog, LoggedEvent
from .limits import Limits
from .messages import Position, Update
from .phase import ABSORBING, OVER, UNSET, PhaseNode, Unset, guarded, merged_fields
from .pipeline import Pipeline
from .snapshot import ErrorInfo, Head, Liveness, PhaseSnapshot, PhaseStatus, SessionStatus, Snapshot

_PHASE_END: Mapping[str, PhaseStatus] = {
    "completed": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
    "timed_out": "cancelled",
    "interrupted": "cancelled",
}
"""What becomes of the phases that are open when the session ends."""


class Host(Protocol):
    """Whoever owns a state, as far as the state needs it."""

    def stir(self) -> None:
        """Something has changed since the last published state; called once until the next `publish()`."""

    def urge(self) -> None:
        """Something was published that should not wait for the next interval to be stored."""

    def late(self, what: str, where: str) -> None:
        """An update came for something that has ended."""

    def drop(self, error: Exception) -> None:
        """Bad input was dropped, because the session is not strict."""


class Folded(NamedTuple):
    """The tombstone of a phase that folded into its parent in the published state `seq`."""

    seq: int
    path: tuple[str, ...]


class SessionState:
    """One session's state in one epoch."""

    __slots__ = (
        "_dirty",
        "_head_changed",
        "_moved",
        "_node",
        "_nodes",
        "_snapshot",
        "_stall_after",
        "attempt",
        "changed",
        "clock",
        "counters",
        "ended",
        "epoch",
        "error",
        "event_log",
        "failure",
        "fields",
        "heartbeat",
        "host",
        "id",
        "labels",
        "limits",
        "message",
        "oldest_delta",
        "over",
        "pipeline",
        "pipeline_name",
        "progress",
        "progressed",
        "progressed_mono",
        "queued",
        "raw",
        "result",
        "root",
        "saved",
        "seq",
        "started",
        "status",
        "strict",
        "title",
        "tombstones",
        "usual",
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
        node: type[PhaseNode] = PhaseNode,
    ) -> None:
        self.id = session_id
        self.host = host
        self.clock = clock
        self.limits = limits = limits if limits is not None else Limits()
        self.strict = strict
        self.pipeline = pipeline
        self.pipeline_name = None if pipeline is None else pipeline.name
        self.title = session_id if title is None else title
        self.labels = dict(labels or {})
        self.epoch = 0
        self.seq = 0
        self.attempt = 1
        self.status: SessionStatus = "queued"
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
        self.progressed: float | None = None
        self.heartbeat: float | None = None
        self.ended: float | None = None
        self.progressed_mono = clock.monotonic()
        self.progress = 0.0
        self.raw = 0.0
        self.usual: Mapping[str, float] = {}
        """Seconds that each phase took in earlier runs of the pipeline."""
        self.event_log = EventLog(event_limit)
        self.tombstones: deque[Folded] | tuple[()] = ()
        self.oldest_delta = 0
        """Updates can be told from this published state on; who is behind it needs a snapshot."""
        self.changed: list[PhaseNode] = []
        self.over = False
        self._dirty = False
        self._head_changed = False
        self._moved = False
        self._stall_after = stall_after
        self._snapshot: Snapshot | None = None
        self._node = node
        self._nodes = 0
        self.root = node(self, None, "")
        self.root.status = "running"
        if pipeline is not None:
            for spec, weight in pipeline.phases.values():
                self.add(
                    self.root,
                    spec.name,
                    title=spec.shown_title,
                    weight=weight,
                    unit=spec.unit,
                    total=spec.total,
                    stall_after=spec.stall_after,
                    declared=True,
                )

    @property
    def state(self) -> SessionState:
        """Itself: what `guarded` methods look for."""
        return self

    # What the phases call

    def stir(self) -> None:
        """Notes that there is something to publish, and tells the host the first time."""
        if not self._dirty:
            self.host.stir()
            self._dirty = True

    def late(self, what: str, where: str) -> None:
        """An update came too late to change anything."""
        self.host.late(what, where)

    def drop(self, error: Exception) -> None:
        """Bad input came, and the session is not strict."""
        self.host.drop(error)

    # Phases

    def add(self, parent: PhaseNode, name: str, **given: Any) -> PhaseNode:
        """Puts a pending phase into the tree, without publishing that."""
        node = self._node(self, parent, name, **given)
        if not parent.children:
            parent.children = {}
        parent.children[name] = node
        self._nodes += 1
        return node

    def find(self, name: str) -> PhaseNode:
        """The top-level phase of that name or alias.

        Raises:
            PhaseError: There is none; the message names what there is.
        """
        node = self.get(name)
        if node is None:
            raise PhaseError(self._unknown(name))
        return node

    def get(self, name: str) -> PhaseNode | None:
        """The top-level phase of that name or alias, or None."""
        known = self.pipeline.resolve(name) if self.pipeline is not None and type(name) is str else None
        return self.root.children.get(name if known is None else known)

    def _unknown(self, name: object) -> str:
        known = list(self.root.children)
        close = get_close_matches(str(name), known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(map(repr, known[:20])) or 'none yet'}"
        whose = f"pipeline {self.pipeline_name!r}" if self.pipeline_name else f"session {self.id!r}"
        return f"{whose} has no phase {name!r:.200}: {hint}"

    def check_phase(
        self,
        parent: PhaseNode,
        name: str,
        *,
        total: float | Unset | None = UNSET,
        weight: float | None = None,
        title: str | None = None,
        unit: str | None = None,
    ) -> None:
        """Raises where a phase could not be entered under that name with these values."""
        checks.name("a phase's name", name, self.limits)
        if not isinstance(total, Unset) and total is not None:
            checks.number(f"the total of phase {name!r}", total)
        if weight is not None:
            checks.number(f"the weight of phase {name!r}", weight)
        if title is not None:
            checks.title(f"the title of phase {name!r}", title, self.limits)
        if unit is not None:
            checks.title(f"the unit of phase {name!r}", unit, self.limits)
        if parent is self.root and self.pipeline is not None:
            if self.get(name) is None:
                raise PhaseError(f"{self._unknown(name)}; declare it, or make it a child by `phase.phase({name!r})`")
            if weight is not None:
                raise PhaseError(f"the weight of phase {name!r} is declared by pipeline {self.pipeline_name!r}")
        elif parent.depth + 1 > self.limits.depth:
            raise PhaseError(f"phases nest at most {self.limits.depth} deep (limit 'depth'), {name!r} would be deeper")

    def enter(
        self,
        parent: PhaseNode,
        name: str,
        *,
        total: float | Unset | None = UNSET,
        weight: float | None = None,
        title: str | None = None,
        unit: str | None = None,
    ) -> PhaseNode:
        """Begins a phase, and publishes that.

        Raises:
            PhaseError: It is unknown, open, completed or skipped; or its parent is not open.
            SessionClosedError: The session has ended.
        """
        self.check_phase(parent, name, total=total, weight=weight, title=title, unit=unit)
        self._check_open(f"phase {name!r} cannot be entered")
        if parent is not self.root and parent.status != "running":
            raise PhaseError(f"phase {name!r} cannot be entered within {parent.label!r}, which is {parent.status}")
        node = self.get(name) if parent is self.root else parent.children.get(name)
        if node is not None:
            self._check_enterable(node)
        self.stir()
        if node is None:
            self._make_room()
            node = self.add(parent, name)
        if title is not None:
            node.title = checks.title("title", title, self.limits)
        if unit is not None:
            node.unit = checks.title("unit", unit, self.limits)
        if weight is not None:
            node.weight = checks.number("weight", weight)
        if not isinstance(total, Unset) and total is not None:
            total = checks.number("total", total)
        node.begin(total, self.clock.monotonic(), self.clock.wall())
        self._moved = True
        self.publish()
        return node

    def _check_enterable(self, node: PhaseNode) -> None:
        if node.status == "running":
            raise PhaseError(
                f"phase {node.label!r} is open already: use `session.phases[{node.name!r}]` to count on it, "
                "or enter children of it"
            )
        if node.status in ABSORBING:
            raise PhaseError(
                f"phase {node.label!r} is {node.status} and cannot be entered again: enter a phase of its own"
            )

    def _check_open(self, what: str) -> None:
        if self.over:
            raise SessionClosedError(f"{what}: session {self.id!r} is {self.status}")

    def hand_over(
        self,
        name: str,
        *,
        total: float | Unset | None = UNSET,
        title: str | None = None,
        unit: str | None = None,
    ) -> PhaseNode:
        """Completes what runs before `name`, skips what lies between, and begins it, in one published state.

        For a phase that runs already it only sets what is given. For one that the hand-over has passed
        it changes nothing and is counted as late.

        Raises:
            PhaseError: The phase is unknown.
            SessionClosedError: The session has ended.
        """
        self.check_phase(self.root, name, total=total, title=title, unit=unit)
        self._check_open(f"the hand-over to phase {name!r} cannot be made")
        target = self.get(name)
        if target is not None and target.status in ABSORBING:
            self.late("advance_to", name)
            return target
        self.stir()
        now, wall = self.clock.monotonic(), self.clock.wall()
        for node in list(self.root.children.values()):
            if node is target:
                break
            if node.status == "running":
                self._close(node, "completed", now, wall)
            elif node.status == "pending":
                node.finish("skipped", now, wall)
        if target is None:
            self._make_room()
            target = self.add(self.root, name)
        if title is not None:
            target.title = checks.title("title", title, self.limits)
        if unit is not None:
            target.unit = checks.title("unit", unit, self.limits)
        if not isinstance(total, Unset) and total is not None:
            total = checks.number("total", total)
        if target.status != "running":
            target.begin(total, now, wall)
        elif not isinstance(total, Unset):
            target.update(total=total)
        self._moved = True
        self.publish()
        self.host.urge()
        return target

    def leave(self, node: PhaseNode, status: PhaseStatus) -> None:
        """Ends a phase, and with it the phases that are open within; publishes that.

        On a phase that has ended already (by a hand-over, or with its session) it changes nothing.
        """
        if node.status != "running" or self.over:
            return
        self.stir()
        self._close(node, status, self.clock.monotonic(), self.clock.wall())
        self._moved = True
        self.publish()
        self.host.urge()

    def _close(self, node: PhaseNode, status: PhaseStatus, now: float, wall: float) -> None:
        for child in node.children.values():
            if child.status == "running":
                self._close(child, status, now, wall)
        node.finish(status, now, wall)

    @guarded
    def skip_phase(self, name: str, reason: str | None = None) -> None:
        """Marks a phase that will not be worked on; it counts as done.

        Raises:
            PhaseError: It is unknown, open or completed.
            SessionClosedError: The session has ended.
        """
        text = checks.message("reason", reason, self.limits)
        node = self.find(name)
        self._check_open(f"phase {name!r} cannot be skipped")
        if node.status == "skipped":
            return
        if node.status in ("running", "completed"):
            raise PhaseError(f"phase {name!r} is {node.status} and cannot be skipped")
        self.stir()
        node.message = text
        node.finish("skipped", self.clock.monotonic(), self.clock.wall())
        self._moved = True
        self.publish()
        self.host.urge()

    def _make_room(self) -> None:
        """Folds the oldest finished phase where the tree is full."""
        if self._nodes < self.limits.phases:
            return
        for node in self.root.walk():
            if node.parent is not None and not node.declared and node.status in OVER:
                break
        else:
            raise PhaseError(
                f"session {self.id!r} has {self._nodes} phases open or declared, and no more than "
                f"{self.limits.phases} fit (limit 'phases'): count items with `phase.advance()` instead"
            )
        parent = node.parent
        gone = list(node.walk())
        del parent.children[node.name]
        self._nodes -= len(gone)
        for one in gone:
            if one.marked:
                one.marked = False
                self.changed.remove(one)
        parent.folded += 1 + node.folded
        parent.folded_weight += node.weight
        if not parent.marked:
            parent.marked = True
            self.changed.append(parent)
        if not isinstance(self.tombstones, deque):
            self.tombstones = deque(maxlen=self.limits.phases)
        if len(self.tombstones) == self.limits.phases:
            self.oldest_delta = self.tombstones[0].seq
        self.tombstones.append(Folded(self.seq + 1, node.path))

    # The session's own values

    @guarded
    def increment(self, name: str, n: float = 1) -> None:
        """Adds `n` to a counter; the first time it begins at 0."""
        checks.name("a counter's name", name, self.limits)
        n = checks.number("n", n, least=None)
        value = checks.number(f"counter {name!r}", self.counters.get(name, 0) + n, least=None)
        if name not in self.counters and len(self.counters) >= self.limits.counters:
            raise ValueError(
                f"a session has at most {self.limits.counters} counters (limit 'counters'): no room for {name!r}"
            )
        if self._counts("increment"):
            self.stir()
            self.counters[name] = value
            self._head_changed = self._moved = True

    @guarded
    def set(self, fields: dict[str, Any]) -> None:
        """Sets fields of the session."""
        merged = merged_fields(self.fields, fields, self)
        if self._counts("set"):
            self.stir()
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
            self.stir()
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
            self.stir()
            self.event_log.append(LoggedEvent(self.event_log.newest + 1, self.seq + 1, name, data, self.clock.wall()))
            self._head_changed = True

    @guarded
    def save(self, data: Any) -> None:
        """Keeps data for a later attempt; the newest wins."""
        data = checks.data("what is saved", data, self.limits.saved_bytes, "saved_bytes")
        self._check_open("nothing can be saved")
        self.stir()
        self.saved = data
        self._head_changed = True

    @guarded
    def set_result(self, result: Any) -> None:
        """Sets what the work came to; published at once."""
        result = checks.data("the result", result, self.limits.result_bytes, "result_bytes")
        self._check_open("the result cannot be set")
        self.stir()
        self.result = result
        self._head_changed = True
        self.publish()
        self.host.urge()

    @guarded
    def fail(self, reason: str, details: Mapping[str, Any] | None = None) -> None:
        """Says that the session has failed, whichever way its scope is left."""
        text = checks.message("reason", reason, self.limits)
        data = checks.data("details", details if details is not None else {}, self.limits.value_bytes, "value_bytes")
        if not isinstance(data, dict):
            raise TypeError(f"details must be a mapping, not {details!r:.200}")
        self._check_open("the session cannot fail")
        self.failure = ErrorInfo(type="Failure", message=text, details=data)

    def _counts(self, what: str) -> bool:
        if self.over:
            self.late(what, "")
            return False
        return True

    # Life

    def begin(self, epoch: int) -> None:
        """Goes to running, in `epoch`, and publishes that."""
        self.epoch = epoch
        self.status = "running"
        self.started = self.progressed = self.heartbeat = self.clock.wall()
        self.progressed_mono = self.clock.monotonic()
        if self.queued is None:
            self.queued = self.started
        self._head_changed = True
        self._dirty = True
        self.publish()

    def move(self, epoch: int) -> None:
        """Goes on under another epoch: the store had given out the one that was chosen locally."""
        self.epoch = epoch
        self._snapshot = None

    def durations(self) -> dict[str, float]:
        """Seconds that the completed phases of the pipeline took, for the history."""
        return {
            node.name: node.spent
            for node in self.root.children.values()
            if node.declared and node.status == "completed" and node.attempt > 0
        }

    def touch(self) -> None:
        """The session's own values were set from outside; the next published state has them."""
        self.stir()
        self._head_changed = True

    def beat(self) -> None:
        """The owner's event loop lives."""
        self.heartbeat = self.clock.wall()
        self._snapshot = None

    def end(self, status: SessionStatus, error: ErrorInfo | None = None) -> None:
        """Ends the attempt, once and for all: open phases get the session's end, and the state freezes."""
        if self.over:
            return
        if self.failure is not None and status in ("completed", "cancelled", "failed"):
            status, error = "failed", self.failure
        now, wall = self.clock.monotonic(), self.clock.wall()
        self._dirty = True  # Nothing is stirred from here on: whoever ends the session is awake.
        for node in self.root.children.values():
            if node.status == "running":
                self._close(node, _PHASE_END[status], now, wall)
            elif node.status == "pending" and status == "completed":
                node.finish("skipped", now, wall)
        self.status = status
        self.error = error
        self.ended = wall
        self._head_changed = True
        if status == "completed":
            self.root.status, self.root.fraction = "completed", 1.0
        self.publish()
        self.over = True
        self.root.status = _PHASE_END[status]

    def publish(self) -> int:
        """Numbers what has changed as a new published state; without a change it is the one before.

        Returns:
            The `seq` of the newest published state.
        """
        if not self._dirty:
            return self.seq
        self._dirty = False
        if not (self.changed or self._head_changed):
            return self.seq
        self.seq = seq = self.seq + 1
        self._snapshot = None
        self._head_changed = False
        now = self.clock.monotonic()
        touched: dict[PhaseNode, None] = {}
        for node in self.changed:
            if node.settle(now):
                self._moved = True
            at: PhaseNode | None = node
            while at is not None and at not in touched:
                touched[at] = None
                at = at.parent
        self.changed.clear()
        for node in sorted(touched, key=_depth, reverse=True):
            node.refresh(seq, now)
        if self._moved:
            self._moved = False
            self.progressed = self.clock.wall()
            self.progressed_mono = now
        self.raw = self.root.fraction or 0.0
        self.progress = max(self.progress, self.raw)
        return seq

    # Reading

    @property
    def dirty(self) -> bool:
        """Whether there is something to publish."""
        return self._dirty

    @property
    def stall_after(self) -> float | None:
        """Seconds without progress after which it counts as stalled: the longest that a running phase is given."""
        own: list[float | None] = [
            self._stall_after if node.stall_after is None else node.stall_after
            for node in self.root.children.values()
            if node.status == "running"
        ]
        allowed = [seconds for seconds in own or [self._stall_after] if seconds is not None and seconds != float("inf")]
        return max(allowed) if len(allowed) == len(own or [None]) else None

    def liveness(self) -> Liveness:
        """Whether the work advances, by the monotonic clock; a session that is not running is "ok"."""
        allowed = self.stall_after
        if self.status != "running" or allowed is None:
            return "ok"
        return "stalled" if self.clock.monotonic() - self.progressed_mono > allowed else "ok"

    def eta(self) -> float | None:
        """Seconds to the end of the session; None where nothing supports a figure."""
        if self.status != "running" or self.over or (self.raw == 0 and not self.usual):
            return None
        now = self.clock.monotonic()
        return remaining(
            Part(
                weight=node.weight,
                fraction=node.fraction or 0.0,
                spent=node.spent + (0.0 if node.began is None else now - node.began),
                running=node.status == "running",
                finished=node.status in OVER,
                eta=node.eta,
                usual=self.usual.get(node.name),
            )
            for node in self.root.children.values()
        )

    def _head_values(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "pipeline": self.pipeline_name,
            "title": self.title,
            "labels": self.labels,
            "epoch": self.epoch,
            "seq": self.seq,
            "attempt": self.attempt,
            "status": self.status,
            "liveness": self.liveness(),
            "progress": self.progress,
            "raw": self.raw,
            "eta": self.eta(),
            "message": self.message,
            "counters": dict(self.counters),
            "fields": self.fields,
            "result": self.result,
            "error": self.error,
            "queued_at": utc(self.queued),
            "started_at": utc(self.started),
            "progressed_at": utc(self.progressed),
            "heartbeat_at": utc(self.heartbeat),
            "ended_at": utc(self.ended),
            "stall_after": self.stall_after,
            "events": self.event_log.newest,
        }

    def snapshot(self) -> Snapshot:
        """The newest published state; what has not been published yet is published for it."""
        self.publish()
        if self._snapshot is None:
            phases = tuple(node.snapshot() for node in self.root.children.values())
            resume = Position(self.epoch, self.seq, self.event_log.newest).token()
            self._snapshot = Snapshot(**self._head_values(), phases=phases, resume=resume)
        return self._snapshot

    def pending_snapshot(self, node: PhaseNode) -> PhaseSnapshot:
        """A declared phase that was never begun, as all sessions of the pipeline share it."""
        assert self.pipeline is not None
        known = self.pipeline.pending.get(node.name)
        if known is None:
            known = self.pipeline.pending[node.name] = node.fresh_snapshot()
        return known

    def update_since(self, since: int, resume: str) -> Update:
        """What changed after the published state `since`, which must not lie before `oldest_delta`."""
        folded = tuple(tombstone.path for tombstone in self.tombstones if tombstone.seq > since)
        return Update(
            session=self.id,
            from_=since,
            seq=self.seq,
            resume=resume,
            head=Head(**self._head_values()),
            phases=tuple(self.root.changes(since)),
            folded=folded,
        )

    def settle_fractions(self) -> None:
        """Computes all fractions anew, for a tree that was put together without publishing."""
        now = self.clock.monotonic()
        for node in reversed(list(self.root.walk())):
            node.refresh(self.seq, now)

    def walk(self) -> Iterator[PhaseNode]:
        """All phases, parents first."""
        for node in self.root.children.values():
            yield from node.walk()


def _depth(node: PhaseNode) -> int:
    return node.depth
