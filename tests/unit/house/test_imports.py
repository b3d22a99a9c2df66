"""Which module knows which: the arrows of the design, followed all the way."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import trio_progress
from tests.source import tree

PACKAGE = Path(trio_progress.__file__).parent


def modules() -> dict[str, Path]:
    """All modules of the package by their dotted name within it."""
    found: dict[str, Path] = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def known_by(module: str) -> Iterator[str]:
    """The modules of this package that `module` imports, also in its functions; not those for type checkers only."""
    path = MODULES[module]
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in imports(tree(path)):
        if isinstance(node, ast.Import):
            wanted = [alias.name.removeprefix("trio_progress.") for alias in node.names]
            yield from (name for name in wanted if name in MODULES and name)
            continue
        if node.level == 0 and (node.module or "").partition(".")[0] != "trio_progress":
            continue
        above = package[: len(package) - node.level + 1] if node.level else []
        base = [*above, *(node.module or "").removeprefix("trio_progress").strip(".").split(".")]
        within = ".".join(part for part in base if part)
        for alias in node.names:
            # `from . import checks` asks a package for one of its modules.
            child = f"{within}.{alias.name}".strip(".")
            yield child if child in MODULES else within


def imports(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif isinstance(node, (ast.stmt, ast.excepthandler, ast.match_case)) and not (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        ):
            yield from imports(node)


@cache
def graph() -> dict[str, list[str]]:
    """What each module knows; made when it is asked for, as each worker that runs tests imports this file."""
    return {module: sorted({known for known in known_by(module) if known}) for module in MODULES}


def reached(module: str) -> dict[str, str]:
    """All that `module` brings along, each with the way that leads there."""
    ways = {module: module}
    todo = [module]
    while todo:
        at = todo.pop()
        for known in graph().get(at, ()):
            if known not in ways:
                ways[known] = f"{ways[at]} -> {known}"
                todo.append(known)
    return ways


def test_the_graph_is_the_packages() -> None:
    assert "state.checks" in graph()["state.session"]
    assert "session.lifecycle" in graph()["session.scope"]
    assert len(graph()) > 30


@pytest.mark.parametrize("module", sorted(name for name in MODULES if name.startswith("state")))
def test_the_state_is_pure(module: str) -> None:
    for known, way in reached(module).items():
        assert room(known) in ("state", "protocol", "errors"), way
    for node in imports(tree(MODULES[module])):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        for name in names:
            # No event loop, no thread, no clock of its own beside the injected one, no file, no log.
            banned = {"trio", "asyncio", "threading", "logging", "os", "pathlib", "socket", "random", "time"}
            assert name.partition(".")[0] not in banned


def room(module: str) -> str:
    """The folder that a module is in, or its own name where it stands at the root."""
    return module.partition(".")[0]


def table() -> dict[str, set[str]]:
    """Which room may know which, as the page for maintainers has it."""
    rows = [line.split("|") for line in HOUSE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    return {row[1].strip(" `/"): {name.strip() for name in row[3].split(",")} for row in rows}


HOUSE = PACKAGE.parent / "docs" / "house.md"
ROOMS = table()
FRONT_DESK = 12
"""Files at the root of the package, at most."""


def test_each_folder_is_a_room_of_the_table_and_the_root_is_the_front_desk_only() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    assert folders == {name for name in ROOMS if (PACKAGE / name).is_dir()}
    files = [path for path in PACKAGE.iterdir() if path.is_file()]
    assert len(files) <= FRONT_DESK, sorted(path.name for path in files)


@pytest.mark.parametrize("module", sorted(module for module in MODULES if room(module) in ROOMS))
def test_a_room_knows_no_other_rooms_than_the_table_says(module: str) -> None:
    allowed = {*ROOMS[room(module)], room(module), "_version"}
    for known in graph()[module]:
        assert room(known) in allowed, f"{module} -> {known}"


def test_the_page_for_maintainers_names_files_that_exist() -> None:
    page = HOUSE.read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w./-]+\.(?:py|js|md))`", page))
    assert len(named) > 20
    roots = (PACKAGE, PACKAGE.parent)
    assert [name for name in sorted(named) if not any((root / name).is_file() for root in roots)] == []


def test_no_room_leads_back_to_itself() -> None:
    def beyond(name: str, seen: tuple[str, ...] = ()) -> None:
        assert name not in seen, " -> ".join((*seen, name))
        for known in sorted(ROOMS.get(name, ())):
            beyond(known, (*seen, name))

    for name in ROOMS:
        beyond(name)


def test_no_module_leads_back_to_itself() -> None:
    for module in MODULES:
        for known in graph()[module]:
            assert module not in reached(known), f"{module} -> {reached(known)[module]}"


STUB = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))
LISTED = {alias.asname: node.module for node in STUB.body if isinstance(node, ast.ImportFrom) for alias in node.names}


def test_what_is_loaded_by_name_is_what_type_checkers_are_told() -> None:
    assert len(LISTED) > 50
    for node in STUB.body[1:]:
        # One name a line, given on as itself: the form that `__init__.py` reads.
        assert isinstance(node, ast.ImportFrom), ast.unparse(node)
        assert node.level == 1
        assert [alias.name for alias in node.names] == [alias.asname for alias in node.names]
        assert len(node.names) == 1
    for name, module in LISTED.items():
        assert name is not None
        assert getattr(trio_progress, name) is getattr(importlib.import_module(f"trio_progress.{module}"), name)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = trio_progress.nonsense  # type: ignore[attr-defined]


def test_every_public_name_has_a_docstring_and_a_module_of_its_own() -> None:
    assert {"Session", "open_tracker", "open_display"} <= set(dir(trio_progress))
    for name in dir(trio_progress):
        member = getattr(trio_progress, name)
        if name.startswith("_") or not (isinstance(member, type) or callable(member)):
            continue
        assert member.__doc__, name
        assert member.__module__.startswith("trio_progress."), name
