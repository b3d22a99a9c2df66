"""A record in parts, so that what has not changed need not be sent again; a pure value.

A part is a text under a name: the head (`.`), each phase under numbers that lead to it (`0`, `3.12`), and each large
value (`=result`, `=saved`, `3.12=fields.log`). Where one was cut out of a text, that has the name of it between two
NULs, which no JSON contains; `*` there stands for the phases below, by their numbers. So the parts alone are the whole
record, byte by byte, and what of them is new is found by comparing texts.

A phase keeps its number as long as it keeps its place among the others. One that comes at the end is given the next
number, one that has moved a new one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from ...errors import CorruptEntryError
from ..decoding import LARGEST_RECORD

LARGE: Final = 256
"""Bytes of a value that is a part of its own; below that its name would cost about as much."""

HEAD: Final = b"."

DEEPEST: Final = 100
"""Levels of phases in parts that are read; `Limits` let in fewer."""

Texts = Mapping[bytes, bytes]
"""The text of each part, by its name."""


class _Phase(msgspec.Struct):
    name: str
    fields: msgspec.Raw = msgspec.Raw(b"{}")
    phases: list[msgspec.Raw] = []


class _State(msgspec.Struct):
    fields: msgspec.Raw = msgspec.Raw(b"{}")
    result: msgspec.Raw = msgspec.Raw(b"null")
    phases: list[msgspec.Raw] = []


class _Record(msgspec.Struct):
    state: _State
    saved: msgspec.Raw = msgspec.Raw(b"null")
    spent: msgspec.Raw = msgspec.Raw(b"{}")


_RECORD: Final = msgspec.json.Decoder(_Record)
_PHASE: Final = msgspec.json.Decoder(_Phase)
_VALUES: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True, slots=True)
class _Child:
    """A phase as it was split."""

    number: int
    texts: Texts
    """Its part, and those of its large fields."""
    below: _Level


@dataclass(frozen=True, slots=True)
class _Level:
    """The phases below one part, in their order."""

    wholes: Sequence[bytes] = ()
    """The text of each with all that is below it."""
    children: Mapping[str, _Child] = field(default_factory=dict)
    texts: Texts = field(default_factory=dict)
    """All parts below."""
    next: int = 0
    """The number of the next one that comes."""


_NOTHING: Final = _Level()


@dataclass(frozen=True, slots=True)
class Parts:
    """A record that was split."""

    texts: Texts
    below: _Level

    def changed_from(self, before: Texts) -> dict[bytes, bytes]:
        """The parts that are new or other than before; those that are no longer there as an empty text."""
        known = before.get
        changed = {name: text for name, text in self.texts.items() if known(name) != text}
        changed.update((name, b"") for name in before if name not in self.texts)
        return changed


def split(record: bytes, before: Parts | None = None) -> Parts | None:
    """A record in parts; None where it is none, or is not written as an encoder does.

    Args:
        record: Its JSON.
        before: The parts of an earlier one of the same session, whose numbers stay.
    """
    texts: dict[bytes, bytes] = {}
    try:
        read = _RECORD.decode(record)
        text = record
        for name, value in (("saved", read.saved), ("spent", read.spent), ("result", read.state.result)):
            text = _without(text, name, value, b"=", texts)
        text = _without_fields(text, read.state.fields, b"", texts)
        text, below = _without_phases(text, read.state.phases, b"", _NOTHING if before is None else before.below)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError):
        return None
    return Parts({HEAD: text, **texts, **below.texts}, below)


def _without(text: bytes, name: str, value: msgspec.Raw, of: bytes, into: dict[bytes, bytes]) -> bytes:
    """The text in which a value, if it is large, is a part of its own."""
    given = bytes(value)
    key = msgspec.json.encode(name)
    # Wherever else the same value stands under the same key: what is put together again is the same.
    before, found, behind = text.rpartition(b"%b:%b" % (key, given)) if len(given) > LARGE else (text, b"", b"")
    if not found:
        return text
    part = of + key[1:-1]
    into[part] = given
    return b"%b%b:\0%b\0%b" % (before, key, part, behind)


def _without_fields(text: bytes, values: msgspec.Raw, of: bytes, into: dict[bytes, bytes]) -> bytes:
    """The text in which large fields, of a phase or of the session, are parts of their own."""
    if len(bytes(values)) > LARGE:
        for name, value in _VALUES.decode(values).items():
            text = _without(text, name, value, of + b"=fields.", into)
    return text


def _without_phases(text: bytes, phases: list[msgspec.Raw], of: bytes, known: _Level) -> tuple[bytes, _Level]:
    """The text in which the phases below are parts of their own."""
    if not phases:
        return text, _Level(next=known.next)
    wholes = [bytes(each) for each in phases]
    begin = text.find(b'"phases":[' + wholes[0]) + len(b'"phases":[')
    all_of_them = b",".join(wholes)
    end = begin + len(all_of_them)
    if not text.startswith(all_of_them, begin) or text[end : end + 1] != b"]" or of.count(b".") >= DEEPEST:
        raise ValueError("its phases are not written as they are by an encoder")
    return b"%b\0*\0%b" % (text[:begin], text[end:]), _updated(wholes, of, known) or _level(wholes, of, known)


def _updated(wholes: list[bytes], of: bytes, known: _Level) -> _Level | None:
    """The level where it has the same phases as before, as it nearly always has, and few of them have changed."""
    if len(wholes) != len(known.wholes):
        return None
    changed = [place for place, whole in enumerate(wholes) if whole != known.wholes[place]]
    stood = list(known.children.items())
    if any(_PHASE.decode(wholes[place]).name != stood[place][0] for place in changed):
        return None
    children, texts = dict(known.children), dict(known.texts)
    for place in changed:
        name, before = stood[place]
        for part in (*before.texts, *before.below.texts):
            del texts[part]
        children[name] = child = _child(wholes[place], of, before.number, before.below)
        texts.update(child.texts)
        texts.update(child.below.texts)
    return _Level(wholes, children, texts, known.next)


def _level(wholes: list[bytes], of: bytes, known: _Level) -> _Level:
    """The level where phases have come, gone or moved."""
    children: dict[str, _Child] = {}
    texts: dict[bytes, bytes] = {}
    last, following = -1, known.next
    for whole in wholes:
        name = _PHASE.decode(whole).name
        if name in children:
            raise ValueError(f"two of its phases are called {name!r}")
        before = known.children.get(name)
        if before is not None and before.number > last:
            last, below = before.number, before.below
        else:
            last, below = following, _NOTHING
            following += 1
        children[name] = child = _child(whole, of, last, below)
        texts.update(child.texts)
        texts.update(child.below.texts)
    return _Level(wholes, children, texts, following)


def _child(whole: bytes, of: bytes, number: int, known: _Level) -> _Child:
    read = _PHASE.decode(whole)
    name = b"%b.%d" % (of, number) if of else b"%d" % number
    texts: dict[bytes, bytes] = {}
    text, below = _without_phases(whole, read.phases, name, known)
    texts[name] = _without_fields(text, read.fields, name, texts)
    return _Child(number, texts, below)


def joined(texts: Texts) -> bytes:
    """The record that was split.

    Raises:
        CorruptEntryError: They are not the parts of one record.
    """
    left = dict(texts)
    if sum(map(len, left.values())) > LARGEST_RECORD:
        raise CorruptEntryError("its parts are longer than any record that is written")
    below: dict[bytes, list[tuple[int, bytes]]] = {b"": []}
    for name in left:
        above, _, number = (b"", b"", name) if name.isdigit() else name.rpartition(b".")
        if number.isdigit() and len(number) <= 16 and above.count(b".") < DEEPEST and b"=" not in above:
            below.setdefault(above, []).append((int(number), name))
    record = _filled(left, below, HEAD, b"")
    if left:
        raise CorruptEntryError(f"it has parts that belong nowhere, {min(left)!r:.100}")
    return record


def _filled(left: dict[bytes, bytes], below: dict[bytes, list[tuple[int, bytes]]], part: bytes, of: bytes) -> bytes:
    """The text of a part, with what was cut out of it; each part is used once."""
    text = left.pop(part, None)
    if text is None:
        raise CorruptEntryError(f"its part {part!r:.100} is missing")
    if b"\0" not in text:
        return text
    pieces = text.split(b"\0")
    if len(pieces) % 2 == 0:
        raise CorruptEntryError(f"its part {part!r:.100} ends within a name")
    for place in range(1, len(pieces), 2):
        name = pieces[place]
        if name == b"*":
            children = sorted(below.pop(of, ()))
            pieces[place] = b",".join([_filled(left, below, child, child) for _, child in children])
        else:
            value = left.pop(name, None)
            if value is None:
                raise CorruptEntryError(f"its part {name!r:.100} is missing")
            pieces[place] = value
    return b"".join(pieces)
