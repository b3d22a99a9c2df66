"""Prints a command of README.md, so that what README tells its readers to type is what CI runs.

A command is a fenced block right after a comment that names it:

    <!-- command: demo -->
    ```sh
    pip install .
    trio-progress demo
    ```
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

_COMMAND = re.compile(
    r"^<!-- command: (?P<name>[\w-]+) -->\n+(?P<fence>```+|~~~+)(?:sh|bash|console)\n(?P<body>.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)
_MARKER = re.compile(r"^<!-- command: ([\w-]+) -->$", re.MULTILINE)


def commands(text: str) -> dict[str, str]:
    """The commands of a Markdown text by their names.

    In a block that shows prompts (`$ `) only the lines behind them are the command; the others are its output.

    Raises:
        ValueError: Two have one name, or a marker has no shell block behind it.
    """
    found: dict[str, str] = {}
    for match in _COMMAND.finditer(text):
        lines = match["body"].splitlines()
        typed = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        if match["name"] in found:
            raise ValueError(f"two commands are named {match['name']!r}")
        found[match["name"]] = "\n".join(typed or lines)
    bare = [name for name in _MARKER.findall(text) if name not in found]
    if bare:
        raise ValueError(f"no sh, bash or console block right after the marker of {bare[0]!r}")
    return found


def main(arguments: list[str]) -> int:
    """Prints the command that the first argument names, out of the file that the second names."""
    if len(arguments) not in (1, 2):
        print("usage: readme_command.py NAME [FILE]", file=sys.stderr)
        return 2
    name, *rest = arguments
    path = Path(rest[0]) if rest else Path(__file__).resolve().parent.parent / "README.md"
    try:
        known = commands(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        print(f"{path.name}: {error}", file=sys.stderr)
        return 1
    if name not in known:
        print(f"{path.name}: no command {name!r}, only {', '.join(known) or 'none'}", file=sys.stderr)
        return 1
    print(known[name])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
