"""How the phases of a session begin and end, where that concerns more than the phase itself.

1. Each transition is published at once, as one state: a hand-over completes, skips and begins together.
2. What ends takes along what is open within it.
3. A transition that is refused has changed nothing. What refuses it is said at `Session` and `Phase`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import PhaseError
from ..protocol.clock import shown_seconds
from ..protocol.snapshot import Followed
from . import checks
from .fraction import refresh
from .guard import UNSET, Unset, guarded
from .mirror import Mirror, counts_of, message_of, mirror_of
from .phase import ABSORBING, PhaseNode
from .tree import PhaseTree

if TYPE_CHECKING:
    from ..protocol.snapshot import PhaseStatus, Snapshot


class Given(NamedTuple):
    """What a phase is entered with, checked."""

    again: bool

    total: float | Unset | None
    weight: float | None
    title: str | None
    unit: str | None


class PhaseTransitions(PhaseTree):
    """The tree with its transitions."""

    __slots__ = ("result_refused",)

    result_refused: Exception | None
    """Why the newest result that was given could not be kept; None where there was none, or it was."""

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
        """The values that a phase is to be entered with; raises where it could not be entered under that name."""
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
                raise PhaseError(f"{self.unknown(name)}; declare it, or make it a child by `phase.phase({name!r})`")
            if weight is not None:
                raise PhaseError(f"the weight of phase {name!r} is declared by pipeline {self.pipeline.name!r}")
        elif parent.depth + 1 > self.limits.depth:
            raise PhaseError(f"phases nest at most {self.limits.depth} deep (limit 'depth'), {name!r} would be deeper")
        return given

    # Transitions

    def enter(self, parent: PhaseNode, name: str, **values: Any) -> PhaseNode:
        """Begins a phase, with the values that `check_phase` takes, and publishes that."""
        given = self.check_phase(parent, name, **values)
        self.check_open(f"phase {name!r} cannot be entered")
        if parent is not self.root and parent.status != "running":
            raise PhaseError(f"phase {name!r} cannot be entered within {parent.label!r}, which is {parent.status}")
        node = self.get(name) if parent is self.root else parent.children.get(name)
        if node is not None and node.status == "running":
            raise PhaseError(
                f"phase {node.label!r} is open already: use `session.{_reached(node)}` to count on it, "
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
                f"or pass it over where `session.{_reached(node)}.status` says so"
            )
        self.mark_dirty()
        if node is None:
            # Without a weight of its own it is a part of what its parent counts, if that is known.
            part = parent is not self.root and parent.total is not None
            node = self.add_bounded(parent, name, weight=0.0 if part else 1.0)
        self._dress(node, given)
        node.begin(given.total, self.clock.monotonic(), self.clock.wall())
        self._moved = True
        self.publish()
        return node

    def hand_over(self, name: str, **values: Any) -> PhaseNode:
        """Completes what runs before `name`, skips what lies between, and begins it, in one published state.

        For a phase that runs already it only sets what is given. For one that the hand-over has passed
        it changes nothing and is counted as late.
        """
        given = self.check_phase(self.root, name, **values)
        self.check_open(f"the hand-over to phase {name!r} cannot be made")
        target = self.get(name)
        if target is not None and target.status in ABSORBING:
            self.host.late("advance_to", name)
            return target
        self.mark_dirty()
        now, wall = self.clock.monotonic(), self.clock.wall()
        for node in self.root.children.values():
            if node is target:
                break
            if node.status == "running":
                self._close(node, "completed", now, wall)
            elif node.status == "pending":
                _finish(self.own(node), "skipped", now, wall)
        if target is None:
            target = self.add_bounded(self.root, name, weight=1.0)
        self._dress(target, given)
        if target.status != "running":
            target.begin(given.total, now, wall)
        elif not isinstance(given.total, Unset):
            target.update(total=given.total)
        self._moved = True
        self.publish()
        self.host.request_persist()
        return target

    def show_followed(self, node: PhaseNode, seen: Snapshot | None, title: str | None) -> None:
        """Shows the session that a phase follows as it was `seen`; None: it has been neither declared nor begun."""
        if node.status != "running" or self.over:
            return
        self.mark_dirty(node)
        before, now = node.mirror, self.clock.monotonic()
        if seen is None:
            node.mirror = mirror = Mirror(Followed(id=node.name), at=now)
        else:
            counts = counts_of(seen)
            node.done, node.total, node.unit = counts["done"], counts["total"], counts["unit"]
            if before is None or before.follows.status is None:
                node.skipped = node.done
            node.mirror = mirror = mirror_of(seen, now, before)
            if before is not None and mirror.progress > before.progress:
                self._moved = True
        node.title = title or (node.name if seen is None else seen.title)
        node.message = message_of(mirror, None if seen is None else seen.message)
        parent = node.parent
        while parent is not None and not parent.mirrored:
            parent.mirrored = True
            parent = parent.parent

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
            self.host.drain(node)
            if not node.all_counted:
                status = "failed"
        elif status == "failed" and self.only_result_refused(error):
            self.host.drain(node)
            if node.total is None or node.all_counted:
                status = "completed"
            else:
                self.result_refused = None  # It has cut the work short: from here on it is an error like any other.
        self._close(node, status, self.clock.monotonic(), self.clock.wall())
        self._moved = True
        self.publish()
        self.host.request_persist()

    def only_result_refused(self, error: BaseException | None) -> bool:
        """Whether what came out of a block is the refusal of the result, and nothing else."""
        if isinstance(error, BaseExceptionGroup):
            return all(self.only_result_refused(inner) for inner in error.exceptions)
        return error is not None and error is self.result_refused

    @guarded
    def skip_phase(self, name: str, reason: str | None = None) -> None:
        """Marks a phase that will not be worked on; it counts as done."""
        text = checks.message("reason", reason, self.limits)
        node = self.find(name)
        self.check_open(f"phase {name!r} cannot be skipped")
        if node.status == "skipped":
            return
        if node.status in ("running", "completed"):
            raise PhaseError(f"phase {name!r} is {node.status} and cannot be skipped")
        self.mark_dirty()
        node.message = text
        _finish(node, "skipped", self.clock.monotonic(), self.clock.wall())
        self._moved = True
        self.publish()
        self.host.request_persist()

    def end_phases(self, status: PhaseStatus) -> None:
        """Gives the open phases the session's end; what was never begun in a session that completed is skipped."""
        now, wall = self.clock.monotonic(), self.clock.wall()
        for node in self.root.children.values():
            if node.status == "running":
                self._close(node, status, now, wall)
            elif node.status == "pending" and status == "completed" and not node.shared:
                _finish(node, "skipped", now, wall)
        if status == "completed":
            self.skip_untouched(wall)
            self.root.status, self.root.fraction = "completed", 1.0

    def _close(self, node: PhaseNode, status: PhaseStatus, now: float, wall: float) -> None:
        for child in node.children.values():
            if child.status == "running":
                self._close(child, status, now, wall)
            elif child.status == "pending" and status == "completed":
                _finish(child, "skipped", now, wall)
        self.host.drain(node)
        _finish(node, status, now, wall)
        if status == "completed":
            self.host.timed(node)

    def _dress(self, node: PhaseNode, given: Given) -> None:
        if given.title is not None:
            node.title = given.title
        if given.unit is not None:
            node.unit = given.unit
        if given.weight is not None:
            node.weight = given.weight


def _reached(node: PhaseNode) -> str:
    """How the phase is got at from the session, as Python."""
    return ".".join(f"phases[{name!r}]" for name in node.path)


def _finish(node: PhaseNode, status: PhaseStatus, now: float, wall: float) -> None:
    """Goes to one of the ended statuses."""
    node.state.mark_dirty(node)
    refresh(node, node.v, now)  # As long as it runs: what was counted until now is in its rate.
    parent = node.parent
    if status == "completed" and not node.weight and not node.was_done and parent is not None:
        node.state.mark_dirty(parent)
        parent.units += 1
    node.status = status
    node.slow = True
    node.ended = wall
    if node.began is not None:
        node.spent += now - node.began
        node.elapsed = shown_seconds(now - node.began)
        node.began = None
    node.marked = True
