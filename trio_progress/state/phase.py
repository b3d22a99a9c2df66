"""One phase of a session: a node of the tree, its counts and its transitions.

1. A phase is `pending`, then `running`, then `completed`, `failed`, `cancelled` or `skipped`.
2. `completed` and `skipped` are absorbing. From `failed` and `cancelled` it may be entered again: its
   `attempt` rises, its count begins anew, its completed children stay. A child, which no pipeline declares, may
   also be done once more after it completed, where that is asked for. To its parent it stays done: what has been
   reached is not taken back, and its next attempt is no part of the work that there was.
3. Its `fraction` is below 1 as long as its scope has not exited, and exactly 1 once it is completed or
   skipped. The fraction of one that failed stays where it was.
4. With children, the fraction is the weighted mean of theirs and of its own units (which weigh 1). An
   indeterminate part counts as nothing done. A child that weighs nothing is how one of the own units is done:
   what it has done of that is added. So is one that is given no weight where there are own units to be done.
5. Counting on a phase that has ended changes nothing and is counted as late. Counting on one that has
   not begun is an error.
6. No method has a checkpoint, and none calls anything that could: a mutation is atomic.

`advance()` is the hot path, as is `Phase.advance()`, which counts by itself where it can. `slow` is False only while
the phase runs *and* is already marked as changed since the last published state; then counting is one flag test, one
test of what comes in and one addition. What is added there is a plain int or float, so that the count is one: numpy's
narrow numbers wrap, and Decimals refuse floats.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Protocol

from ..errors import PhaseError
from ..protocol.clock import shown_seconds, utc
from ..protocol.snapshot import PhaseSnapshot, PhaseStatus, PhaseUpdate
from . import checks
from .estimate import Rate, told
from .fields import checked_fields, merged_fields
from .guard import REFUSED, UNSET, Dropping, Unset, guarded
from .limits import MAX_UNITS, Limits
from .loops import Loop, Loops
from .quantities import Number

CAP: Final = 0.9999
"""The largest fraction of what has not ended: people read 100 % as done."""

OVER: frozenset[str] = frozenset({"completed", "failed", "cancelled", "skipped"})
ABSORBING: frozenset[str] = frozenset({"completed", "skipped"})

_ONE: Final = 1
"""The `n` of a call that gives none: CPython has one object for it."""

_NONE: dict[str, Any] = {}
"""Shared by all phases that have no fields, or no children: most of them."""


class Whole(Dropping, Protocol):
    """What a phase needs of the state that it is part of."""

    over: bool
    limits: Limits
    changed: list[PhaseNode]
    started_mono: float
    """When the attempt began, on the monotonic clock."""

    def mark_dirty(self) -> None:
        """Something is about to change that the next published state has in it."""
        ...

    def late(self, what: str, where: str) -> None:
        """An update came for what has ended."""
        ...

    def pending_snapshot(self, node: PhaseNode) -> PhaseSnapshot:
        """A declared phase that was never begun."""
        ...


class PhaseNode:
    """A phase in the tree of a session."""

    __slots__ = (
        "_loops",
        "_pace",
        "_rate",
        "_seen",
        "_snapshot",
        "_worked",
        "attempt",
        "began",
        "children",
        "declared",
        "depth",
        "done",
        "elapsed",
        "ended",
        "failing",
        "fields",
        "folded",
        "folded_free",
        "folded_weight",
        "fraction",
        "free",
        "handle",
        "marked",
        "message",
        "name",
        "parent",
        "skipped",
        "slow",
        "spent",
        "stall_after",
        "started",
        "started_after",
        "state",
        "status",
        "title",
        "total",
        "unit",
        "v",
        "was_done",
        "weight",
    )

    def __init__(
        self,
        state: Whole,
        parent: PhaseNode | None,
        name: str,
        *,
        title: str | None = None,
        weight: float = 1.0,
        unit: str | None = None,
        total: float | None = None,
        stall_after: float | None = None,
        declared: bool = False,
    ) -> None:
        self.state = state
        self.parent = parent
        self.depth: int = 0 if parent is None else parent.depth + 1
        self.name = name
        self.title = name.replace("_", " ") if title is None else title
        self.weight = weight
        self.unit = unit
        self.total = total
        self.stall_after = stall_after
        self.declared = declared
        self.status: PhaseStatus = "pending"
        self.attempt = 0
        self.slow, self.marked = True, False
        self.v = 0
        """The `seq` of the published state that it last changed in."""
        self.done: int | float = 0
        self.skipped: int | float = 0
        self.message: str | None = None
        self.fields: dict[str, Any] = _NONE  # Replaced, never changed.
        self.children: dict[str, PhaseNode] = _NONE  # Replaced by `SessionState.add`.
        self.folded, self.folded_weight = 0, 0.0
        self.folded_free = 0.0
        """The part of that which needed no work; of an earlier attempt it is not known."""
        self.fraction: float | None = 0.0
        self.free = 0.0
        """The part of `fraction` that needed no work."""
        self.was_done = False
        """Whether it has completed in an earlier attempt of this epoch, and so counts as done in its parent."""
        self.failing = False
        """Whether the session was said to have failed while it was open."""
        self.started: float | None = None
        self.ended: float | None = None
        self.began: float | None = None
        """When it was entered, on the monotonic clock; None while it does not run."""
        self.started_after: float | None = None
        """Seconds after the session's beginning at which it was entered; None: not in this attempt of the session."""
        self.elapsed: float | None = None
        """Seconds that its newest attempt took; None until that has ended."""
        self.spent = 0.0
        """Seconds of the attempts that have ended."""
        self._loops: Loops | None = None
        """The loops that the total is from; None where it was said otherwise."""
        self._rate: Rate | None = None
        self._pace: Rate | None = None
        self._seen: int | float = 0
        self._worked: float | None = None
        """How far it has come by work, of `fraction`; None until that is known of this attempt."""
        self._snapshot: PhaseSnapshot | None = None
        self.handle: object | None = None
        """What the owner of the state has handed out for this phase: the same object each time."""

    # Counting

    def advance(self, n: Number = 1) -> None:
        """Counts `n` more units as done; finite, at least 0. Never waits, and costs tens of nanoseconds.

        Any real number counts by its value. On a phase that has ended it changes nothing and is counted as late.

        Raises:
            ValueError, TypeError: `n` is not a number of at least 0; nothing was counted.
            PhaseError: The phase has not begun.
            RuntimeError: Called from a foreign thread: use `from_thread()`.
        """
        if n is _ONE and not self.slow:
            self.done += 1
        else:
            self._advance(n)

    def _advance(self, n: Number) -> None:
        """The long way, which loops over an array take as well: guarded by hand, for that is quicker."""
        try:
            n = checks.number("n", n)
            if n and self._counts("advance"):
                if self.slow:
                    self._mark()
                self.done += n
        except REFUSED as error:
            if self.state.strict:
                raise
            self.state.drop(error)

    @guarded
    def skip(self, n: Number = 1) -> None:
        """Counts `n` units as done that needed no work, as on resuming: they are not in the rate.

        Raises:
            ValueError, TypeError: `n` is not a number of at least 0.
            PhaseError: The phase has not begun.
        """
        n = checks.number("n", n)
        if n and self._counts("skip"):
            self._mark()
            self.done += n
            self.skipped += n

    @guarded
    def extend(self, n: Number) -> None:
        """Adds `n` units to what there is to do. An indeterminate phase then knows: what is done, and `n` more.

        Raises:
            ValueError, TypeError: `n` is not a number of at least 0.
            PhaseError: The phase has not begun.
        """
        n = checks.number("n", n)
        if self._counts("extend"):
            total = checks.number("the total", (self.done if self.total is None else self.total) + n)
            self._mark()
            self.total = total
            if self._loops is not None:
                self._loops.more(n)

    @guarded
    def update(
        self,
        *,
        done: Number | Unset = UNSET,
        total: Number | Unset | None = UNSET,
        message: str | Unset | None = UNSET,
    ) -> None:
        """Sets absolute values; what is not given stays. `total=None` makes the phase indeterminate.

        Raises:
            ValueError, TypeError: A value is out of range; nothing was changed.
            PhaseError: The phase has not begun.
        """
        if not isinstance(done, Unset):
            done = checks.number("done", done)
        if not isinstance(total, Unset) and total is not None:
            total = checks.number("total", total)
        if not isinstance(message, Unset):
            message = checks.message("message", message, self.state.limits)
        if self._counts("update"):
            self._mark()
            if not isinstance(done, Unset):
                self.done = done
            if not isinstance(total, Unset):
                self.total = total
                self._loops = None
            if not isinstance(message, Unset):
                self.message = message

    # What `track()` says

    def loop_begins(self, owner: object, length: int | None) -> Loop | None:
        """A loop over so many items begins, or over nobody knows how many.

        Args:
            owner: What iterates; where that is gone, the loop was left.
            length: How many items there are, if that is known.

        Returns:
            The loop; None where the total was said otherwise, or nothing can be counted, and so it is no matter.
        """
        if self.status != "running" or (self.total is not None and self._loops is None):
            return None
        if self._loops is None:
            self._loops = Loops(self.done)
        loop = Loop(owner, length)
        self._loops.add(loop)
        self._take_total()
        return loop

    def loop_exceeds(self, loop: Loop) -> None:
        """A loop gives more than it has said."""
        loop.length = None
        self._take_total()

    def loop_ends(self, loop: Loop) -> None:
        """A loop has given all that there was."""
        loop.over = True
        self._take_total()

    @guarded
    def _take_total(self) -> None:
        if self._loops is None or self.status != "running":
            return
        total = self._loops.total()
        if total != self.total:
            self._mark()
            self.total = total

    def set(self, **fields: Any) -> None:
        """Sets fields: JSON values by name, shown beside the phase; the newest value of each wins.

        Raises:
            ValueError, TypeError: A value is no JSON data or too large, or there are too many fields.
            PhaseError: The phase has not begun.
        """
        self._set(fields)

    @guarded
    def _set(self, fields: dict[str, Any]) -> None:
        checked = checked_fields(fields, self.state.limits)
        if self._counts("set"):
            merged = merged_fields(self.fields, checked, self.state.limits)
            self._mark()
            self.fields = merged

    def _counts(self, what: str) -> bool:
        """Whether an update is for now; a late one is noted, one before the beginning is an error."""
        if self.status == "running":
            return True
        if self.status == "pending" and not self.state.over:
            raise PhaseError(
                f"phase {self.label!r} has not begun: enter it with `with session.phase({self.name!r})` before {what}()"
            )
        self.state.late(what, self.label)
        return False

    def _mark(self) -> None:
        """Notes that the next published state has a change of this phase in it."""
        if not self.marked:
            self.state.mark_dirty()  # First, for it refuses foreign threads.
            self.marked = True
            self.state.changed.append(self)
        self.slow = self.status != "running"

    # Transitions; the session's state calls these and publishes

    def begin(self, total: float | Unset | None, now: float, wall: float) -> None:
        """Goes to running; for a further attempt what was counted before begins anew."""
        self._mark()
        self.was_done = self.was_done or self.status in ABSORBING
        self.status = "running"
        self.attempt += 1
        if self.attempt > 1:
            self.done = self.skipped = self._seen = 0
            if self._loops is not None:
                self.total = None  # The loops of this attempt are to say it.
        self._loops = None
        if not isinstance(total, Unset):
            self.total = total
        self.started = wall
        self.started_after = shown_seconds(now - self.state.started_mono)
        self.ended = self.elapsed = None
        self.began = now
        self._rate = Rate(now)
        self._pace = self._worked = None
        self.failing = False
        self.slow = False

    def finish(self, status: PhaseStatus, now: float, wall: float) -> None:
        """Goes to one of the ended statuses."""
        self._mark()
        self.settle(now)
        if status not in ABSORBING:
            self.fraction, self.free = self._computed()
        self.status = status
        self.slow = True
        self.ended = wall
        if self.began is not None:
            self.spent += now - self.began
            self.elapsed = shown_seconds(now - self.began)
            self.began = None
        self.marked = True

    def reset(self) -> None:
        """Back to pending, for a session's next attempt; how often it was entered is kept."""
        self.status = "pending"
        self.done = self.skipped = self._seen = 0
        self.message = None
        self.started = self.ended = self.began = self.started_after = self.elapsed = None
        self.spent = 0.0

    def fold(self, child: PhaseNode) -> None:
        """Takes a finished child out of the tree; from here on it counts as done."""
        self._mark()
        del self.children[child.name]
        self.folded += 1 + child.folded
        self.folded_weight += child.weight
        self.folded_free += child.weight * child.free

    # Publishing

    def settle(self, now: float) -> bool:
        """Takes in what the hot path added: the bound, the rate. True where the count has moved."""
        if self.done >= MAX_UNITS:
            self.done = MAX_UNITS - 1
        self.skipped = min(self.skipped, self.done)
        self.slow = True
        self.marked = False
        worked = self.done - self.skipped
        moved = worked - self._seen
        self._seen = worked
        if self._rate is not None and self.status == "running":
            self._rate.sample(max(moved, 0), now)
        return moved != 0

    def refresh(self, seq: int, now: float) -> None:
        """Stamps the change with the published state's number, and computes the fraction anew."""
        self.v = seq
        self._snapshot = None
        if self.status == "running":
            self.fraction, self.free = self._computed()
            worked = max((self.fraction or 0.0) - self.free, 0.0)
            before = worked if self._worked is None else self._worked  # What it begins with was not made by now.
            self._worked = worked
            if self.children or self.folded:
                if self._pace is None:
                    self._pace = Rate(now if self.began is None else self.began)
                self._pace.sample(max(worked - before, 0.0), now)
        elif self.status == "completed":
            self.free = self._free_in_the_end()
            self.fraction = 1.0
        elif self.status == "skipped":
            self.fraction = self.free = 1.0

    def _computed(self) -> tuple[float | None, float]:
        """How far it is while it has not completed, and the part of that which needed no work."""
        own, own_free = None, 0.0
        if self.total is not None:
            own, own_free = (self.done / self.total, self.skipped / self.total) if self.total > 0 else (0.0, 0.0)
        if not self.children and not self.folded:
            return (None if own is None else min(own, CAP)), min(own_free, CAP)
        weight = part = self.folded_weight
        free = self.folded_free
        under_way = 0.0
        for child in self.children.values():
            fraction = 1.0 if child.was_done else child.fraction or 0.0
            weight += child.weight
            part += child.weight * fraction
            free += child.weight * child.free
            if not child.weight and not child.was_done and child.status == "running":
                under_way += fraction
        if own is not None:
            if under_way and self.total:
                own = (self.done + under_way) / self.total
            weight += 1.0
            part += min(own, 1.0)
            free += min(own_free, 1.0)
        return (min(part / weight, CAP), free / weight) if weight > 0 else (None, 0.0)

    def _free_in_the_end(self) -> float:
        """The part of the whole that needed no work, of what has completed."""
        if self.total is None and not self.children and not self.folded:
            return float(self.skipped / self.done) if self.done else 0.0
        fraction, free = self._computed()
        return min(free / fraction, 1.0) if fraction else 0.0

    @property
    def all_counted(self) -> bool:
        """Whether as much was done as there is to do."""
        return self.total is not None and self.done >= self.total

    @property
    def exceeded(self) -> bool:
        """Whether more was done than there was to do: then nobody knows what is left."""
        return self.total is not None and self.done > self.total

    # Reading

    @property
    def running(self) -> bool:
        """Whether it has begun and not ended."""
        return self.status == "running"

    @property
    def path(self) -> tuple[str, ...]:
        """The names from the root down to this phase."""
        names: list[str] = []
        node: PhaseNode | None = self
        while node is not None and node.parent is not None:
            names.append(node.name)
            node = node.parent
        return tuple(reversed(names))

    @property
    def label(self) -> str:
        """The path as one text."""
        return "/".join(self.path)

    @property
    def reached(self) -> str:
        """How it is got at from the session, as Python."""
        return ".".join(f"phases[{name!r}]" for name in self.path)

    def walk(self) -> Iterator[PhaseNode]:
        """This phase and all below it, parents first."""
        yield self
        for child in self.children.values():
            yield from child.walk()

    @property
    def rate(self) -> float | None:
        """Units a second, smoothed, without the skipped ones; of a phase that has ended, as it was then."""
        if self._rate is None:
            return None
        return self._rate.value

    @property
    def eta(self) -> float | None:
        """Seconds to its end by its own rate; None where that is not known."""
        if self.status != "running" or self.exceeded:
            return None
        if self.children or self.folded:
            pace = None if self._pace is None else self._pace.value
            return None if pace is None or self.fraction is None else told((1.0 - self.fraction) / pace)
        rate = self.rate
        if rate is None or self.total is None:
            return None
        return told(max(self.total - self.done, 0) / rate)

    def _values(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "title": self.title,
            "status": self.status,
            "attempt": self.attempt,
            "done": self.done,
            "total": self.total,
            "unit": self.unit,
            "weight": self.weight,
            "fraction": self.fraction,
            "rate": self.rate,
            "eta": self.eta,
            "message": self.message,
            "fields": self.fields,
            "started_at": utc(self.started),
            "ended_at": utc(self.ended),
            "skipped": self.skipped,
            "folded": self.folded,
            "folded_weight": self.folded_weight,
            "started_after": self.started_after,
            "elapsed": self.elapsed,
        }

    def snapshot(self) -> PhaseSnapshot:
        """The phase and all below it as frozen values; made once for each published change."""
        if (
            self._snapshot is None
            and self.declared
            and self.status == "pending"
            and self.attempt == 0
            and not self.children
        ):
            self._snapshot = self.state.pending_snapshot(self)
        if self._snapshot is None:
            self._snapshot = self.fresh_snapshot()
        return self._snapshot

    def fresh_snapshot(self) -> PhaseSnapshot:
        """The same, made anew."""
        below = tuple(child.snapshot() for child in self.children.values())
        return PhaseSnapshot(**self._values(), phases=below)

    def changes(self, since: int) -> Iterator[PhaseUpdate]:
        """What changed below this phase after the published state `since`, parents first."""
        for child in self.children.values():
            if child.v > since:
                yield PhaseUpdate(**child._values(), path=child.path)
                yield from child.changes(since)
