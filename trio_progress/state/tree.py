"""The phases of a session, a tree under a nameless root, and how their changes become a published state.

1. Names are unique among siblings. At the top a pipeline says which there are; below, and without one,
   phases come as they are entered.
2. The tree is bounded. Where it is full, the oldest finished phase that no pipeline declares folds into its
   parent: it goes on to count there as done, and a tombstone tells readers to take it out.
3. What has changed since the last published state is only marked; `publish()` takes all of it together, and `seq`
   rises by one.
4. `progress` never falls within an epoch; `raw` is the truth of the moment.
5. A declared phase that nobody has touched is one node for all sessions of its pipeline, which is never changed.
   `own()` puts the session's own in its place; to be read, it is as good. At the end of a session that completed
   another shared one takes its place, which was skipped; when that was is a value of the session.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from difflib import get_close_matches
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from ..errors import PhaseError, SessionClosedError
from .estimate import Estimate, Estimator
from .fraction import refresh
from .guard import Noting
from .phase import OVER, PhaseNode
from .untouched import untouched_phases

if TYPE_CHECKING:
    from ..protocol.clock import Clock
    from ..protocol.snapshot import Head, PhaseSnapshot, SessionStatus
    from .limits import Limits
    from .pipeline import Pipeline

_DEPTH: Final = attrgetter("depth")


class Host(Noting, Protocol):
    """The owner of a state, as far as the state needs it: nothing here waits."""

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


class Folded(NamedTuple):
    """The tombstone of a phase that folded into its parent in the published state `seq`."""

    seq: int
    path: tuple[str, ...]


class PhaseTree:
    """The part of a session's state that is its phases and their publishing; `SessionState` is the whole."""

    __slots__ = (
        "_borrowed",
        "_estimate",
        "_head",
        "_head_changed",
        "_moved",
        "_nodes",
        "_shown",
        "changed",
        "clock",
        "dirty",
        "estimator",
        "host",
        "id",
        "limits",
        "oldest_delta",
        "over",
        "parent",
        "pipeline",
        "progress",
        "progressed",
        "progressed_mono",
        "published",
        "published_at",
        "raw",
        "root",
        "seq",
        "skipped_at",
        "skipped_seq",
        "stall_after",
        "started_mono",
        "status",
        "strict",
        "tombstones",
        "trace",
        "worked_before",
    )

    skipped_seq: int
    """The published state in which the phases that nobody has touched were skipped; 0: none."""
    skipped_at: float
    """When that was, by the wall clock."""

    def __init__(
        self,
        session_id: str,
        *,
        host: Host,
        clock: Clock,
        pipeline: Pipeline | None,
        limits: Limits,
        strict: bool,
        stall_after: float | None,
    ) -> None:
        self.id = session_id
        self.host = host
        self.clock = clock
        self.pipeline = pipeline
        self.limits = limits
        self.strict = strict
        self.stall_after = None if stall_after == float("inf") else stall_after
        """Seconds without progress after which it counts as stalled, where no running phase says otherwise."""
        self.estimator = Estimator(None, {})
        """What is expected, from earlier runs of the pipeline."""
        self.worked_before = 0.0
        """Seconds that the attempts before this one were worked on."""
        self.parent: str | None = None  # The id of the session that it is a part of.
        self.trace: str | None = None
        """Where this attempt is found in a system for traces, or until that is known, the one before."""
        self.status: SessionStatus = "queued"
        self.started_mono = clock.monotonic()
        """When the attempt began, on the monotonic clock."""
        self.seq = 0
        self.published = self.started_mono
        """When `seq` was published, on the monotonic clock."""
        self.published_at: float | None = None
        """The same by the wall clock, in seconds since 1970."""
        self.progressed: float | None = None
        self.progressed_mono = self.started_mono
        self.progress = self.raw = 0.0
        self.over = False
        self.dirty = False
        """Whether there is something to publish."""
        self.changed: list[PhaseNode] = []
        """The phases that the next published state has a change of in it."""
        self.tombstones: deque[Folded] | tuple[()] = ()
        self.oldest_delta = 0
        """Updates can start from this published state on; who is behind it needs a snapshot."""
        self._head: Head | None = None
        self._head_changed = False
        self._estimate: Estimate | None = None
        """What is estimated as of the newest published state; None until it is asked for."""
        self._moved = False
        """Whether the next published state is one in which the work has advanced."""
        self._nodes = 0
        self.root = PhaseNode(self, None, "", "")
        self.root.status = "running"
        self._borrowed = pipeline is not None  # Whether the dict of its phases is that of the pipeline.
        self._shown: dict[str, PhaseSnapshot] | None = None
        """What is published of phases that nobody has touched, where it is not the same for all sessions."""
        self.skipped_seq, self.skipped_at = 0, 0.0
        if pipeline is not None:
            self.root.children = untouched_phases(pipeline).pending
            self._nodes = len(pipeline)

    @property
    def state(self) -> PhaseTree:
        """Itself: what `guarded` methods look for."""
        return self

    # Finding

    def get(self, name: str) -> PhaseNode | None:
        """The top-level phase of that name or alias, as the session's own; or None."""
        known = self.pipeline.resolve(name) if self.pipeline is not None and type(name) is str else None
        node = self.root.children.get(name if known is None else known)
        return None if node is None else self.own(node)

    def own(self, node: PhaseNode) -> PhaseNode:
        """The session's own node of a top-level phase, which may be changed; made now where it had none."""
        if not node.shared:
            return node
        mine = self.copy(node)
        if self._borrowed:
            self._borrowed = False
            self.root.children = self.root.children.copy()
        self.root.children[node.name] = mine
        return mine

    def copy(self, node: PhaseNode) -> PhaseNode:
        """A shared phase as it is in this session, for it alone."""
        mine = PhaseNode(
            self,
            self.root,
            node.name,
            node.title,
            weight=node.weight,
            unit=node.unit,
            total=node.total,
            stall_after=node.stall_after,
            declared=True,
        )
        self.expect(mine)
        if node.status == "skipped":
            mine.status, mine.fraction, mine.free = "skipped", 1.0, 1.0
            mine.v, mine.at, mine.ended = self.skipped_seq, self.published, self.skipped_at
        return mine

    def skip_untouched(self, wall: float) -> None:
        """Skips the phases that nobody has touched; the next published state has it."""
        if self.pipeline is None:
            return
        skipped = untouched_phases(self.pipeline).skipped
        if self._borrowed:
            self.root.children = skipped
        else:
            self.root.children = {
                name: skipped[name] if node.shared else node for name, node in self.root.children.items()
            }
        self.skipped_seq, self.skipped_at = self.seq + 1, wall
        self._shown = None

    def find(self, name: str) -> PhaseNode:
        """The top-level phase of that name or alias.

        Raises:
            PhaseError: There is none; the message names what there is.
        """
        node = self.get(name)
        if node is None:
            raise PhaseError(self.unknown(name))
        return node

    def unknown(self, name: object) -> str:
        """Says that there is no such phase, and which there are."""
        known = list(self.root.children)
        close = get_close_matches(str(name), known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(map(repr, known[:20])) or 'none yet'}"
        whose = f"pipeline {self.pipeline.name!r}" if self.pipeline is not None else f"session {self.id!r}"
        return f"{whose} has no phase {name!r:.200}: {hint}"

    def walk(self) -> Iterator[PhaseNode]:
        """All phases, parents first; those that nobody has touched are not to be changed."""
        for node in self.root.children.values():
            yield from node.walk()

    def check_open(self, what: str) -> None:
        """Raises `SessionClosedError` where the session has ended."""
        if self.over:
            raise SessionClosedError(f"{what}: session {self.id!r} is {self.status}")

    # The tree

    def add(self, parent: PhaseNode, name: str, title: str | None = None, **given: Any) -> PhaseNode:
        """Puts a pending phase into the tree, without publishing that."""
        node = PhaseNode(self, parent, name, name.replace("_", " ") if title is None else title, **given)
        if not parent.children:
            parent.children = {}
        parent.children[name] = node
        self._nodes += 1
        return node

    def add_bounded(self, parent: PhaseNode, name: str, *, weight: float) -> PhaseNode:
        """Puts a phase that nobody has declared into the tree, for which an older one may have to fold."""
        if self._nodes >= self.limits.phases:
            self._fold_one()
        node = self.add(parent, name, weight=weight)
        if parent is self.root:
            self.expect(node)
        return node

    def expect(self, node: PhaseNode) -> None:
        """Tells a top-level phase what is expected of it, from earlier runs."""
        node.usual = usual = self.estimator.usual.get(node.name)
        node.usual_children = None if usual is None or usual.history is None else usual.history.children

    def _fold_one(self) -> None:
        for node in self.walk():
            if not node.declared and node.status in OVER:
                break
        else:
            raise PhaseError(
                f"session {self.id!r} has {self._nodes} phases open or declared, and no more than "
                f"{self.limits.phases} fit (limit 'phases'): count items with `phase.advance()` instead"
            )
        parent = node.parent
        assert parent is not None
        gone = set(node.walk())
        self._nodes -= len(gone)
        self.changed = [changed for changed in self.changed if changed not in gone]
        parent.fold(node)
        if not isinstance(self.tombstones, deque):
            self.tombstones = deque(maxlen=self.limits.phases)
        if len(self.tombstones) == self.limits.phases:
            self.oldest_delta = self.tombstones[0].seq
        self.tombstones.append(Folded(self.seq + 1, node.path))

    def settle_fractions(self) -> None:
        """Computes all fractions anew, for a tree that was put together without publishing."""
        now = self.clock.monotonic()
        for node in reversed(list(self.root.walk())):
            if not node.shared:
                refresh(node, self.seq, now)

    # Publishing

    def mark_dirty(self, node: PhaseNode | None = None) -> None:
        """Notes that something is about to change, of a phase or of the session; the host learns it the first time."""
        if not self.dirty:
            self.host.mark_dirty()  # First, for it refuses foreign threads.
            self.dirty = True
        if node is not None:
            if not node.marked:
                node.marked = True
                self.changed.append(node)
            node.slow = node.status != "running"

    def unmark(self) -> None:
        """Has the host asked again before the next change, as where nothing had changed since the last state."""
        self.dirty = False
        for node in self.walk():  # One that nobody has touched is so already.
            node.slow = True
            node.marked = False

    def publish(self) -> int:
        """Numbers what has changed as a new published state; without a change it is the one before.

        Counts, rates and fractions are taken in from the leaves up to the root.

        Returns:
            The `seq` of the newest published state.
        """
        if not self.dirty:
            return self.seq
        self.dirty = False
        if not (self.changed or self._head_changed):
            return self.seq
        self.seq = seq = self.seq + 1
        self._head = None
        self._head_changed = False
        self.published = now = self.clock.monotonic()
        self.published_at = self.clock.wall()
        touched: dict[PhaseNode, None] = {}
        for changed in self.changed:
            node: PhaseNode | None = changed
            while node is not None and node not in touched:
                touched[node] = None
                node = node.parent
        self.changed.clear()
        for node in sorted(touched, key=_DEPTH, reverse=True):
            if refresh(node, seq, now):
                self._moved = True
        if self._moved:
            self._moved = False
            self.progressed = self.published_at
            self.progressed_mono = now
        self.raw = self.root.fraction or 0.0
        self._estimate = None
        if not self.estimator.usual or self.root.status == "completed":
            self.progress = max(self.progress, self.raw)
        return seq
