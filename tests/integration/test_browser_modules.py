"""What the page is made of, outside a browser: the modules' own tests, merging as Python does it, the npm package."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from trio_progress import CustomEvent, End, Gap, Snapshot, __version__, open_tracker
from trio_progress.protocol.messages import Message, encode_message
from trio_progress.session.session import Session
from trio_progress.state.limits import Limits

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("node") is None, reason="node is missing: install the package nodejs"),
]

ROOT = Path(__file__).resolve().parents[2]
STATIC = ROOT / "trio_progress" / "server" / "static"
BROWSER = ROOT / "tests" / "browser"


def test_the_modules_own_tests_hold() -> None:
    tests = sorted(map(str, BROWSER.glob("*.test.mjs")))
    assert tests
    done = subprocess.run(["node", "--test", *tests], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.findall(r"^# pass (\d+)$", done.stdout, re.MULTILINE)[0]) >= 25


async def work(session: Session, rng: random.Random) -> None:
    """Phases that come, move, nest, fold and end, with events; now and then a pause in which that is published."""
    for number in range(rng.randint(2, 6)):
        with session.phase(f"p{number}", total=rng.choice([None, 50])) as phase:
            for part in range(rng.randint(1, 8)):
                with phase.phase(f"part-{part}", total=10) as below:
                    below.advance(rng.randint(0, 10))
                    below.set(rate_limit=rng.random())
                    if rng.random() < 0.3:
                        with below.phase("deep"):
                            session.emit("deep.found", {"n": number, "é": "<b>"})
                    await trio.sleep(rng.choice([0, 0.05, 0.3]))
                phase.advance(rng.randint(0, 5))
                session.increment("found", rng.randint(0, 3))
        session.emit("phase.over", number)
    session.set_result({"report": "…", "n": [1, 2.5, None]})


async def recorded(rng: random.Random) -> tuple[list[Message], Snapshot]:
    """One session as a subscriber that sleeps at times has seen it, and what it came to."""
    messages: list[Message] = []
    async with open_tracker(event_limit=20, limits=Limits(phases=12)) as tracker, trio.open_nursery() as nursery:

        async def follow(task_status: trio.TaskStatus[None]) -> None:
            async with tracker.subscribe("r", wait=True) as subscription:
                task_status.started()
                async for message in subscription:
                    messages.append(message)
                    await trio.sleep(rng.choice([0, 0, 0.2, 1.0]))

        await nursery.start(follow)
        async with tracker.session("r") as session:
            await work(session, rng)
        final = await tracker.snapshot("r")
    return messages, final


def merged(histories: list[list[Message]]) -> list[Any]:
    """What the browser's merging makes of lists of messages."""
    lines = "".join(f"[{','.join(encode_message(one).decode() for one in history)}]\n" for history in histories)
    command = ["node", str(BROWSER / "replay.mjs")]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=60, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_page_merges_to_the_state_that_the_session_had(seed: int) -> None:
    clock = trio.testing.MockClock(autojump_threshold=0)
    histories, finals = [], []
    for number in range(25):
        messages, final = trio.run(recorded, random.Random(seed + number), clock=clock)
        histories.append(messages)
        finals.append(final)
        clock = trio.testing.MockClock(autojump_threshold=0)
    assert any(update.folded for history in histories for update in history if hasattr(update, "folded"))
    for history, final, view in zip(histories, finals, merged(histories), strict=True):
        assert msgspec.convert(view["state"], Snapshot) == msgspec.structs.replace(final, resume="")
        events = [one.n for one in history if isinstance(one, CustomEvent)]
        assert view["events"] == events[-50:]
        assert view["dropped"] == sum(one.dropped for one in history if isinstance(one, Gap))
        assert isinstance(history[-1], End)
        assert view["end"] == "completed"


def test_the_types_are_those_of_the_messages() -> None:
    check = "import declarations; assert declarations.OUT.read_text('utf-8') == declarations.made()"
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT / ".ci", capture_output=True, text=True, check=False)
    assert done.returncode == 0, "python .ci/declarations.py makes them anew\n" + done.stderr


def imports_of(module: Path) -> Iterator[Path]:
    for name in re.findall(r"^(?:import|export)\b[^;]*?\bfrom \"(\.[^\"]+)\"", module.read_text("utf-8"), re.MULTILINE):
        path = (module.parent / name).resolve()
        assert path.is_file(), f"{module.name} imports {name}"
        yield path


def closure(*roots: Path) -> set[Path]:
    found: set[Path] = set()
    todo = list(roots)
    while todo:
        path = todo.pop()
        if path not in found:
            found.add(path)
            todo.extend(imports_of(path))
    return found


def test_the_npm_package_has_all_that_its_modules_need_and_the_packages_version(tmp_path: Path) -> None:
    description = json.loads((STATIC / "package.json").read_text("utf-8"))
    assert description["version"] == __version__
    assert "dependencies" not in description
    command = ["npm", "pack", "--json", "--pack-destination", str(tmp_path)]
    done = subprocess.run(command, cwd=STATIC, capture_output=True, text=True, timeout=60, check=True)
    packed = {entry["path"] for entry in json.loads(done.stdout)[0]["files"]}
    needed = closure(STATIC / "trio-progress.js", STATIC / "trio-progress-element.js")
    assert {str(path.relative_to(STATIC)) for path in needed} <= packed
    assert packed <= {str(path.relative_to(STATIC)) for path in STATIC.iterdir()}, "the page itself stays out of it"
    for conditions in description["exports"].values():
        paths = [conditions] if isinstance(conditions, str) else conditions.values()
        assert {path.removeprefix("./") for path in paths} <= packed


def test_nothing_is_loaded_from_elsewhere_and_nothing_parses_markup() -> None:
    """The page and its modules stand alone, and what a session says has no way to become code."""
    for path in STATIC.rglob("*"):
        if path.suffix not in (".js", ".html", ".css", ".svg"):
            continue
        text = path.read_text("utf-8")
        addresses = [found for found in re.findall(r"https?://[^\s\"'`)]+", text) if "host" not in found]
        assert set(addresses) <= {"http://www.w3.org/2000/svg"}, path
        for way in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "style=",
        ):
            assert way not in text, f"{path.name}: {way}"


def luminance(colour: str) -> float:
    """As WCAG 2.2 has it, of "#rrggbb"."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_all_text_of_the_page_stands_out_from_what_is_behind_it(theme: int) -> None:
    css = (STATIC / "dashboard" / "dashboard.css").read_text("utf-8")
    pairs = re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", css)
    colours = {name: (light, dark)[theme] for name, light, dark in pairs}
    ground = {"ink": "sunk", "soft": "sunk", "faint": "sunk", "done": "sunk", "moving": "sunk"}
    ground |= {"bad": "bad-soft", "warn": "warn-soft", "paper": "moving"}
    for text, behind in ground.items():
        lighter, darker = sorted((luminance(colours[text]), luminance(colours[behind])), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, f"{text} on {behind}"


def test_the_pages_modules_are_all_there_and_all_used() -> None:
    used = closure(STATIC / "dashboard" / "app.js", STATIC / "trio-progress-element.js")
    assert used == {path.resolve() for path in STATIC.rglob("*.js")}
