"""All suites in one go, into one file; and what two such files differ in.

`python -m benchmarks all --json OUT` and `python -m benchmarks compare A B`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TextIO

from .report import EXACT, Report, columns, machine, number
from .suites import MissingError, Suite

FEW: Final = 3
"""Rounds; of fewer there is no range."""

QUARTER: Final = 1.25

Run = dict[str, Any]
"""What `all` writes: when and where it ran, and the report of each suite, by name."""


def run_all(
    suites: Mapping[str, Suite],
    parse: Callable[[list[str]], argparse.Namespace],
    *,
    full: bool,
    save: Callable[[Run], None] = lambda run: None,
) -> Run:
    """Runs every suite, short or in full, and prints each as it comes.

    One whose rival or program is missing is left out, and says so; one that fails does not keep the others from
    running, and is told of in `failed`.

    Args:
        suites: By name.
        parse: The command line's parser, from which each suite's defaults come.
        full: With their defaults, instead of what makes them short.
        save: Given the run after each suite, for a run may be stopped half-way.
    """
    run: Run = {
        "began": datetime.now(UTC).isoformat(),
        "machine": machine(),
        "full": full,
        "suites": {},
        "left_out": {},
        "failed": {},
    }
    for name, suite in suites.items():
        options = parse([name, *(() if full else suite.short)])
        began = time.monotonic()
        try:
            report: Report = suite.run(options)
        except ModuleNotFoundError as error:
            run["left_out"][name] = f"{error.name} is not installed: pip install 'trio-progress[bench]'"
        except MissingError as error:
            run["left_out"][name] = str(error)
        except (Exception, SystemExit) as error:
            run["failed"][name] = f"{type(error).__name__}: {error}"
            print(f"{name}: failed", file=sys.stderr)
            traceback.print_exception(error)
        else:
            took = time.monotonic() - began
            report.print(sys.stdout)
            print(f"{name} took {took:.0f} s\n", flush=True)
            run["suites"][name] = {**report.as_json(), "summary": suite.summary, "took": round(took, 1)}
        if name in run["left_out"]:
            print(f"{name}: left out, {run['left_out'][name]}", file=sys.stderr)
        save(run)
    return run


def read(path: Path) -> Run:
    """What `all`, or one suite, has written.

    Raises:
        ValueError: The file holds something else.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from None
    if isinstance(data, dict) and isinstance(data.get("suites"), dict):
        return data
    if isinstance(data, dict) and "rows" in data and "suite" in data:
        return {"began": data["began"], "machine": data["machine"], "suites": {data["suite"]: data}}
    raise ValueError(f"{path} is not what `python -m benchmarks` writes")


def compare(before: Run, after: Run, file: TextIO, *, every: bool = False) -> int:
    """Prints the figures that moved: whose ranges do not overlap, and those that only one of the runs has.

    What was measured once or twice has no range to speak of: it moves by a quarter or not at all.

    Args:
        before: A run.
        after: Another one.
        file: Where to.
        every: Whether to print also what has not moved.

    Returns:
        How many have moved.
    """
    if _facts(before) != _facts(after):
        print("The machine, or a version, is another one: only ratios within each run can be compared.\n", file=file)
    moved = 0
    lines: list[tuple[str, ...]] = [("", "before", "after", "")]
    for suite in dict.fromkeys([*before["suites"], *after["suites"]]):
        if suite not in before["suites"] or suite not in after["suites"]:
            where = "after" if suite in after["suites"] else "before"
            lines += [(f"\n{suite}",), ("  all of it", "", "", f"only {where}")]
            continue
        old, new = _rows(before, suite), _rows(after, suite)
        heading = len(lines)
        for key in [*old, *(key for key in new if key not in old)]:
            row, then = old.get(key), new.get(key)
            what = f"  {key[0]}, {key[1]}"
            if row is None or then is None:
                cells = [number(one["median"]) if one else "-" for one in (row, then)]
                lines.append((what, *cells, "only after" if row is None else "only before"))
                continue
            change, away = _change(row, then)
            moved += away
            if away or every:
                lines.append((what, number(row["median"]), number(then["median"]), f"{row['unit']} {change}".rstrip()))
        if len(lines) > heading:
            lines.insert(heading, (f"\n{suite}",))
    print("\n".join(columns(lines)), file=file)
    print(
        f"\n{moved} moved: all of a figure's rounds lie on one side of all of its rounds before; "
        "of fewer than three rounds, by a quarter",
        file=file,
    )
    return moved


def _facts(run: Run) -> dict[str, Any]:
    return {name: value for name, value in run["machine"].items() if name != "load"}


def _rows(run: Run, suite: str) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["group"], row["name"]): row for row in run["suites"][suite]["rows"]}


def _change(row: Mapping[str, Any], then: Mapping[str, Any]) -> tuple[str, bool]:
    away = row["low"] > then["high"] or row["high"] < then["low"]
    if away and row["unit"] not in EXACT and min(len(row["rounds"]), len(then["rounds"])) < FEW:
        smaller, larger = sorted((abs(row["median"]), abs(then["median"])))
        away = larger > smaller * QUARTER
    if row["median"] == then["median"]:
        return "", away
    ratio = f"{then['median'] / row['median']:.2f}x" if row["median"] > 0 else ""
    return f"{ratio} MOVED".strip() if away else ratio, away
