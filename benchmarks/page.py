"""README's page of results, made from what `all` has written: `python -m benchmarks page RUN.json --into README.md`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from .report import number

BEGIN: Final = "<!-- results: made by `python -m benchmarks page` -->"
END: Final = "<!-- end of results -->"

EXACT: Final = (
    "schedules",
    "phases",
    "errors",
    "tasks",
    "callers",
    "messages",
    "clients",
    "entries",
    "counters",
    "descriptors",
    "times",
)
"""Units of what is counted."""


def page(run: Mapping[str, Any]) -> str:
    """The page, from marker to marker: facts of the machine, the races, and every figure beside its rivals."""
    facts, suites = run["machine"], run["suites"]
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    size = "full" if run.get("full") else "short"
    ran = (
        f"A {size} run of {run['began'][:10]}: {facts['cpu']}, {facts['cores']} cores, load {facts['load']}, "
        f"{facts['system']}, {facts['python']}; {packages}."
    )
    parts = [BEGIN, ran]
    for name, report in suites.items():
        settings = ", ".join(f"{key} {value}" for key, value in report["settings"].items())
        parts.append(f"**`python -m benchmarks {name}`** ({settings})")
        parts.append("\n".join(_races(report) if name == "races" else _figures(report)))
        missed = [f"{one['what']} {number(one['value'])} {one['unit']}" for one in report["targets"] if not one["met"]]
        if missed:
            parts.append(f"Targets missed in this run: {'; '.join(missed)}.")
    parts.append(END)
    return "\n\n".join(parts)


def _races(report: Mapping[str, Any]) -> Iterator[str]:
    groups: dict[str, dict[str, Any]] = {}
    for row in report["rows"]:
        groups.setdefault(row["group"], {})[row["name"]] = row
    names = list(dict.fromkeys(row["name"] for row in report["rows"]))
    yield f"| | {' | '.join(names)} | |"
    yield "|" + "---|" * (len(names) + 2)
    for group, rows in groups.items():
        cells = [_value(rows[name]) if name in rows else "" for name in names]
        yield f"| {group} | {' | '.join(cells)} | {next(iter(rows.values()))['unit']} |"


def _figures(report: Mapping[str, Any]) -> Iterator[str]:
    yield "| what | who | median | beside |"
    yield "|---|---|---|---|"
    for row in report["rows"]:
        beside = ", ".join(f"{number(ratio['median'])}x `{rival}`" for rival, ratio in row["ratios"].items())
        yield f"| {row['group']} | `{row['name']}` | {_value(row)} {row['unit']} | {beside} |"


def _value(row: Mapping[str, Any]) -> str:
    return f"{row['median']:,.0f}" if row["unit"] in EXACT else number(row["median"])


def find(text: str) -> str | None:
    """The page that a text holds, without its markers; None where it holds none, or one that is out of form.

    In form are: a line on the machine first, then for each suite a line in bold and a table whose rows all
    have as many cells as its head.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        return None
    made = text[text.index(BEGIN) + len(BEGIN) : text.index(END)].strip()
    blocks = made.split("\n\n")
    tables = [place for place, block in enumerate(blocks) if block.startswith("|")]
    for place in tables:
        lines = blocks[place].splitlines()
        cells = lines[0].count("|")
        if set(lines[1]) != {"|", "-"} or any(line.count("|") != cells or line[-1] != "|" for line in lines):
            return None
        if not blocks[place - 1].startswith("**`python -m benchmarks "):
            return None
    return made if tables and " run of " in blocks[0] else None


def put(text: str, made: str) -> str:
    """`text` with the page in the place of the one that it holds.

    Raises:
        ValueError: There is no such place, or more than one.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"there must be one place for the results, from {BEGIN} to {END}")
    return text[: text.index(BEGIN)] + made + text[text.index(END) + len(END) :]


def put_into(path: Path, made: str) -> None:
    """Writes the page into a file, in the place of the one that it holds."""
    path.write_text(put(path.read_text(encoding="utf-8"), made), encoding="utf-8")
