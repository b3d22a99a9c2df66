"""What a fresh interpreter loads, and what it says where an extra is not installed."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import trio_progress
from trio_progress import metrics

pytestmark = pytest.mark.integration

PACKAGE = Path(trio_progress.__file__).parent
OPTIONAL = (
    "opentelemetry",
    "hypercorn",
    "IPython",
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


def test_importing_the_package_loads_nothing_that_is_optional() -> None:
    code = f"import sys, trio_progress; print([name for name in {OPTIONAL!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=PACKAGE.parent)
    assert done.stdout.strip() == "[]"


STUB = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))
LISTED = {alias.asname for node in STUB.body if isinstance(node, ast.ImportFrom) for alias in node.names}


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


@pytest.mark.parametrize("missing", ["h11", pytest.param("trio_websocket", marks=pytest.mark.exhaustive)])
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


NEED_AN_EXTRA = {
    "trio_progress.open_server": "the server needs h11: pip install 'trio-progress[server]'",
    "trio_progress.issue_token": "the server needs h11: pip install 'trio-progress[server]'",
    "trio_progress.testing.memory_client": "memory_client needs trio_websocket: pip install 'trio-progress[server]'",
    "trio.run(connected)": "connect() needs trio_websocket: pip install 'trio-progress[server]'",
    "trio_progress.metrics.exposition": "exposition needs prometheus_client: pip install 'trio-progress[metrics]'",
    "importlib.import_module('trio_progress.tracing')": (
        "trio_progress.tracing needs opentelemetry: pip install 'trio-progress[otel]'"
    ),
    "importlib.import_module('trio_progress.asgi')": (
        "trio_progress.asgi needs h11: pip install 'trio-progress[server]'"
    ),
    "Client('redis://127.0.0.1')": "a Redis store needs redis-py: pip install 'trio-progress[redis]'",
    "main(['serve'])": "trio-progress: the server needs h11: pip install 'trio-progress[server]'",
    "main(['demo', '--serve', '--store', 'memory:'])": (
        "trio-progress: the server needs h11: pip install 'trio-progress[server]'"
    ),
    "main(['ls', '--store', 'redis://a'])": "a Redis store needs redis-py: pip install 'trio-progress[redis]'",
}


@pytest.fixture(scope="module")
def told() -> dict[str, str]:
    """What each of those says on standard error in a process that has none of the extras."""
    code = f"""
import sys
for name in {OPTIONAL!r}:
    if name != "sqlite3":
        sys.modules[name] = None  # as if it were not installed
import importlib, json, os
import trio, trio_progress, trio_progress.testing, trio_progress.metrics
from trio_progress.blocking import Client
from trio_progress.cli import main
async def connected():
    async with trio_progress.connect("ws://127.0.0.1:1", "r"):
        pass
told = {{}}
for use in {list(NEED_AN_EXTRA)!r}:
    said, saying = os.pipe()
    if not os.fork():  # What one use has loaded, the next has not.
        os.dup2(saying, 2)
        eval(use)
        os._exit(0)
    os.close(saying)
    with open(said) as said:
        told[use] = said.read()
print(json.dumps(told))
"""
    told: dict[str, str] = json.loads(run(code))
    return told


@pytest.mark.parametrize("use", NEED_AN_EXTRA)
def test_what_needs_an_extra_that_is_not_installed_names_the_command_that_installs_it(
    use: str, told: dict[str, str]
) -> None:
    assert told[use].strip().splitlines()[-1].endswith(NEED_AN_EXTRA[use])
    assert "main" not in use or len(told[use].splitlines()) == 1


def test_pain_31_also_where_it_is_imported_only_then() -> None:
    code = """
import datetime
class Frozen(datetime.datetime): pass
datetime.datetime = Frozen
from trio_progress import decode_message, encode_message
import trio_progress
from trio_progress.state.session import SessionState
from trio_progress.state.record import decode_record, encode_record
from trio_progress.protocol.clock import Clock
class Host:
    def mark_dirty(self): pass
state = SessionState("a", host=Host(), clock=Clock())
state.begin(1)
snapshot = state.snapshot()
assert decode_message(encode_message(snapshot)) == snapshot
assert decode_record("a", 1, 1, encode_record(state)).state.started_at == snapshot.started_at
print(type(snapshot.started_at).__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("datetime\n", "")


def test_a_command_loads_only_what_it_needs() -> None:
    loads = "import sys, trio_progress.cli; print([m for m in sys.modules if m == 'rich' or '.demo' in m])"
    told = subprocess.run([sys.executable, "-c", loads], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_no_command_loads_what_answers_shells() -> None:
    code = """
import sys
from trio_progress.cli import main
try:
    main(["--version"])
finally:
    assert "argcomplete" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("what", ["dashboard", "rules"])
def test_the_command_prints_what_is_provided_and_needs_no_extra(what: str) -> None:
    code = (
        "import sys, runpy; sys.modules['prometheus_client'] = None; sys.argv = ['metrics', sys.argv[1]];"
        "runpy.run_module('trio_progress.metrics', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code, what], check=True, capture_output=True, text=True)
    assert done.stdout == {"dashboard": metrics.dashboard(), "rules": metrics.rules()}[what]
    wrong = subprocess.run([sys.executable, "-c", code, "nothing"], check=False, capture_output=True, text=True)
    assert wrong.returncode == 2
    assert "dashboard" in wrong.stderr


def test_without_prometheus_client_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['prometheus_client'] = None; from trio_progress import metrics; metrics.register"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "pip install 'trio-progress[metrics]'" in done.stderr
    with pytest.raises(AttributeError):
        _ = metrics.nothing
