"""The page of results, made from what `all` has written: `python -m benchmarks page RUN.json --into docs/results.md`.

Of each suite it shows what its author has named as headlines, ours first and then the others, those that are cheaper
than ours among them; of a suite without any, its limits. Every figure is in the run's own file, and in what a suite
prints.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from .report import EXACT, number

BEGIN: Final = "<!-- results: made by `python -m benchmarks page` -->"
END: Final = "<!-- end of results -->"

FIRST: Final = (
    "races",
    "hot",
    "sessions",
    "bar",
    "fanout",
    "slow",
    "lists",
    "latency",
    "soak",
    "sqlite",
    "redis",
    "scrape",
)
"""Suites in the order of the page; all others come behind them."""

COUNTED: Final = ("races",)
"""Suites whose contenders have a column each: they count what goes wrong, where a ratio would say nothing."""


def page(run: Mapping[str, Any]) -> str:
    """The page, from marker to marker: facts of the machine, then a short table for each suite."""
    facts, suites = run["machine"], run["suites"]
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    size = "full" if run.get("full") else "short"
    ran = (
        f"A {size} run of {run['began'][:10]}: {facts['cpu']}, {facts['cores']} cores, load {_load(run)}, "
        f"{facts['system']}, {facts['python']}; {packages}."
    )
    read = "Medians. Beside ours: how many times the other one it is; **bold** where the other one is better."
    parts = [BEGIN, ran, read]
    for name in sorted(suites, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST)):
        parts += _suite(name, suites[name])
    for kind in ("left_out", "failed"):
        for name, why in run.get(kind, {}).items():
            parts.append(f"`{name}` {'was left out' if kind == 'left_out' else 'FAILED'}: {why}.")
    parts.append(END)
    return "\n\n".join(parts)


def _load(run: Mapping[str, Any]) -> str:
    """How much the machine had to do, its own work included: at the beginning, and at the end of each suite."""
    machines = [run["machine"], *(report["machine"] for report in run["suites"].values())]
    loads = [machine["load"] for machine in machines if machine["load"] is not None]
    return f"{number(min(loads))} to {number(max(loads))}" if loads else "unknown"


def _suite(name: str, report: Mapping[str, Any]) -> Iterator[str]:
    settings = ", ".join(f"{key} {_setting(value)}" for key, value in report["settings"].items())
    summary = f": {report['summary']}" if "summary" in report else ""
    yield f"**`python -m benchmarks {name}`**{summary} ({settings})"
    shown = [row for row in report["rows"] if "headline" in row]
    if shown and name in COUNTED:
        yield "\n".join(_columns(report, shown))
    elif shown:
        yield "\n".join(_beside(report, shown))
    else:
        if report["targets"]:
            yield "\n".join(_limits(report))
        yield from report["notes"][:1]
    missed = [one for one in report["targets"] if not one["met"]]
    if missed and shown:
        told = "; ".join(f"{one['what']} {_found(one)}, not {_plain(one['limit'])}" for one in missed)
        yield f"Missed in this run, of {len(report['targets'])} limits that we have set ourselves: {told}."


def _setting(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _columns(report: Mapping[str, Any], shown: list[dict[str, Any]]) -> Iterator[str]:
    """A column for each contender."""
    names = list(dict.fromkeys(name for row in shown for name in (*row["headline"], row["name"])))
    yield f"| | {' | '.join(names)} | |"
    yield "|" + "---|" * (len(names) + 2)
    for row in shown:
        cells = [_cell(row, report, name) if name in row["headline"] else "-" for name in names[:-1]]
        yield f"| {row['group']} | {' | '.join([*cells, _value(row)])} | {row['unit']} |"


def _cell(row: Mapping[str, Any], report: Mapping[str, Any], name: str) -> str:
    other = _row(report, row["group"], name)
    better = row["unit"] not in EXACT and other["median"] < row["median"]
    return f"**{_value(other)}**" if better else _value(other)


def _beside(report: Mapping[str, Any], shown: list[dict[str, Any]]) -> Iterator[str]:
    """A row for each headline, with the others beside it."""
    yield "| what | ours | beside |"
    yield "|---|---|---|"
    for row in shown:
        beside = [_rival(row, _row(report, row["group"], name)) for name in row["headline"]]
        yield f"| {row['group']}: `{row['name']}` | {_value(row)} {row['unit']} | {'; '.join(beside)} |"


def _limits(report: Mapping[str, Any]) -> Iterator[str]:
    """What the suite holds itself to."""
    yield "| what | found | at most |"
    yield "|---|---|---|"
    for one in report["targets"]:
        found = _found(one) if one["met"] else f"**{_found(one)}**"
        yield f"| {one['what']} | {found} | {_plain(one['limit'])} |"


def _found(target: Mapping[str, Any]) -> str:
    return f"{_plain(target['value'])} {target['unit']}".rstrip()


def _plain(value: float) -> str:
    """Whole numbers without places."""
    return f"{value:,.0f}" if value == round(value) else number(value)


def _row(report: Mapping[str, Any], group: str, name: str) -> Mapping[str, Any]:
    return next(row for row in report["rows"] if (row["group"], row["name"]) == (group, name))


def _rival(row: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    ratio = row["ratios"].get(other["name"])
    if ratio is None and other["median"] <= 0:
        return f"`{other['name']}` {_value(other)} {other['unit']}"
    times = row["median"] / other["median"] if ratio is None else ratio["median"]
    shown = f"{number(times)}x"
    return f"{f'**{shown}**' if round(times, 2) > 1 else shown} `{other['name']}` ({_value(other)})"


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
