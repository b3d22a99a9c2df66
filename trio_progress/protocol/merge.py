"""What a message makes of a state; `server/static/merge.js` is its twin, and both run over `tests/streams`.

1. A snapshot replaces whatever there was.
2. An update fits onto the state at exactly its `from`, in its epoch; onto any other, or onto none, it is refused.
3. What an update has left out (its `kept`) is taken from that state.
4. A bookmark moves the clocks, the liveness and the resume token of the state at exactly its `seq`.
5. All other messages leave the state as it is: the very same object.

The two messages that change a state stand here with it; `messages` has them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, overload

import msgspec

from ..errors import ProtocolError
from .snapshot import Head, Liveness, PhaseSnapshot, PhaseUpdate, PhaseValues, Snapshot, datetime

RESULT: Final = "result"
FIELD: Final = "fields."
"""What is left out of an update is called so: the result, or a field, by its name behind this."""


class Update(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="update"):
    """What changed between the states `from_` and `seq`; absolute values, what is absent is unchanged."""

    session: str
    from_: int = msgspec.field(name="from")
    seq: int
    resume: str
    head: Head
    phases: tuple[PhaseUpdate, ...]
    folded: tuple[tuple[str, ...], ...] = ()
    """The paths of phases that folded into their parents: take them out of the tree."""
    kept: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    """What is null in `head` because the state before has it as it is now: "result", "fields.NAME". Only a subscriber
    who has asked for it is sent such an update; if there is none of it, nothing is left out of the phases either."""

    def apply(self, snapshot: Snapshot) -> Snapshot:
        """The state after this update, from the one before it.

        Raises:
            ProtocolError: `snapshot` is not the state that this update starts from.
        """
        return merge(snapshot, self)


class Bookmark(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="bookmark"):
    """A heartbeat: nothing newer than `seq` has been published, and how alive the session is."""

    session: str
    seq: int
    resume: str
    liveness: Liveness
    heartbeat_at: datetime | None
    progressed_at: datetime | None
    server_time: datetime


@overload
def merge(state: Snapshot, message: msgspec.Struct) -> Snapshot: ...
@overload
def merge(state: None, message: msgspec.Struct) -> Snapshot | None: ...
def merge(state: Snapshot | None, message: msgspec.Struct) -> Snapshot | None:
    """The state after `message`, from the one before it; None as long as there was no snapshot.

    Raises:
        ProtocolError: An update does not start from `state`.
    """
    if isinstance(message, Update):
        return _updated(state, message)
    if isinstance(message, Snapshot):
        return message
    if isinstance(message, Bookmark) and state is not None:
        return _bookmarked(state, message)
    return state


def filled(state: Snapshot | None, update: Update) -> Update:
    """The update with what it has left out, as the state has it that it goes from.

    Raises:
        ProtocolError: `state` is not that state.
    """
    if update.kept is msgspec.UNSET:
        return update
    state = _fitting(state, update)
    phases = []
    for phase in update.phases:
        if phase.kept:
            try:
                known = state.phase(*phase.path)
            except KeyError:
                raise _unknown(phase.kept) from None
            phase = msgspec.structs.replace(phase, kept=(), fields=_filled_fields(phase, known, phase.kept))  # noqa: PLW2901
        phases.append(phase)
    head = msgspec.structs.replace(update.head, fields=_filled_fields(update.head, state, update.kept))
    if RESULT in update.kept:
        head = msgspec.structs.replace(head, result=state.result)
    return msgspec.structs.replace(update, head=head, phases=tuple(phases), kept=msgspec.UNSET)


def _filled_fields(values: Head | PhaseValues, known: Head | PhaseValues, kept: Sequence[str]) -> dict[str, Any]:
    fields = dict(values.fields)
    for name in kept:
        field = name.removeprefix(FIELD)
        if field != name and field in known.fields:
            fields[field] = known.fields[field]
        elif name != RESULT or not isinstance(known, Head):
            raise _unknown(kept)
    return fields


def _unknown(kept: Sequence[str]) -> ProtocolError:
    return ProtocolError(f"an update keeps {kept!r:.200}, which is not in the state before: ask for a new snapshot")


def _fitting(state: Snapshot | None, update: Update) -> Snapshot:
    if state is None or (state.epoch, state.seq) != (update.head.epoch, update.from_):
        onto = "nothing" if state is None else f"seq {state.seq} of epoch {state.epoch}"
        raise ProtocolError(
            f"this update goes from seq {update.from_} of epoch {update.head.epoch} and does not fit onto {onto}: "
            "ask for a new snapshot"
        )
    return state


def _updated(state: Snapshot | None, update: Update) -> Snapshot:
    state = _fitting(state, update)
    update = filled(state, update)
    tree = _Tree(None, state.phases)
    for path in update.folded:
        tree.remove(path)
    for phase in update.phases:
        tree.put(phase)
    return Snapshot(**msgspec.structs.asdict(update.head), phases=tree.freeze(), resume=update.resume)


def _bookmarked(state: Snapshot, bookmark: Bookmark) -> Snapshot:
    if state.seq != bookmark.seq:
        return state
    return msgspec.structs.replace(
        state,
        liveness=bookmark.liveness,
        heartbeat_at=bookmark.heartbeat_at,
        progressed_at=bookmark.progressed_at,
        resume=bookmark.resume,
    )


class _Tree:
    """A phase tree that an update can be put into; keeps the order in which phases came.

    What the update says nothing of is handed on as it is, unlooked at: a tree of a thousand phases of which three move
    costs the three, and a look at the names beside them.
    """

    __slots__ = ("_children", "_values")

    def __init__(self, values: PhaseValues | None, phases: tuple[PhaseSnapshot, ...]) -> None:
        self._values = values
        self._children: dict[str, PhaseSnapshot | _Tree] = {phase.name: phase for phase in phases}

    def _below(self, name: str) -> _Tree | None:
        child = self._children.get(name)
        if isinstance(child, PhaseSnapshot):
            child = self._children[name] = _Tree(child, child.phases)
        return child

    def remove(self, path: tuple[str, ...]) -> None:
        parent = self
        for name in path[:-1]:
            below = parent._below(name)
            if below is None:
                return  # It came and went under a parent that came, itself, after the state that this goes onto.
            parent = below
        parent._children.pop(path[-1], None)

    def put(self, phase: PhaseUpdate) -> None:
        parent = self
        for name in phase.path[:-1]:
            below = parent._below(name)
            if below is None:
                raise ProtocolError(f"an update speaks of the unknown phase {'/'.join(phase.path[:-1])!r}")
            parent = below
        known = parent._below(phase.name)
        if known is None:
            parent._children[phase.name] = _Tree(phase, ())
        else:
            known._values = phase

    def freeze(self) -> tuple[PhaseSnapshot, ...]:
        return tuple(
            [child if isinstance(child, PhaseSnapshot) else child._frozen() for child in self._children.values()]
        )

    def _frozen(self) -> PhaseSnapshot:
        values = self._values
        assert values is not None
        given = {name: getattr(values, name) for name in PhaseValues.__struct_fields__}
        return PhaseSnapshot(**given, phases=self.freeze())
