"""What one run has done: who ran when, what else happened, what was noted."""

from __future__ import annotations

import hashlib
from array import array
from typing import TYPE_CHECKING, final

from .schedule import Block, merged

if TYPE_CHECKING:
    from .schedule import Entry


@final
class Record:
    """Written while a schedule is run. Tasks stand in it by number: the order in which they came."""

    def __init__(self) -> None:
        self.names: list[str] = []
        """The name of each task, by number."""
        self.order = array("I")
        """The scenario's tasks in the order in which they were run."""
        self.marks: list[tuple[int, Entry]] = []
        """What else happened, and after how many steps."""
        self.notes: list[tuple[int, str]] = []
        """Texts of `note()`, each after how many steps."""
        self.noted: list[float] = []
        """When that was, in virtual time."""
        self.events: list[object] = []
        """Who was woken, by number, what was noted, and what has changed of what is shared, in their order."""

    @property
    def labels(self) -> list[str]:
        """The tasks' names as people are shown them, by number; unique."""
        return short_names(self.names)

    def timed_notes(self) -> list[tuple[float, str]]:
        """What was noted, and when."""
        return [(at, text) for at, (_, text) in zip(self.noted, self.notes, strict=True)]

    def entries(self) -> tuple[Entry, ...]:
        """What has happened, as the entries of a schedule."""
        entries: list[Entry] = []
        marks = [*reversed(self.marks)]
        for step, number in enumerate(self.order):
            while marks and marks[-1][0] <= step:
                entries.append(marks.pop()[1])
            entries.append(Block(self.names[number], 1))
        return merged([*entries, *(mark for _, mark in reversed(marks))])

    def digest(self) -> str:
        """The history in 16 characters: which task ran when, and what was noted. The same in every process."""
        return _digest(self.order.tobytes(), repr((self.names, self.notes)).encode())

    def events_digest(self) -> str:
        """The order of the events in 16 characters."""
        return _digest(repr((self.names, self.events)).encode())


def short_names(names: list[str]) -> list[str]:
    """The names without what all of them share: no parents and no number where the rest is unique."""
    parts = [name.rpartition("/")[2].partition("#") for name in names]
    plain = [part[0] for part in parts]
    numbered = [f"{part[0]} {part[2] or 1}" for part in parts]
    shown = []
    for name, short, long in zip(names, plain, numbered, strict=True):
        if plain.count(short) == 1:
            shown.append(short)
        elif numbered.count(long) == 1:
            shown.append(long)
        else:
            shown.append(name.replace("#", " "))
    return shown


def _digest(*parts: bytes) -> str:
    summed = hashlib.blake2b(digest_size=8)
    for part in parts:
        summed.update(part)
    return summed.hexdigest()
