"""Every example in README runs as it stands, and its pictures are there."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

README = Path(__file__).parents[3] / "README.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_runs(number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    example = EXAMPLES[number]
    # Threads and sockets keep the real clock: a virtual one would race ahead of them, for hours if need be.
    if not any(word in example for word in ("from_thread", "open_server", "sqlite:")):
        clock = trio.testing.MockClock(autojump_threshold=0)
        monkeypatch.setattr(trio, "run", partial(trio.run, clock=clock))
    exec(compile(example, f"README example {number + 1}", "exec"), {"__name__": "__main__"})
    said = capsys.readouterr().out
    for expected in re.findall(r"print\(.*\)  # (.+)$", example, re.MULTILINE):
        assert expected in said


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 6


def test_the_pictures_that_it_names_are_there() -> None:
    text = README.read_text(encoding="utf-8")
    named = re.findall(r"(?:\]\(|src=\"|srcset=\")(\.readme/[^\")]+)", text)
    assert len(named) >= 7
    assert [name for name in named if not (README.parent / name).is_file()] == []
    assert {path.name for path in (README.parent / ".readme").iterdir()} == {Path(name).name for name in named}
