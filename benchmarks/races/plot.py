"""Draws what the table says, as SVG of lines and rectangles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Final

from .schedule import Schedule
from .summary import RACES, Case

COLOURS: Final = ("#c0392b", "#d68910", "#1e8449", "#5d6d7e")

WIDTH, HEIGHT = 720, 320
LEFT, TOP, BOTTOM, RIGHT = 64, 64, 44, 16

Line = Sequence[tuple[float, float]]


def draw_all(folder: Path, found: Mapping[str, Sequence[Case]]) -> None:
    """Writes `races.svg`, `snapshots.svg` and `bar.svg`; makes the folder where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    shares = {
        race: {name: 100 * sum(map(shows, cases)) / len(cases) for name, cases in found.items()}
        for race, shows in RACES.items()
    }
    gaps = {name: _share([case.replay.gap(case.schedule) for case in cases]) for name, cases in found.items()}
    drawings = {
        "races": bars("Schedules in which each race has shown, per cent", shares),
        "snapshots": lines("Schedules with at most so long without a snapshot, per cent", "seconds", gaps),
        "bar": lines(*_worst_bar(found)),
    }
    for name, drawing in drawings.items():
        (folder / f"{name}.svg").write_text(drawing, encoding="utf-8")


def _share(values: Sequence[float]) -> Line:
    """A step at each value, from 0 to 100 per cent."""
    ordered = sorted(values)
    steps = [(0.0, 0.0)]
    for place, value in enumerate(ordered, 1):
        steps += [(value, steps[-1][1]), (value, 100 * place / len(ordered))]
    return steps


def _worst_bar(found: Mapping[str, Sequence[Case]]) -> tuple[str, str, dict[str, Line]]:
    """The bar of each tracker, and the truth, in the schedule in which the first one was the most wrong."""
    first = next(iter(found.values()))
    place = max(range(len(first)), key=lambda number: first[number].replay.bar_error(first[number].schedule))
    shown: dict[str, Line] = {
        name: _steps([(look.at, look.bar) for look in cases[place].replay.looks]) for name, cases in found.items()
    }
    schedule = first[place].schedule
    shown["what is true"] = _steps([(at, schedule.truth(at)[0]) for at in _moments(schedule)])
    return f"The bar in the run of seed {first[place].seed}, per cent", "seconds", shown


def _moments(schedule: Schedule) -> Sequence[float]:
    return schedule.looks


def _steps(points: Line) -> Line:
    drawn = [points[0]]
    for (_, before), (at, value) in pairwise(points):
        drawn += [(at, before), (at, value)]
    return drawn


def bars(title: str, groups: Mapping[str, Mapping[str, float]]) -> str:
    """Groups of upright bars, 0 to 100, each with its value."""
    names = list(next(iter(groups.values())))
    parts = [*_frame(title, names), *_grid()]
    wide = (WIDTH - LEFT - RIGHT) / len(groups)
    each = wide * 0.8 / len(names)
    for at, (group, values) in enumerate(groups.items()):
        start = LEFT + at * wide + wide * 0.1
        for place, (name, value) in enumerate(values.items()):
            x, y = start + place * each, _y(value)
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{each * 0.9:.1f}" height="{_y(0) - y:.1f}" '
                f'fill="{COLOURS[place % len(COLOURS)]}"><title>{escape(name)}: {value:.1f}</title></rect>'
            )
            parts.append(_text(x + each * 0.45, y - 4, f"{value:.3g}", "middle", 10))
        parts.append(_text(start + wide * 0.4, HEIGHT - BOTTOM + 18, group, "middle", 11))
    return _svg(parts)


def lines(title: str, below: str, drawn: Mapping[str, Line]) -> str:
    """A line for each name; upwards 0 to 100, to the right from 0."""
    step = _step(max(x for line in drawn.values() for x, _ in line))
    furthest = 5 * step
    parts = [*_frame(title, list(drawn)), *_grid()]
    for tick in range(6):
        x = LEFT + tick / 5 * (WIDTH - LEFT - RIGHT)
        parts.append(_text(x, HEIGHT - BOTTOM + 16, f"{tick * step:g}", "middle", 10))
    parts.append(_text((WIDTH + LEFT) / 2, HEIGHT - 8, below, "middle", 11))
    for place, line in enumerate(drawn.values()):
        points = " ".join(f"{LEFT + x / furthest * (WIDTH - LEFT - RIGHT):.1f},{_y(y):.1f}" for x, y in line)
        colour = COLOURS[place % len(COLOURS)]
        wide = max(1.5, 6 - 1.5 * place)  # The later ones lie on top: where they agree, all can be seen.
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{wide}"/>')
    return _svg(parts)


def _step(most: float) -> float:
    """A fifth of the axis: the smallest of 1, 2, 2.5 or 5 times a power of ten that takes `most`."""
    power = 10.0 ** math.floor(math.log10(most / 5)) if most > 0 else 1.0
    return next(power * times for times in (1, 2, 2.5, 5, 10) if most <= 5 * power * times * (1 + 1e-9))


def _y(value: float) -> float:
    return HEIGHT - BOTTOM - min(value, 100) / 100 * (HEIGHT - BOTTOM - TOP)


def _grid() -> list[str]:
    parts = []
    for value in range(0, 101, 25):
        y = _y(value)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#d5d8dc"/>')
        parts.append(_text(LEFT - 8, y + 4, str(value), "end", 10))
    return parts


def _frame(title: str, names: Sequence[str]) -> list[str]:
    parts = [_text(LEFT, 18, title, "start", 13)]
    for place, name in enumerate(names):
        x = LEFT + place * 150
        parts.append(f'<rect x="{x}" y="28" width="10" height="10" fill="{COLOURS[place % len(COLOURS)]}"/>')
        parts.append(_text(x + 15, 37, name, "start", 11))
    return parts


def _text(x: float, y: float, text: str, anchor: str, size: int) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(text)}</text>'


def _svg(parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'fill="#212f3c">\n<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )
