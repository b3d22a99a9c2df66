"""Tests know of the package what it shows: what is private can change, and no test has to."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.source import tree

TESTS = Path(__file__).resolve().parents[2]

PRIVATE = re.compile(r"_(?!replace$)[a-z]\w*")
"""Named tuples have `_replace` for everybody."""

EXCEPTIONS = {
    "fault_proxy.py: proxy._listen": "its own",
    "integration/test_blocking_owners.py: client._backend": "something has to come between a read and the write",
    "integration/test_client.py: connection._reader_running": "of trio-websocket: a peer that does not answer pings",
    "integration/test_client.py: connection._stream": "of trio-websocket: a connection that breaks",
    "integration/test_fuzz.py: _fuzzing._look": "of the benchmarks",
    "integration/test_fuzz.py: fuzz._fuzzed": "of the benchmarks",
    "support.py: store._logs": "what comes over a store from outside, as a FLUSHALL",
    "unit/house/test_docs.py: command._actions": "of argparse: which options there are",
    "unit/house/test_docs.py: parser()._actions": "of argparse: which commands there are",
    "unit/server/test_waiters.py: StoreWatcher._take_in": "how often it is called is what must not grow",
    "unit/stores/test_sqlite_faults.py: store.sqlite._connections": "an open connection to a disk that is full",
    "unit/terminal/test_display.py: lines._last": "how much is remembered shows nowhere else",
}
"""Where a test needs one all the same, each with the reason."""


def private_names(path: Path) -> Iterator[str]:
    """Each attribute that is private to another object than the one whose class is being written."""
    nodes = [*ast.walk(tree(path))]
    modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    theirs = {"self", "cls", *(name for name in modules if not name.startswith("trio_progress"))}
    for node in nodes:
        if not isinstance(node, ast.Attribute) or not PRIVATE.fullmatch(node.attr):
            continue
        if not isinstance(node.value, ast.Name) or node.value.id not in theirs:
            yield ast.unparse(node)


@pytest.mark.exhaustive
def test_no_test_knows_a_private_name_of_the_package() -> None:
    found = {
        f"{path.relative_to(TESTS).as_posix()}: {name}" for path in TESTS.rglob("*.py") for name in private_names(path)
    }
    assert found - set(EXCEPTIONS) == set(), "ask a debug view: trio_progress.tracker.runtime_of, tests.support.core_of"
    assert set(EXCEPTIONS) - found == set(), "take it off the list"
