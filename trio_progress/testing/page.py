"""A schedule as a page of its own: a lane for each task, its steps from top to bottom, wake-ups and values."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from .timeline import OVER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .timeline import Row

LANE: Final = 190
"""Pixels of a lane's width."""

HEIGHT: Final = 26
"""Pixels of a step's height."""

TOP: Final = 44

_TIP: Final = (
    '<defs><marker id="tip" markerWidth="7" markerHeight="7" refX="6" refY="3" orient="auto">'
    '<path d="M0,0 L6,3 L0,6 z" fill="context-stroke"/></marker></defs>'
)

_STYLE: Final = """
:root { color-scheme: light dark; --line: #8886; --step: #4a78c2; --end: #888; --wake: #2a9d61; --cancel: #c2504a; }
body { font: 14px/1.45 system-ui, sans-serif; margin: 1.5rem; }
pre { overflow-x: auto; padding: .8rem; border: 1px solid var(--line); }
.lanes { overflow-x: auto; }
text { font: 12px ui-monospace, monospace; fill: currentColor; }
.name { font-weight: 600; } .lane { stroke: var(--line); } .step { fill: var(--step); } .end { fill: var(--end); }
.wake { stroke: var(--wake); fill: none; } .cancel { stroke: var(--cancel); fill: none; stroke-dasharray: 4 2; }
.value { opacity: .85; } .time { opacity: .6; }
"""


def page_of(title: str, report: str, rows: Sequence[Row]) -> str:
    """The page, which needs nothing else: no script, no font, no address.

    Args:
        title: What was run.
        report: What the terminal shows.
        rows: The steps, as `Timeline.rows()` gives them.
    """
    lanes: dict[str, int] = {}
    for row in rows:
        lanes.setdefault(row.task, len(lanes))
    values = 110 + LANE * len(lanes)
    height = TOP + HEIGHT * (len(rows) + 1)
    drawn = [
        f'<svg role="img" aria-label="the schedule" width="{values + 560}" height="{height}">',
        _TIP,
    ]
    for name, lane in lanes.items():
        x = _x(lane)
        drawn.append(f'<line class="lane" x1="{x}" y1="{TOP - 12}" x2="{x}" y2="{height - 8}"/>')
        drawn.append(f'<text class="name" x="{x - 6}" y="20">{escape(name[:26])}<title>{escape(name)}</title></text>')
    for number, row in enumerate(rows):
        drawn += _step(number, row, lanes, values)
    drawn.append("</svg>")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style><h1>{escape(title)}</h1>'
        f'<pre>{escape(report)}</pre><div class="lanes">{"".join(drawn)}</div></html>\n'
    )


def _x(lane: int) -> int:
    return 100 + LANE * lane


def _step(number: int, row: Row, lanes: dict[str, int], values: int) -> list[str]:
    y = TOP + HEIGHT * number
    x = _x(lanes[row.task])
    kind = "end" if row.where.startswith(OVER) else "step"
    place = row.where.partition(" ")[0]
    drawn = [
        f'<text class="time" x="4" y="{y + 4}">{row.time:.4f}</text>',
        f'<circle class="{kind}" cx="{x}" cy="{y}" r="5"><title>{escape(row.where)}</title></circle>',
        f'<text x="{x + 10}" y="{y + 4}">{escape(place if kind == "step" else row.where)}</text>',
    ]
    for other, cancelled in row.woken:
        if other in lanes and other != row.task:
            line = "cancel" if cancelled else "wake"
            to = _x(lanes[other])
            drawn.append(
                f'<path class="{line}" marker-end="url(#tip)" d="M{x},{y} Q{(x + to) // 2},{y + HEIGHT // 2} '
                f'{to},{y + HEIGHT - 8}"><title>{"cancels" if cancelled else "wakes"} {escape(other)}</title></path>'
            )
    if row.changes:
        drawn.append(f'<text class="value" x="{values}" y="{y + 4}">{escape("; ".join(row.changes)[:90])}</text>')
    return drawn
