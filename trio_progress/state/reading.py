"""A session's values, and what readers are given of them: frozen values, made once for a change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ..protocol.clock import Clock, made_at, shown_seconds, utc
from ..protocol.messages import Update, resume_token
from ..protocol.snapshot import ErrorInfo, Head, Liveness, PhaseSnapshot, PhaseUpdate, Snapshot
from .estimate import Estimate
from .events import EventLog
from .fraction import by_weights, parts_of, rate_and_eta
from .limits import Limits
from .phase import PhaseNode
from .transitions import PhaseTransitions
from .untouched import pending_phase, untouched_phases

if TYPE_CHECKING:
    from .pipeline import Pipeline
    from .tree import Host, PhaseTree


FRESH: Final = 0.1
"""Seconds for which the figures of a published state are taken to be of now."""


def phase_values(node: PhaseNode, now: float | None = None) -> dict[str, Any]:
    """What a phase says of itself, without its children: the fields of `PhaseValues`.

    Its pace is as of `now`, or of when it changed last.
    """
    rate, eta = rate_and_eta(node, now)
    return {
        "name": node.name,
        "title": node.title,
        "status": node.status,
        "attempt": node.attempt,
        "done": node.counted,
        "total": node.total,
        "unit": node.unit,
        "weight": node.weight,
        "fraction": node.fraction,
        "rate": rate,
        "eta": eta,
        "message": node.message,
        "fields": node.fields,
        "started_at": utc(node.started),
        "ended_at": utc(node.ended),
        "skipped": node.skipped,
        "folded": node.folded,
        "folded_weight": node.folded_weight,
        "started_after": node.started_after,
        "elapsed": node.elapsed,
        "expected": None if node.usual is None else node.usual.told(node.total),
        "follows": None if node.mirror is None else node.mirror.follows,
    }


def phase_snapshot(node: PhaseNode) -> PhaseSnapshot:
    """The phase and all below it as frozen values; made once for each published change."""
    if node.snapshot is None:
        if node.declared and node.status == "pending" and node.attempt == 0 and not node.children:
            node.snapshot = pending_phase(node, node.usual)
        elif node.declared and node.status == "skipped" and node.attempt == 0 and not node.children and not node.done:
            node.snapshot = msgspec.structs.replace(
                pending_phase(node, node.usual),
                status="skipped",
                fraction=node.fraction,
                message=node.message,
                fields=node.fields,
                ended_at=utc(node.ended),
            )
        else:
            below = tuple(phase_snapshot(child) for child in node.children.values())
            node.snapshot = PhaseSnapshot(**phase_values(node), phases=below)
    return node.snapshot


def _phase_now(node: PhaseNode, now: float) -> PhaseSnapshot:
    """The same, with rates and what is left as of `now`."""
    if node.status != "running":
        return phase_snapshot(node)
    below = tuple(_phase_now(child, now) for child in node.children.values())
    return PhaseSnapshot(**phase_values(node, now), phases=below)


def phase_changes(node: PhaseNode, since: int, path: tuple[str, ...] = ()) -> Iterator[PhaseUpdate]:
    """What changed below the phase, which is at `path`, after the published state `since`; parents first."""
    for child in node.children.values():
        if child.v > since:
            at = (*path, child.name)
            yield PhaseUpdate(**phase_values(child), path=at)
            yield from phase_changes(child, since, at)


def snapshot_of(head: Head, phases: tuple[PhaseSnapshot, ...]) -> Snapshot:
    """The published state that has this head and these phases."""
    resume = resume_token(head.epoch, head.seq, head.events)
    return Snapshot(**msgspec.structs.asdict(head), phases=phases, resume=resume)


def liveness(state: PhaseTree) -> tuple[Liveness, float | None]:
    """Whether the work advances, by the monotonic clock; a session that is not running is "ok".

    Returns:
        That, and the seconds without progress after which it counts as stalled: the longest that a running phase is
        given. None: it never does.
    """
    allowed: float | None = None
    for node in state.root.children.values():
        if node.status == "running":
            own = state.stall_after if node.stall_after is None else node.stall_after
            if own is None or own == float("inf"):
                return "ok", None
            if allowed is None or own > allowed:
                allowed = own
    allowed = state.stall_after if allowed is None else allowed
    if state.status != "running" or allowed is None or state.clock.monotonic() - state.progressed_mono <= allowed:
        return "ok", allowed
    return "stalled", allowed


class SessionReading(PhaseTransitions):
    """The tree with the session's own values, and what readers get of it; `SessionState` is the whole."""

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
        pipeline: Pipeline | str | None = None,
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
            pipeline=None if isinstance(pipeline, str) else pipeline,
            limits=Limits() if limits is None else limits,
            strict=strict,
            stall_after=stall_after,
        )
        self.pipeline_name = pipeline if pipeline is None or isinstance(pipeline, str) else pipeline.name
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

    def estimate(self, now: float | None = None) -> Estimate:
        """What is estimated as of `now`; as of the newest published state unless given, made once for that.

        The bar moves with it: nothing that is told later is below.
        """
        if now is None and self._estimate is not None:
            return self._estimate
        at = self.published if now is None else now
        nodes = self.root.children.values()
        if self.status != "running" or self.over or ((not nodes or self._borrowed) and not self.estimator.usual):
            estimate = Estimate(self.progress, None, None)  # Of what is untouched and was never run, nothing is known.
        elif self.estimator.usual:
            worked = self.worked_before + at - self.started_mono
            estimate = self.estimator.observe(nodes, worked, at, moving=liveness(self)[0] == "ok")
        else:
            parts = parts_of(nodes, at, self.estimator.courses)
            bar, eta = by_weights(parts)
            if self.pipeline is None:  # Nobody knows whether there will be another phase.
                bar, eta = 0.0, None if all(part.finished for part in parts) else eta
            estimate = Estimate(max(self.progress, bar), eta if self.raw > 0 else None, None)
        self.progress = estimate.progress
        if now is None:
            self._estimate = estimate
        return estimate

    def liveness(self) -> Liveness:
        """Whether the work advances, by the monotonic clock; a session that is not running is "ok"."""
        return liveness(self)[0]

    def head(self) -> Head:
        """The newest published state without its phases; built once for one change, but for how alive it is."""
        alive, stall_after = liveness(self)
        head = self._head
        if head is None:
            estimate = self.estimate()
            # Until it last advanced; in all once it has ended.
            published_at = None if self.published_at is None else made_at(self.published_at)
            ran = (self.progressed_mono if self.ended_mono is None else self.ended_mono) - self.started_mono
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
                progress=estimate.progress,
                raw=self.raw,
                eta=estimate.eta,
                message=self.message,
                counters=dict(self.counters),
                fields=self.fields,
                result=self.result,
                error=self.error,
                queued_at=utc(self.queued),
                started_at=utc(self.started),
                progressed_at=published_at if self.progressed == self.published_at else utc(self.progressed),
                heartbeat_at=utc(self.heartbeat),
                ended_at=utc(self.ended),
                stall_after=stall_after,
                events=self.event_log.newest,
                elapsed=None if self.started is None else shown_seconds(ran),
                eta_range=estimate.range,
                published_at=published_at,
                parent=self.parent,
            )
        elif head.liveness != alive:
            head = self._head = msgspec.structs.replace(head, liveness=alive)
        return head

    def snapshot(self) -> Snapshot:
        """The state of this moment, published for it: for the author, who is no reader."""
        self.publish()
        return self.published_state()

    def snapshot_now(self) -> Snapshot:
        """The newest published state, with what time alone has changed since: the bar, what is left, and rates.

        Its `seq` is the same, and what was published stays as it was.
        """
        state = self.published_state()
        if self.status != "running" or self.over:
            return state
        now = self.clock.monotonic()
        if now - self.published < FRESH:
            return state
        estimate = self.estimate(now)
        phases = tuple(
            [
                _phase_now(node, now) if node.status == "running" else self._phase(node)
                for node in self.root.children.values()
            ]
        )
        if estimate == self.estimate() and phases == state.phases:
            return state
        return msgspec.structs.replace(
            state,
            progress=estimate.progress,
            eta=estimate.eta,
            eta_range=estimate.range,
            published_at=utc(self.clock.wall()),
            phases=phases,
        )

    def note_time(self) -> None:
        """Has the next published state tell what time alone has changed: the bar, what is left, and rates."""
        if self.dirty or self.status != "running" or self.over:
            return
        now = self.clock.monotonic()
        for node in self.walk():
            if node.status == "running" and rate_and_eta(node, now) != (None, None):
                self.mark_dirty(node)
                self._head_changed = True
        if self.estimator.usual or self.estimate().eta is not None:
            self.mark_dirty()
            self._head_changed = True

    def published_state(self) -> Snapshot:
        """The newest published state."""
        head = self.head()
        if self._snapshot is None or self._snapshot[0] is not head:
            self._snapshot = head, snapshot_of(head, self.published_phases())
        return self._snapshot[1]

    def published_phases(self) -> tuple[PhaseSnapshot, ...]:
        """The phases of the newest published state."""
        if self._borrowed and self.pipeline is not None and not self.skipped_seq and not self.estimator.usual:
            return untouched_phases(self.pipeline).shown
        return tuple([self._phase(node) for node in self.root.children.values()])

    def _phase(self, node: PhaseNode) -> PhaseSnapshot:
        if not node.shared or (node.status == "pending" and not self.estimator.usual):
            return phase_snapshot(node)
        if self._shown is None:
            self._shown = {}
        shown = self._shown.get(node.name)
        if shown is None:
            shown = pending_phase(node, self.estimator.usual.get(node.name))
            if node.status == "skipped":
                ended = utc(self.skipped_at)
                shown = msgspec.structs.replace(shown, status="skipped", fraction=1.0, ended_at=ended)
            self._shown[node.name] = shown
        return shown

    def _changes(self, since: int) -> Iterator[PhaseUpdate]:
        """The phases that changed after the published state `since`."""
        yield from phase_changes(self.root, since)
        if self.skipped_seq > since:
            for node in self.root.children.values():
                if node.shared:
                    yield PhaseUpdate(**phase_values(self.copy(node)), path=(node.name,))

    def update_since(self, since: int, resume: str) -> Update:
        """What changed after the published state `since`, which must not lie before `oldest_delta`."""
        folded = tuple(tombstone.path for tombstone in self.tombstones if tombstone.seq > since)
        return Update(
            session=self.id,
            from_=since,
            seq=self.seq,
            resume=resume,
            head=self.head(),
            phases=tuple(self._changes(since)),
            folded=folded,
        )
