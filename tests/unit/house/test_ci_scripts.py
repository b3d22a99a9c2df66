"""The scripts beside `.ci/run`: what README says is what is run, and the oldest versions are those of pyproject."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CI = Path(__file__).resolve().parents[3] / ".ci"

DEMO = """\
# A title

<!-- command: demo -->
```sh
pip install .
trio-progress demo
```

Some words, and a block that nobody named:

```sh
rm -r everything
```

<!-- command: test -->

```console
$ pytest
12 passed
```
"""


def script(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, CI / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def commands() -> Callable[[str], dict[str, str]]:
    found: Callable[[str], dict[str, str]] = script("readme_command").commands
    return found


def test_only_blocks_behind_a_marker_are_commands_and_output_is_none(commands: Callable[[str], dict[str, str]]) -> None:
    assert commands(DEMO) == {"demo": "pip install .\ntrio-progress demo", "test": "pytest"}


def test_a_marker_without_a_block_right_behind_it_is_an_error_and_not_the_next_block(
    commands: Callable[[str], dict[str, str]],
) -> None:
    with pytest.raises(ValueError, match="'demo'"):
        commands(DEMO.replace("<!-- command: demo -->\n", "<!-- command: demo -->\nwords\n"))


def test_two_commands_of_one_name_are_an_error(commands: Callable[[str], dict[str, str]]) -> None:
    with pytest.raises(ValueError, match="two commands are named 'demo'"):
        commands(DEMO + DEMO)


def test_a_command_that_readme_has_not_fails_and_says_which_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(DEMO)
    main = script("readme_command").main
    assert main(["demo", str(readme)]) == 0
    assert capsys.readouterr().out == "pip install .\ntrio-progress demo\n"
    assert main(["deploy", str(readme)]) == 1
    assert "only demo, test" in capsys.readouterr().err


def test_the_oldest_versions_are_the_lower_bounds() -> None:
    oldest = script("oldest").oldest
    assert oldest({"dependencies": ["trio>=0.31", "msgspec >= 0.19, < 1"]}) == ["trio==0.31", "msgspec==0.19"]
    with pytest.raises(ValueError, match="no lower bound"):
        oldest({"dependencies": ["trio"]})
