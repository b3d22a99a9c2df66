"""One phase of a session: a node of the tree, its counts, their rate, and its transitions.

1. A phase is `pending`, then `running`, then `completed`, `failed`, `cancelled` or `skipped`.
2. `completed` and `skipped` are absorbing. From `failed` and `cancelled` it may be entered again: its
   `attempt` rises, its count begins anew, its completed children stay. A child, which no pipeline declares, may
   also be done once more after it completed, where that is asked for. To its parent it stays done: what has been
   reached is not taken back, and its next attempt is no part of the work that there was.
3. Counting on a phase that has ended changes nothing and is counted as late. Counting on one that has
   not begun is an error.
4. No method has a checkpoint, and none calls anything that could: a mutation is atomic.

`advance()` is the hot path, as is `Phase.advance()`, which counts by itself where it can. `slow` is False only while
the phase runs *and* is already marked as changed since the last published state; then counting is one flag test, one
test of what comes in and one addition. What is added there is a plain int or float, so that the count is one: numpy's
narrow numbers wrap, and Decimals refuse floats.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, field
from math import exp
from typing import TYPE_CHECKING, Any, Final, Protocol, final

from ..errors import PhaseError
from ..protocol.clock import shown_seconds
from . import checks
from .checks import checked_fields, merged_fields
from .guard import REFUSED, UNSET, Noting, Unset, guarded
from .limits import Limits
from .loops import Loop, Loops

if TYPE_CHECKING:
    from ..protocol.snapshot import PhaseSnapshot, PhaseStatus
    from .mirror import Mirror
    from .quantities import Number
    from .usual import Usual

OVER: frozenset[str] = frozenset({"completed", "failed", "cancelled", "skipped"})
ABSORBING: frozenset[str] = frozenset({"completed", "skipped"})

_ONE: Final = 1
"""The `n` of a call that gives none: CPython has one object for it."""

_NONE: dict[str, Any] = {}
"""Shared by all phases that have no fields, or no children: most of them."""

TAU = 20.0
"""Seconds in which what was measured loses all but 1/e of its weight."""

WARM_UP = 0.5
"""Seconds of measuring before a rate is told at all: the first items of a burst say little."""

PAUSE: Final = 2.0
"""How many times the longest time between two samples a time without one must be to be a pause."""


@final
class Rate:
    """A smoothed rate of something that grows, in units a second.

    It is an exponentially weighted mean over irregular samples: both the units and the seconds of the past are scaled
    by `exp(-dt / TAU)` at each sample, and the rate is their quotient, so that it is right from the first sample on (no
    start-up bias) and does not depend on how often it is sampled (Eckner, "Algorithms for unevenly spaced time series",
    2012, on EMAs of that kind).
    """

    __slots__ = ("at", "gap", "seconds", "units", "value")

    def __init__(self, at: float) -> None:
        self.at = at
        self.gap = 0.0
        """The longest time between two samples, as far as it is remembered."""
        self.units = 0.0
        self.seconds = 0.0
        self.value: float | None = None
        """Units a second; None while too little time was measured or nothing was done."""

    def sample(self, units: float, at: float) -> None:
        """Adds what was done since the last sample, measured at `at` on a monotonic clock."""
        passed = at - self.at
        if passed > 0:
            kept = exp(-passed / TAU)
            self.units *= kept
            # What passed weighs the integral of the same exponential; so do its units, taken as spread evenly.
            weight = TAU * (1.0 - kept)
            self.seconds = self.seconds * kept + weight
            self.gap = max(passed, self.gap * kept)
            self.at = at
            units *= weight / passed
        self.units += units
        known = self.seconds >= WARM_UP and self.units > 0
        self.value = (self.units / self.seconds or None) if known else None

    def value_at(self, now: float) -> float | None:
        """The rate as it looks now, where nothing was done since the last sample.

        Where the next sample could have come for long, it is a pause. What is over that counts as time in which nothing
        was done, without the past fading meanwhile: the rate falls, but not to nothing, and what comes next finds it
        again.
        """
        pause = now - self.at - PAUSE * self.gap
        if self.value is None or pause <= 0:
            return self.value
        return self.value * self.seconds / (self.seconds + pause)


class Whole(Protocol):
    """What a phase needs of the tree that it is part of."""

    strict: bool
    limits: Limits
    over: bool
    started_mono: float

    @property
    def host(self) -> Noting:
        """Who notes what came late, or was dropped."""
        ...

    def mark_dirty(self, node: PhaseNode) -> None:
        """Something of the phase is about to change, and the next published state has it."""
        ...


@dataclass(slots=True, eq=False, repr=False)
class PhaseNode:
    """A phase in the tree of a session. One flat record: it is what a session has thousands of, and counts on."""

    state: Whole
    parent: PhaseNode | None
    name: str
    title: str
    _: KW_ONLY
    weight: float = 1.0
    unit: str | None = None
    total: float | None = None
    stall_after: float | None = None
    declared: bool = False
    shared: bool = False
    """Whether it is that of all sessions of its pipeline which have not touched it; see `PhaseTree.own`."""
    depth: int = 0
    status: PhaseStatus = "pending"
    attempt: int = 0
    slow: bool = True
    marked: bool = False
    v: int = 0
    """The `seq` of the published state that it last changed in."""
    at: float = 0.0
    """When that was published, on the monotonic clock: what is told of its pace is as of then."""
    done: int | float = 0
    skipped: int | float = 0
    message: str | None = None
    fields: dict[str, Any] = field(init=False)
    """Replaced, never changed."""
    children: dict[str, PhaseNode] = field(init=False)
    """Replaced by `PhaseTree.add` where it is the shared one."""
    folded: int = 0
    folded_weight: float = 0.0
    folded_free: float = 0.0
    """The part of that which needed no work; of an earlier attempt it is not known."""
    fraction: float | None = 0.0
    free: float = 0.0
    """The part of `fraction` that needed no work."""
    was_done: bool = False
    """Whether it has completed in an earlier attempt of this epoch, and so counts as done in its parent."""
    failing: bool = False
    """Whether the session was said to have failed while it was open."""
    started: float | None = None
    ended: float | None = None
    began: float | None = None
    """When it was entered, on the monotonic clock; None while it does not run."""
    started_after: float | None = None
    """Seconds after the session's beginning at which it was entered; None: not in this attempt of the session."""
    elapsed: float | None = None
    """Seconds that its newest attempt took; None until that has ended."""
    spent: float = 0.0
    """Seconds of the attempts that have ended."""
    units: int = 0
    """Children that completed and weigh nothing: each is one of its units, unless its author counts them."""
    usual: Usual | None = None
    """What is expected of it, from earlier runs of its pipeline."""
    usual_children: float | None = None
    """How many children it had in earlier runs; None: not known, and more may come as long as it runs."""
    before: float = 0.0
    """Seconds that it was worked on in earlier attempts of the session; `spent` is of this one."""
    mirror: Mirror | None = None
    """The session that it follows, as it was seen last; None: it is work of this session."""
    mirrored: bool = False
    """Whether sessions are followed below it."""
    loops: Loops | None = None
    """The loops that the total is from; None where it was said otherwise."""
    pace: Rate | None = None
    """Of its own units."""
    child_pace: Rate | None = None
    """Of its fraction, where it has children."""
    by_work: int | float = 0
    """What was counted by the newest published state, without what was skipped."""
    worked: float | None = None
    """How far it has come by work, of `fraction`; None until that is known of this attempt."""
    snapshot: PhaseSnapshot | None = None
    handle: object | None = None
    """What the owner of the state has handed out for this phase: the same object each time."""

    def __post_init__(self) -> None:
        self.depth = 0 if self.parent is None else self.parent.depth + 1
        self.fields = self.children = _NONE

    # Counting

    def advance(self, n: Number = 1) -> None:
        """What `Phase.advance()` does not do by itself, and all that `track()` counts."""
        if n is _ONE and not self.slow:
            self.done += 1
            return
        try:  # Guarded by hand, for that is quicker: loops over an array come here as well.
            if n is not _ONE:
                n = checks.number("n", n)
            if n and (self.status == "running" or self._counts("advance")):
                if self.slow:
                    self.state.mark_dirty(self)
                self.done += n
        except REFUSED as error:
            if self.state.strict:
                raise
            self.state.host.drop(error)

    @guarded
    def skip(self, n: Number = 1) -> None:
        """Counts `n` units as done that needed no work, as on resuming: they are not in the rate."""
        n = checks.number("n", n)
        if n and self._counts("skip"):
            self.state.mark_dirty(self)
            self.done += n
            self.skipped += n

    @guarded
    def extend(self, n: Number) -> None:
        """Adds `n` units to what there is to do. An indeterminate phase then knows: what is done, and `n` more."""
        n = checks.number("n", n)
        if self._counts("extend"):
            total = checks.number("the total", (self.done if self.total is None else self.total) + n)
            self.state.mark_dirty(self)
            self.total = total
            if self.loops is not None:
                self.loops.more(n)

    @guarded
    def update(
        self,
        *,
        done: Number | Unset = UNSET,
        total: Number | Unset | None = UNSET,
        message: str | Unset | None = UNSET,
    ) -> None:
        """Sets absolute values; what is not given stays. `total=None` makes the phase indeterminate."""
        if not isinstance(done, Unset):
            done = checks.number("done", done)
        if not isinstance(total, Unset) and total is not None:
            total = checks.number("total", total)
        if not isinstance(message, Unset):
            message = checks.message("message", message, self.state.limits)
        if self._counts("update"):
            self.state.mark_dirty(self)
            if not isinstance(done, Unset):
                self.done = done
            if not isinstance(total, Unset):
                self.total = total
                self.loops = None
            if not isinstance(message, Unset):
                self.message = message

    @guarded
    def add(self, advanced: float, skipped: float, extended: float) -> None:
        """Adds what was counted elsewhere, all of it in one step. What is negative is taken back."""
        if self._counts("advance"):
            self.state.mark_dirty(self)
            self.skipped = max(self.skipped + skipped, 0)
            self.done = max(self.done + advanced + skipped, 0)
            if extended:
                total = (self.done if self.total is None else self.total) + extended
                self.total = max(checks.number("the total", total, least=None), 0)
                if self.loops is not None:
                    self.loops.more(extended)

    @guarded
    def set(self, fields: dict[str, Any]) -> None:
        """Sets fields: JSON values by name, shown beside the phase; the newest value of each wins."""
        checked = checked_fields(fields, self.state.limits)
        if self._counts("set"):
            merged = merged_fields(self.fields, checked, self.state.limits)
            self.state.mark_dirty(self)
            self.fields = merged

    def begin_loop(self, owner: object, length: int | None) -> Loop | None:
        """A loop over so many items begins, or over nobody knows how many.

        Returns:
            The loop; None where the total was said otherwise, or nothing can be counted, and so it is no matter.
        """
        if self.status != "running" or (self.total is not None and self.loops is None):
            return None
        if self.loops is None:
            self.loops = Loops(self.done)
        loop = Loop(owner, length, self._take_total)
        self.loops.add(loop)
        self._take_total()
        return loop

    @guarded
    def _take_total(self) -> None:
        """Takes over what the loops know of how much there is to do."""
        if self.loops is None or self.status != "running":
            return
        total = self.loops.total()
        if total != self.total:
            self.state.mark_dirty(self)
            self.total = total

    def _counts(self, what: str) -> bool:
        """Whether an update is for now; a late one is noted, one before the beginning is an error."""
        if self.status == "running":
            return True
        if self.status == "pending" and not self.state.over:
            raise PhaseError(
                f"phase {self.label!r} has not begun: enter it with `with session.phase({self.name!r})` before {what}()"
            )
        self.state.host.late(what, self.label)
        return False

    # Transitions; the session's state calls these and publishes

    def begin(self, total: float | Unset | None, now: float, wall: float) -> None:
        """Goes to running; for a further attempt what was counted before begins anew."""
        self.state.mark_dirty(self)
        self.was_done = self.was_done or self.status in ABSORBING
        self.status = "running"
        self.attempt += 1
        if self.attempt > 1:
            self.done = self.skipped = self.by_work = 0
            if self.loops is not None:
                self.total = None  # The loops of this attempt are to say it.
        self.loops = self.mirror = None
        if not isinstance(total, Unset):
            self.total = total
        self.started = wall
        self.started_after = shown_seconds(now - self.state.started_mono)
        self.ended = self.elapsed = None
        self.began = now
        self.pace = Rate(now)
        self.child_pace = self.worked = None
        self.failing = False
        self.slow = False

    def fold(self, child: PhaseNode) -> None:
        """Takes a finished child out of the tree; from here on it counts as done."""
        self.state.mark_dirty(self)
        del self.children[child.name]
        self.folded += 1 + child.folded
        self.folded_weight += child.weight
        self.folded_free += child.weight * child.free

    # Reading

    @property
    def counted(self) -> int | float:
        """Units that are done: what was counted, or the children that completed, whichever is more."""
        return self.done if self.total is None else max(self.done, self.units)

    @property
    def all_counted(self) -> bool:
        """Whether as much was done as there is to do."""
        return self.total is not None and self.counted >= self.total

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

    def walk(self) -> Iterator[PhaseNode]:
        """This phase and all below it, parents first."""
        yield self
        for child in self.children.values():
            yield from child.walk()
