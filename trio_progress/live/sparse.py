"""What an update leaves out, for a subscriber who holds the state that it goes from.

1. Left out are large values, the result and fields, that are in that state as they are now. The update names them, and
   has null in their place.
2. Remembered of a feed are the states that were handed out, by their `seq`, and each large value of the newest of them
   with the first that had it: all between these have it too. So what is as it was at `since` is known, and none of
   those states is kept.
3. Where the state at `since` was not handed out here (the subscriber has resumed by a token of another process, or is
   far behind) nothing is known of it, and nothing is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias, final

import msgspec

from ..protocol.merge import FIELD, RESULT
from ..protocol.snapshot import ENCODER, Head

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..protocol.merge import Update
    from ..protocol.snapshot import PhaseSnapshot, PhaseValues, Snapshot

LARGE: Final = 256
"""Characters of a text, or bytes of other JSON, above which a value is left out; below, its name costs as much."""

STATES: Final = 1000
"""States that are remembered as handed out, the newest."""

PHASES: Final = 1000
"""Phases whose large values are remembered; those of others are sent each time."""

_Path: TypeAlias = tuple[str, ...]
_Values: TypeAlias = dict[str, tuple[Any, int]]
"""Large values, by the names that `kept` has for them, and the first state that had each."""

_NOTHING: Final[_Values] = {}


@final
class SparseUpdates:
    """The large values of one feed, as they were handed out."""

    __slots__ = ("_states", "_values")

    def __init__(self) -> None:
        self._states: dict[int, None] = {}
        self._values: dict[_Path, _Values] = {}

    def hand_out(self, state: Snapshot) -> None:
        """Somebody is given a whole state, the newest one."""
        if state.seq in self._states:
            return
        known, self._values = self._values, {}
        self._note((), state, state.seq, known)
        above: list[tuple[_Path, Sequence[PhaseSnapshot]]] = [((), state.phases)]
        while above:
            path, phases = above.pop()
            for phase in phases:
                self._note((*path, phase.name), phase, state.seq, known)
                above.append(((*path, phase.name), phase.phases))
        self._remember(state.seq)

    def without_known(self, update: Update) -> Update | None:
        """The update to the newest state, without what the state at its `from` has as it is now.

        None where that was not handed out here.
        """
        since, seq = update.from_, update.seq
        if since not in self._states:
            return None
        if update.folded:
            folded = set(update.folded)
            for path in [path for path in self._values if any(path[:n] in folded for n in range(1, len(path) + 1))]:
                del self._values[path]
        phases = []
        for phase in update.phases:
            self._note(phase.path, phase, seq, self._values)
            kept = self._kept(phase.path, since)
            phases.append(msgspec.structs.replace(phase, kept=kept, fields=_emptied(phase, kept)) if kept else phase)
        self._note((), update.head, seq, self._values)
        self._remember(seq)
        head, kept = update.head, self._kept((), since)
        if kept:
            result = None if RESULT in kept else head.result
            head = msgspec.structs.replace(head, result=result, fields=_emptied(head, kept))
        elif not any(phase.kept for phase in phases):
            return update
        return msgspec.structs.replace(update, head=head, phases=tuple(phases), kept=kept)

    def _note(self, path: _Path, values: Head | PhaseValues, seq: int, known: dict[_Path, _Values]) -> None:
        """What is large in the session (of no path) or in a phase, as it is at `seq`."""
        before = known.get(path) or _NOTHING
        named = [(FIELD + name, value) for name, value in values.fields.items()]
        if isinstance(values, Head):
            named.append((RESULT, values.result))
        now: _Values = {}
        for name, value in named:
            old, first = before.get(name, (None, seq))
            if old is value and old is not None:
                now[name] = value, first
            elif _is_large(value):
                now[name] = value, first if _is_same(old, value) else seq
        if now and (path in self._values or len(self._values) < PHASES):
            self._values[path] = now
        else:
            self._values.pop(path, None)

    def _kept(self, path: _Path, since: int) -> tuple[str, ...]:
        return tuple([name for name, (_, first) in self._values.get(path, _NOTHING).items() if first <= since])

    def _remember(self, seq: int) -> None:
        self._states[seq] = None
        if len(self._states) > STATES:
            del self._states[next(iter(self._states))]


def _emptied(values: Head | PhaseValues, kept: Sequence[str]) -> dict[str, Any]:
    return {name: None if FIELD + name in kept else value for name, value in values.fields.items()}


def _is_large(value: object) -> bool:
    if isinstance(value, str):
        return len(value) > LARGE
    return isinstance(value, (dict, list)) and len(ENCODER.encode(value)) > LARGE


def _is_same(one: object, other: object) -> bool:
    """Whether both are the same JSON; Python takes `true` for 1."""
    return one == other and (isinstance(one, str) or ENCODER.encode(one) == ENCODER.encode(other))
