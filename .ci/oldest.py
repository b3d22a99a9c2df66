"""Prints the oldest versions that pyproject.toml allows of what the package itself needs, as pip takes them."""

from __future__ import annotations

import tomllib
from pathlib import Path


def oldest(project: dict[str, object]) -> list[str]:
    """The requirements of `[project]`, each held to its lower bound.

    Raises:
        ValueError: One has no lower bound.
    """
    held = []
    requirements = project["dependencies"]
    assert isinstance(requirements, list)
    for requirement in requirements:
        name, at_least, bounds = requirement.partition(">=")
        if not at_least:
            raise ValueError(f"{requirement!r} has no lower bound")
        held.append(f"{name.strip()}=={bounds.split(',')[0].strip()}")
    return held


if __name__ == "__main__":
    pyproject = Path(__file__).resolve().parent.parent / "pyproject.toml"
    print("\n".join(oldest(tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"])))
