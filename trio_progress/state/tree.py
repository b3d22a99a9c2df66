"""The phases of a session: a tree under a nameless root, and the transitions that concern more than one phase.

1. Each transition is published at once, as one state: a hand-over completes, skips and begins together.
2. Names are unique among siblings. At the top a pipeline says which there are; below, and without one,
   phases come as they are entered.
3. The tree is bounded. Where it is full, the oldest finished phase that no pipeline declares folds into its
   parent: it goes on to count there as done, and a tombstone tells readers to take it out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, NamedTuple, NoReturn

from ..errors import PhaseError
from ..protocol.clock import Clock
from ..protocol.snapshot import PhaseSnapshot, PhaseStatus
from . import checks
from .guard import UNSET, Unset, guarded
from .limits import Limits
from .phase import ABSORBING, OVER, PhaseNode
from .pipeline import Pipeline


class Folded(NamedTuple):
    """The tombstone of a phase that folded into its parent in the published state `seq`."""

    seq: int
    path: tuple[str, ...]


class Given(NamedTuple):
    """What a phase is entered with, checked."""

    again: bool

    total: float | Unset | None
    weight: float | None
    title: str | None
    unit: str | None


class PhaseTree:
    """The part of a session's state that is its phases; `SessionState` is the whole."""

    __slots__ = (
        "_moved",
        "_nodes",
        "changed",
        "clock",
        "id",
        "limits",
        "oldest_delta",
        "over",
        "pipeline",
        "result_refused",
        "root",
        "seq",
        "started_mono",
        "strict",
        "tombstones",
    )

    def __init__(
        self,
        session_id: str,
        *,
        clock: Clock,
        pipeline: Pipeline | None,
        limits: Limits,
        strict: bool,
    ) -> None:
        self.id = session_id
        self.clock = clock
        self.pipeline = pipeline
        self.limits = limits
        self.strict = strict
        self.started_mono = clock.monotonic()
        self.seq = 0
        self.over = False
        self.result_refused: Exception | None = None
        """Why the newest result that was given could not be kept; None where there was none, or it was."""
        self.changed: list[PhaseNode] = []
        """The phases that the next published state has a change of in it."""
        self.tombstones: deque[Folded] | tuple[()] = ()
        self.oldest_delta = 0
        """Updates can be told from this published state on; who is behind it needs a snapshot."""
        self._moved = False
        self._nodes = 0
        self.root = PhaseNode(self, None, "")
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

    # What the whole state does

    @property
    def state(self) -> PhaseTree:
        """Itself: what `guarded` methods look for."""
        return self

    def mark_dirty(self) -> None:
        """Notes that there is something to publish."""
        raise NotImplementedError

    def publish(self) -> int:
        """Numbers what has changed as a new published state."""
        raise NotImplementedError

    def request_persist(self) -> None:
        """What was published should be stored soon."""
        raise NotImplementedError

    def drain(self, node: PhaseNode) -> None:
        """The phase is about to end: brings in what threads have counted on it."""
        raise NotImplementedError

    def timed(self, node: PhaseNode) -> None:
        """The phase has completed: how long it took can be counted."""
        raise NotImplementedError

    def late(self, what: str, where: str) -> None:
        """An update came too late to change anything."""
        raise NotImplementedError

    def drop(self, error: Exception) -> None:
        """Bad input came, and the session is not strict."""
        raise NotImplementedError

    def refuse_closed(self, what: str) -> NoReturn:
        """The session has ended: raises that."""
        raise NotImplementedError

    # Finding

    def get(self, name: str) -> PhaseNode | None:
        """The top-level phase of that name or alias, or None."""
        known = self.pipeline.resolve(name) if self.pipeline is not None and type(name) is str else None
        return self.root.children.get(name if known is None else known)

    def find(self, name: str) -> PhaseNode:
        """The top-level phase of that name or alias.

        Raises:
            PhaseError: There is none; the message names what there is.
        """
        node = self.get(name)
        if node is None:
            raise PhaseError(self._unknown(name))
        return node

    def _unknown(self, name: object) -> str:
        known = list(self.root.children)
        close = get_close_matches(str(name), known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(map(repr, known[:20])) or 'none yet'}"
        whose = f"pipeline {self.pipeline.name!r}" if self.pipeline is not None else f"session {self.id!r}"
        return f"{whose} has no phase {name!r:.200}: {hint}"

    def walk(self) -> Iterator[PhaseNode]:
        """All phases, parents first."""
        for node in self.root.children.values():
            yield from node.walk()

    # Checking

    def check_phase(
        self,
        parent: PhaseNode,
        name: str,
        *,
        total: float | Unset | None = UNSET,
        weight: float | None = None,
        title: str | None = None,
        unit: str | None = None,
        again: bool = False,
    ) -> Given:
        """The values that a phase is to be entered with; raises where it could not be entered under that name.

        Raises:
            PhaseError: The name is unknown, the weight is the pipeline's, or it would nest too deeply.
            ValueError, TypeError: A value is out of range.
        """
        checks.name("a phase's name", name, self.limits)
        if type(again) is not bool:
            raise TypeError(f"again must be True or False, not {again!r:.200}")
        given = Given(
            again,
            total
            if isinstance(total, Unset) or total is None
            else checks.number(f"the total of phase {name!r}", total),
            None if weight is None else checks.number(f"the weight of phase {name!r}", weight),
            None if title is None else checks.title(f"the title of phase {name!r}", title, self.limits),
            None if unit is None else checks.title(f"the unit of phase {name!r}", unit, self.limits),
        )
        if parent is self.root and self.pipeline is not None:
            if self.get(name) is None:
                raise PhaseError(f"{self._unknown(name)}; declare it, or make it a child by `phase.phase({name!r})`")
            if weight is not None:
                raise PhaseError(f"the weight of phase {name!r} is declared by pipeline {self.pipeline.name!r}")
        elif parent.depth + 1 > self.limits.depth:
            raise PhaseError(f"phases nest at most {self.limits.depth} deep (limit 'depth'), {name!r} would be deeper")
        return given

    def check_open(self, what: str) -> None:
        """Raises `SessionClosedError` where the session has ended."""
        if self.over:
            self.refuse_closed(what)

    # Transitions

    def enter(self, parent: PhaseNode, name: str, **values: Any) -> PhaseNode:
        """Begins a phase, with the values that `check_phase` takes, and publishes that.

        Raises:
            PhaseError: It is unknown, open, completed (and not entered `again`) or skipped; or its parent is not open.
            ValueError, TypeError: A value is out of range.
            SessionClosedError: The session has ended.
        """
        given = self.check_phase(parent, name, **values)
        self.check_open(f"phase {name!r} cannot be entered")
        if parent is not self.root and parent.status != "running":
            raise PhaseError(f"phase {name!r} cannot be entered within {parent.label!r}, which is {parent.status}")
        node = self.get(name) if parent is self.root else parent.children.get(name)
        if node is not None and node.status == "running":
            raise PhaseError(
                f"phase {node.label!r} is open already: use `session.{node.reached}` to count on it, "
                "or enter children of it"
            )
        if node is not None and node.status in ABSORBING and not given.again:
            instead = (
                f"enter it by `phase.phase({name!r}, again=True)` where it is to be done once more"
                if parent is not self.root
                else "enter another one (children can be done once more, by `again=True`)"
            )
            raise PhaseError(
                f"phase {node.label!r} is {node.status} and cannot be entered again: {instead}, "
                f"or pass it over where `session.{node.reached}.status` says so"
            )
        self.mark_dirty()
        if node is None:
            # Without a weight of its own it is a part of what its parent counts, if that is known.
            part = parent is not self.root and parent.total is not None
            node = self._made(parent, name, weight=0.0 if part else 1.0)
        self._dress(node, given)
        node.begin(given.total, self.clock.monotonic(), self.clock.wall())
        self._moved = True
        self.publish()
        return node

    def hand_over(self, name: str, **values: Any) -> PhaseNode:
        """Completes what runs before `name`, skips what lies between, and begins it, in one published state.

        For a phase that runs already it only sets what is given. For one that the hand-over has passed
        it changes nothing and is counted as late.

        Raises:
            PhaseError: The phase is unknown.
            ValueError, TypeError: A value is out of range.
            SessionClosedError: The session has ended.
        """
        given = self.check_phase(self.root, name, **values)
        self.check_open(f"the hand-over to phase {name!r} cannot be made")
        target = self.get(name)
        if target is not None and target.status in ABSORBING:
            self.late("advance_to", name)
            return target
        self.mark_dirty()
        now, wall = self.clock.monotonic(), self.clock.wall()
        for node in self.root.children.values():
            if node is target:
                break
            if node.status == "running":
                self._close(node, "completed", now, wall)
            elif node.status == "pending":
                node.finish("skipped", now, wall)
        if target is None:
            target = self._made(self.root, name, weight=1.0)
        self._dress(target, given)
        if target.status != "running":
            target.begin(given.total, now, wall)
        elif not isinstance(given.total, Unset):
            target.update(total=given.total)
        self._moved = True
        self.publish()
        self.request_persist()
        return target

    def leave(self, node: PhaseNode, status: PhaseStatus, error: BaseException | None = None) -> None:
        """Ends a phase, and with it the phases that are open within; publishes that.

        One that was open when the session was said to have failed has failed with it, unless all of it was counted.
        One that is left by nothing but a result that could not be kept completes, unless some of it was not counted.
        On a phase that has ended already (by a hand-over, or with its session) it changes nothing.
        """
        if node.status != "running" or self.over:
            return
        self.mark_dirty()
        if status == "completed" and node.failing:
            self.drain(node)
            if not node.all_counted:
                status = "failed"
        elif status == "failed" and self.only_result_refused(error):
            self.drain(node)
            if node.total is None or node.all_counted:
                status = "completed"
            else:
                self.result_refused = None  # It has cut the work short: from here on it is an error like any other.
        self._close(node, status, self.clock.monotonic(), self.clock.wall())
        self._moved = True
        self.publish()
        self.request_persist()

    def only_result_refused(self, error: BaseException | None) -> bool:
        """Whether what came out of a block is the refusal of the result, and nothing else."""
        if isinstance(error, BaseExceptionGroup):
            return all(self.only_result_refused(inner) for inner in error.exceptions)
        return error is not None and error is self.result_refused

    @guarded
    def skip_phase(self, name: str, reason: str | None = None) -> None:
        """Marks a phase that will not be worked on; it counts as done.

        Raises:
            PhaseError: It is unknown, open or completed.
            SessionClosedError: The session has ended.
        """
        text = checks.message("reason", reason, self.limits)
        node = self.find(name)
        self.check_open(f"phase {name!r} cannot be skipped")
        if node.status == "skipped":
            return
        if node.status in ("running", "completed"):
            raise PhaseError(f"phase {name!r} is {node.status} and cannot be skipped")
        self.mark_dirty()
        node.message = text
        node.finish("skipped", self.clock.monotonic(), self.clock.wall())
        self._moved = True
        self.publish()
        self.request_persist()

    def end_phases(self, status: PhaseStatus) -> None:
        """Gives the open phases the session's end; what was never begun in a session that completed is skipped."""
        now, wall = self.clock.monotonic(), self.clock.wall()
        for node in self.root.children.values():
            if node.status == "running":
                self._close(node, status, now, wall)
            elif node.status == "pending" and status == "completed":
                node.finish("skipped", now, wall)
        if status == "completed":
            self.root.status, self.root.fraction = "completed", 1.0

    def _close(self, node: PhaseNode, status: PhaseStatus, now: float, wall: float) -> None:
        for child in node.children.values():
            if child.status == "running":
                self._close(child, status, now, wall)
            elif child.status == "pending" and status == "completed":
                child.finish("skipped", now, wall)
        self.drain(node)
        node.finish(status, now, wall)
        if status == "completed":
            self.timed(node)

    def _dress(self, node: PhaseNode, given: Given) -> None:
        if given.title is not None:
            node.title = given.title
        if given.unit is not None:
            node.unit = given.unit
        if given.weight is not None:
            node.weight = given.weight

    # The tree itself

    def add(self, parent: PhaseNode, name: str, **given: Any) -> PhaseNode:
        """Puts a pending phase into the tree, without publishing that."""
        node = PhaseNode(self, parent, name, **given)
        if not parent.children:
            parent.children = {}
        parent.children[name] = node
        self._nodes += 1
        return node

    def _made(self, parent: PhaseNode, name: str, *, weight: float) -> PhaseNode:
        if self._nodes >= self.limits.phases:
            self._fold_one()
        return self.add(parent, name, weight=weight)

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

    def settle_phases(self, seq: int, now: float) -> None:
        """Takes what has changed into the published state `seq`: counts, rates, fractions up to the root."""
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

    def settle_fractions(self) -> None:
        """Computes all fractions anew, for a tree that was put together without publishing."""
        now = self.clock.monotonic()
        for node in reversed(list(self.root.walk())):
            node.refresh(self.seq, now)

    def pending_snapshot(self, node: PhaseNode) -> PhaseSnapshot:
        """A declared phase that was never begun, as all sessions of the pipeline share it."""
        assert self.pipeline is not None
        known = self.pipeline.pending.get(node.name)
        if known is None:
            known = self.pipeline.pending[node.name] = node.fresh_snapshot()
        return known


def _depth(node: PhaseNode) -> int:
    return node.depth
