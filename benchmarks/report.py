"""What a suite has found: rows, targets, the machine's facts; as a table and as JSON."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from itertools import zip_longest
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TextIO

from trio_progress import __version__

from .harness import Spread, Values

EXACT: Final = (
    "schedules", "phases", "errors", "tasks", "callers", "messages", "clients", "entries", "counters", "series",
    "descriptors", "times",
)  # fmt: skip
"""Units of what is counted, not measured."""


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that was measured.

    Args:
        group: What was measured of each of the contenders that it is to be compared with.
        name: The contender.
        unit: Of the values.
        values: One a round.
        ratios: How many times each of the named others it is.
        headline: With which others the page of results shows it; None: it does not.
    """

    group: str
    name: str
    unit: str
    values: tuple[float, ...]
    ratios: dict[str, Spread] = field(default_factory=dict)
    headline: tuple[str, ...] | None = None

    @property
    def spread(self) -> Spread:
        """The median and range of the values."""
        return Spread.of(self.values)


@dataclass(frozen=True, slots=True)
class Target:
    """A limit that a median is to stay at or below."""

    what: str
    unit: str
    value: float
    limit: float

    @property
    def met(self) -> bool:
        """Whether it does."""
        return self.value <= self.limit


@dataclass(slots=True)
class Report:
    """What one run of a suite has found; filled by the suite."""

    suite: str
    settings: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    began: datetime = field(default_factory=lambda: datetime.now(UTC))

    def add(
        self,
        group: str,
        unit: str,
        values: Values,
        *,
        against: Sequence[str] = (),
        headline: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> None:
        """A group of rows that were measured together.

        Args:
            group: What was measured.
            unit: Of the values; of what is measured, less is better.
            values: By contender.
            against: Contenders to which each has its ratio.
            headline: Those that the page of results shows, each with the others that stand beside it there.

        Raises:
            ValueError: `headline` names somebody who was not measured.
        """
        named = {name for one, others in headline.items() for name in (one, *others)}
        if not named <= values.keys():
            raise ValueError(f"{group}: the headline names {sorted(named - values.keys())}, measured are {[*values]}")
        for name, measured in values.items():
            ratios = {
                rival: ratio
                for rival in against
                if rival != name and (ratio := Spread.ratio(measured, values[rival])) is not None
            }
            others = headline.get(name)
            shown = None if others is None else tuple(others)
            self.rows.append(Row(group, name, unit, tuple(measured), ratios, shown))

    def aim(self, what: str, unit: str, limit: float, values: Sequence[float], rivals: Sequence[float] = ()) -> None:
        """A target for the median of `values`, or where there are rivals, of the ratio to them."""
        spread = Spread.ratio(values, rivals) if rivals else Spread.of(values)
        if spread is None:
            self.notes.append(f"{what}: the rival's value is not above 0, there is no ratio")
        else:
            self.targets.append(Target(what, unit, spread.median, limit))

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON data."""
        return {
            "suite": self.suite,
            "began": self.began.isoformat(),
            "machine": machine(),
            "settings": self.settings,
            "rows": [
                {
                    "group": row.group,
                    "name": row.name,
                    "unit": row.unit,
                    **asdict(row.spread),
                    "rounds": list(row.values),
                    "ratios": {rival: asdict(ratio) for rival, ratio in row.ratios.items()},
                    **({} if row.headline is None else {"headline": list(row.headline)}),
                }
                for row in self.rows
            ],
            "targets": [{**asdict(target), "met": target.met} for target in self.targets],
            "notes": self.notes,
        }

    def write(self, path: Path) -> None:
        """Writes the JSON to a file."""
        path.write_text(json.dumps(self.as_json(), indent=2, allow_nan=False) + "\n", encoding="utf-8")

    def print(self, file: TextIO) -> None:
        """Prints the groups as tables, then the targets, the notes and the machine."""
        settings = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        print(
            f"{self.suite}: {settings}\nmedian (lowest to highest); how many times the others, within a round",
            file=file,
        )
        groups: dict[str, list[tuple[str, ...]]] = {}
        for row in self.rows:
            line = (row.name, number(row.spread.median), f"{row.unit} {_range(row.spread)}", *_ratios(row))
            groups.setdefault(row.group, []).append(line)
        if self.targets:
            groups["targets"] = self._target_lines()
        for group, lines in groups.items():
            print(f"\n{group}", file=file)
            _print_columns(lines, file)
        self._print_notes(file)

    def print_end(self, file: TextIO) -> None:
        """Prints what follows the figures: targets, notes, the machine."""
        if self.targets:
            print("\ntargets", file=file)
            _print_columns(self._target_lines(), file)
        self._print_notes(file)

    def _target_lines(self) -> list[tuple[str, ...]]:
        return [
            (
                target.what,
                number(target.value),
                f"{target.unit} <= {number(target.limit)}",
                "met" if target.met else "MISSED",
            )
            for target in self.targets
        ]

    def _print_notes(self, file: TextIO) -> None:
        if self.notes:
            print(file=file)
        for note in self.notes:
            print(f"- {note}", file=file)
        facts = machine()
        packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
        print(
            f"\n{facts['cpu']}, {facts['cores']} cores, {facts['system']}, load {facts['load']}; "
            f"{facts['python']}; {packages}",
            file=file,
        )


def machine() -> dict[str, Any]:
    """What a reader must know of the machine to judge the figures; no name, no address, no path of it."""
    packages = {"trio-progress": __version__}
    for name in ("trio", "msgspec", "tqdm", "rich"):
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": packages,
    }


def _cpu() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"


def number(value: float) -> str:
    """With three significant digits, and no exponent."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _range(spread: Spread) -> str:
    return f"({number(spread.low)} to {number(spread.high)})"


def _ratios(row: Row) -> list[str]:
    return [f"{number(ratio.median)}x {rival} {_range(ratio)}" for rival, ratio in row.ratios.items()]


def columns(lines: Sequence[tuple[str, ...]]) -> list[str]:
    """Lines in columns: the first one and the last one flush left, the others flush right; lines of one cell as is."""
    widths = [max(map(len, column)) for column in zip_longest(*(line for line in lines if len(line) > 1), fillvalue="")]
    shown = []
    for line in lines:
        if len(line) == 1:
            shown.append(line[0])
            continue
        cells = [cell.rjust(width) for cell, width in zip(line, widths, strict=False)]
        cells[0], cells[-1] = line[0].ljust(widths[0]), line[-1]
        shown.append("  ".join(cells).rstrip())
    return shown


def _print_columns(lines: Sequence[tuple[str, ...]], file: TextIO) -> None:
    """Prints lines in columns: the second one flush right, the others flush left."""
    widths = [max(map(len, column)) for column in zip_longest(*lines, fillvalue="")]
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=False)]
        cells[1] = line[1].rjust(widths[1])
        print("  " + "  ".join(cells).rstrip(), file=file)
