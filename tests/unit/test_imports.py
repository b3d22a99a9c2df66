"""Which module knows which: the arrows of the design, followed all the way."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import trio_progress

PACKAGE = Path(trio_progress.__file__).parent
OPTIONAL = (
    "redis",
    "rich",
    "trio_websocket",
    "wsproto",
    "h11",
    "jwt",
    "prometheus_client",
    "hypothesis",
    "pytest",
    "tqdm",
    "sqlite3",
)


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
    for node in imports(ast.parse(path.read_text(encoding="utf-8"))):
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
        elif not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)):
            yield from imports(node)


GRAPH = {module: sorted({known for known in known_by(module) if known}) for module in MODULES}


def reached(module: str) -> dict[str, str]:
    """All that `module` brings along, each with the way that leads there."""
    ways = {module: module}
    todo = [module]
    while todo:
        at = todo.pop()
        for known in GRAPH.get(at, ()):
            if known not in ways:
                ways[known] = f"{ways[at]} -> {known}"
                todo.append(known)
    return ways


def test_the_graph_is_the_packages() -> None:
    assert "state.checks" in GRAPH["state.session"]
    assert "session.lifecycle" in GRAPH["session.scope"]
    assert len(GRAPH) > 30


@pytest.mark.parametrize("module", sorted(name for name in MODULES if name.startswith("state")))
def test_the_state_is_pure(module: str) -> None:
    for known, way in reached(module).items():
        assert room(known) in ("state", "protocol", "errors"), way
    for node in imports(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
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
    for known in GRAPH[module]:
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
        for known in GRAPH[module]:
            assert module not in reached(known), f"{module} -> {reached(known)[module]}"


def test_importing_the_package_loads_nothing_that_is_optional() -> None:
    code = f"import sys, trio_progress; print([name for name in {OPTIONAL!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=PACKAGE.parent)
    assert done.stdout.strip() == "[]"


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


def run(code: str) -> str:
    """What a fresh interpreter prints for the code."""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=PACKAGE.parent)
    return done.stdout.strip()


def test_a_star_brings_every_public_name_and_nothing_else() -> None:
    code = "before = set(globals()); from trio_progress import *; print(*sorted(set(globals()) - before - {'before'}))"
    assert run(code).split() == sorted(name for name in LISTED if name and not name.startswith("_"))


def test_help_shows_the_public_names() -> None:
    shown = run("import pydoc, trio_progress; print(pydoc.plain(pydoc.render_doc(trio_progress)))")
    assert "class Session" in shown
    assert "open_tracker(" in shown
    assert "open_server(" in shown


@pytest.mark.parametrize("missing", ["h11", "trio_websocket"])
def test_a_star_and_help_do_without_the_extra_that_is_not_installed(missing: str) -> None:
    code = f"""
import sys
sys.modules[{missing!r}] = None  # as if it were not installed
import pydoc, trio_progress
from trio_progress import *
assert open_tracker and current_session and "open_server" not in dir(trio_progress)
pydoc.render_doc(trio_progress)
try:
    trio_progress.open_server
except ModuleNotFoundError as error:
    print(error)
"""
    assert "pip install 'trio-progress[server]'" in run(code)


def test_a_star_does_without_redis_py() -> None:
    code = "import sys; sys.modules['redis'] = None; from trio_progress import *; print(RedisStore.__name__)"
    assert run(code) == "RedisStore"


def test_importing_the_package_alone_loads_no_event_loop() -> None:
    code = "import sys, trio_progress; print([name for name in ('trio', 'msgspec', 'argparse') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=PACKAGE.parent)
    assert done.stdout.strip() == "[]"


def test_the_blocking_client_needs_no_event_loop(tmp_path: Path) -> None:
    code = """
import sys
from trio_progress.blocking import Client
with Client("sqlite:" + sys.argv[1]) as client:
    client.declare("r", title="x")
    client.cancel("r")
    assert client.sessions(status="cancelled")[0] == client.snapshot("r") == client.wait_ended("r")
    client.delete("r")
print([name for name in ("trio", "rich", "asyncio") if name in sys.modules])
"""
    command = [sys.executable, "-c", code, str(tmp_path / "p.db")]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=PACKAGE.parent)
    assert done.stdout.strip() == "[]"


def test_sessions_are_guarded_from_a_ctrl_c_by_whichever_module_they_are_come_by() -> None:
    # The name is Trio's private one; there is no other way to ask without sending signals.
    code = """
import inspect
from trio._core._ki import _CODE_KI_PROTECTION_STATUS_WMAP as marked
from trio_progress.tracker import open_tracker
from trio_progress.state.session import SessionState
print(marked[inspect.unwrap(SessionState.publish).__code__])
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=PACKAGE.parent)
    assert done.stdout.strip() == "True"


def test_every_public_name_has_a_docstring_and_a_module_of_its_own() -> None:
    assert {"Session", "open_tracker", "open_display"} <= set(dir(trio_progress))
    for name in dir(trio_progress):
        member = getattr(trio_progress, name)
        if name.startswith("_") or not (isinstance(member, type) or callable(member)):
            continue
        assert member.__doc__, name
        assert member.__module__.startswith("trio_progress."), name


@pytest.mark.parametrize(
    ("use", "says"),
    [
        ("trio_progress.open_server", "the server needs h11: pip install 'trio-progress[server]'"),
        ("trio_progress.issue_token", "the server needs h11: pip install 'trio-progress[server]'"),
        (
            "trio_progress.testing.memory_client",
            "memory_client needs trio_websocket: pip install 'trio-progress[server]'",
        ),
        ("trio.run(connected)", "connect() needs trio_websocket: pip install 'trio-progress[server]'"),
        (
            "trio_progress.metrics.exposition",
            "exposition needs prometheus_client: pip install 'trio-progress[metrics]'",
        ),
        ("Client('redis://127.0.0.1')", "a Redis store needs redis-py: pip install 'trio-progress[redis]'"),
        ("main(['serve'])", "trio-progress: the server needs h11: pip install 'trio-progress[server]'"),
        (
            "main(['demo', '--serve', '--store', 'memory:'])",
            "trio-progress: the server needs h11: pip install 'trio-progress[server]'",
        ),
        ("main(['ls', '--store', 'redis://a'])", "a Redis store needs redis-py: pip install 'trio-progress[redis]'"),
    ],
)
def test_what_needs_an_extra_that_is_not_installed_names_the_command_that_installs_it(use: str, says: str) -> None:
    code = f"""
import sys
for name in {OPTIONAL!r}:
    if name != "sqlite3":
        sys.modules[name] = None  # as if it were not installed
import trio, trio_progress, trio_progress.testing, trio_progress.metrics
from trio_progress.blocking import Client
from trio_progress.cli import main
async def connected():
    async with trio_progress.connect("ws://127.0.0.1:1", "r"):
        pass
{use}
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=PACKAGE.parent)
    assert done.stderr.strip().splitlines()[-1].endswith(says)
    assert "main" not in use or len(done.stderr.splitlines()) == 1
