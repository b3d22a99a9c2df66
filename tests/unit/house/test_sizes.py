"""No module and no class is too large to be read in one sitting; what ruff bounds stands in pyproject.toml."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import trio_progress
from tests.source import statements, tree

PACKAGE = Path(trio_progress.__file__).parent
TESTS = Path(__file__).resolve().parents[2]

LINES = 400
"""Of a module, comments and all, at most."""

LINES_OF_TESTS = 500
"""Of a file in tests/, at most: what is longer is several scenarios, and becomes a folder of them."""

ATTRIBUTES = 20
"""Of an instance of a class, at most."""

LONGER = {
    "server/static/link.js": "being rebuilt",
}
"""Modules that may be longer, each with the reason."""

LARGER = {
    "session/lifecycle.py:SessionLifecycle": "being rebuilt",
    "session/persister.py:Persister": "being rebuilt",
    "state/phase.py:PhaseNode": "being rebuilt",
    "state/tree.py:PhaseTree": "being rebuilt",
}
"""Classes that may have more, each with the reason."""


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*")):
        if path.suffix in (".py", ".js"):
            yield path.relative_to(PACKAGE).as_posix(), path


def attributes(definition: ast.ClassDef) -> set[str]:
    """What an instance has by `__slots__`, by `__init__`, or as the fields of a dataclass or a struct."""
    found: set[str] = set()
    for node in definition.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__slots__":
            found |= {str(one.value) for one in ast.walk(node.value) if isinstance(one, ast.Constant)}
        elif isinstance(node, ast.FunctionDef) and node.name == "__init__":
            found |= {
                one.attr
                for one in ast.walk(node)
                if isinstance(one, ast.Attribute)
                and isinstance(one.ctx, ast.Store)
                and isinstance(one.value, ast.Name)
                and one.value.id == "self"
            }
    return found


def check(too_large: set[str], allowed: dict[str, str]) -> None:
    """Fails for what is too large and not listed, and for what is listed and has shrunk."""
    assert too_large <= set(allowed), "make it smaller"
    assert {name for name, why in allowed.items() if why != "being rebuilt"} <= too_large, "take it off the list"


def test_a_module_has_no_more_lines_than_can_be_read_at_once() -> None:
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in modules()}
    check({name for name, number in lines.items() if number > LINES}, LONGER)


def test_a_file_of_tests_has_no_more_lines_than_can_be_read_at_once() -> None:
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in TESTS.rglob("*.py")}
    assert {str(path.relative_to(TESTS)): number for path, number in lines.items() if number > LINES_OF_TESTS} == {}


def test_a_class_has_no_more_attributes_than_can_be_kept_in_mind() -> None:
    larger = {
        f"{name}:{node.name}"
        for name, path in modules()
        if path.suffix == ".py"
        for node in statements(tree(path))
        if isinstance(node, ast.ClassDef) and len(attributes(node)) > ATTRIBUTES
    }
    check(larger, LARGER)


@pytest.mark.parametrize(
    ("source", "has"),
    [
        ("class A:\n __slots__ = ('a', 'b')", {"a", "b"}),
        ("class A:\n def __init__(self):\n  self.a: int = 1\n  self.b, self.c = 2, other.d", {"a", "b", "c"}),
    ],
)
def test_attributes_are_counted_however_they_are_declared(source: str, has: set[str]) -> None:
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)
    assert attributes(definition) == has
