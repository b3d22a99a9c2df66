"""`assert_progress()`: what a session is expected to be, and a table of what it is instead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..protocol.snapshot import PhaseSnapshot, Snapshot
from ..session.session import Session

_MISSING = "(there is none)"


def assert_progress(session: Session | Snapshot, **expected: Any) -> None:
    """Asserts how a session stands; only what is given is looked at.

    `assert_progress(session, status="completed", phases={"search": (6, 6), "review": "skipped"})`

    Args:
        session: A session, or a snapshot of one.
        expected: Attributes of a `Snapshot`. `phases` maps names (a child's as "search/site-1") to a
            status, to `(done, total)`, or to a mapping of attributes of a `PhaseSnapshot`. `counters` and
            `fields` name the ones to look at. Floats may differ by a billionth.

    Raises:
        AssertionError: With a table of what differs.
        TypeError: `session` is not a session or a snapshot, or has no such attribute.
    """
    if isinstance(session, Session):
        session = session.snapshot()
    if not isinstance(session, Snapshot):
        raise TypeError(f"assert_progress needs a Session or a Snapshot, not {session!r:.200}")
    rows = [
        (name, repr(wanted), shown)
        for name, wanted, there in _compared(session, expected)
        if (shown := there if there is _MISSING else repr(there)) is _MISSING or not _equal(wanted, there)
    ]
    if rows:
        table = [("", "expected", "is"), *rows]
        widths = [min(max(len(row[column]) for row in table), 48) for column in (0, 1)]
        lines = [f"  {name:<{widths[0]}}  {wanted:<{widths[1]}}  {there}" for name, wanted, there in table]
        raise AssertionError("\n".join([f"session {session.id!r} is not as expected:", *lines]))


def _compared(session: Snapshot, expected: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name, wanted in expected.items():
        if name not in Snapshot.__struct_fields__:
            known = ", ".join(Snapshot.__struct_fields__)
            raise TypeError(f"a session has no {name!r}; there are {known}")
        there = getattr(session, name)
        if name == "phases":
            for path, phase in wanted.items():
                yield from _phase(session, path, phase)
        elif name in ("counters", "fields", "labels") and isinstance(wanted, Mapping):
            for key, value in wanted.items():
                yield f"{name}.{key}", value, there.get(key, _MISSING)
        else:
            yield name, wanted, there


def _phase(session: Snapshot, path: str, wanted: Any) -> Iterator[tuple[str, Any, Any]]:
    try:
        phase = session.phase(*path.split("/"))
    except KeyError:
        yield path, wanted, _MISSING
        return
    if isinstance(wanted, str):
        yield f"{path}.status", wanted, phase.status
    elif isinstance(wanted, tuple):
        yield path, wanted, (phase.done, phase.total)
    elif isinstance(wanted, Mapping):
        for name, value in wanted.items():
            if name not in PhaseSnapshot.__struct_fields__:
                raise TypeError(f"a phase has no {name!r}; there are {', '.join(PhaseSnapshot.__struct_fields__)}")
            yield f"{path}.{name}", value, getattr(phase, name)
    else:
        raise TypeError(f"phase {path!r}: expected a status, (done, total) or a mapping, not {wanted!r:.200}")


def _equal(wanted: Any, there: Any) -> bool:
    if isinstance(wanted, float) and isinstance(there, (int, float)):
        return abs(wanted - there) <= 1e-9 * max(1.0, abs(wanted))
    return bool(wanted == there)
