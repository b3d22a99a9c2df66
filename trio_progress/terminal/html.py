"""Sessions as HTML that stands alone: for notebooks, whose pages are light or dark and have styles of their own.

1. All text of others is escaped, and loses what would hide or reorder text; nothing is a link, a script or an image.
2. All style stands in attributes, for several front ends drop `<style>`. Texts and lines have the colour of the text
   around them; the few colours that carry a meaning have a contrast of 3 to 1 on white and on black, and a word beside.
3. A bar is a `progressbar` with a name and a value; one without a value is not known.
4. Its size is bounded, whatever a session holds.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from ..protocol.snapshot import phase_ran, ran
from . import words
from .printable import printable

if TYPE_CHECKING:
    from ..protocol.snapshot import PhaseSnapshot, Snapshot

MOST_SESSIONS: Final = 100
MOST_PHASES: Final = 60
"""Of one session: those that run come first where there are more."""

MOST_TEXT: Final = 300
"""Characters of a title or a message."""

COLOURS: Final = {
    "running": "#2f81f7",
    "completed": "#1f883d",
    "failed": "#d1242f",
    "lost": "#d1242f",
    "timed_out": "#d1242f",
    "stalled": "#b35900",
    "interrupted": "#b35900",
    "cancelled": "#808080",
}
"""By status; all others have none."""

BLOCK: Final = "font-family:system-ui,sans-serif;font-size:13px;line-height:1.5;max-width:60em;margin:.3em 0"
CELL: Final = "text-align:left;padding:1px 12px 1px 0;border:0;background:none;vertical-align:middle"
TABLE: Final = "border-collapse:collapse;border:0;margin:0;font-size:13px"
TRACK: Final = "display:inline-block;width:12em;height:.6em;border-radius:.3em;overflow:hidden;vertical-align:middle"


def session_html(snapshot: Snapshot, now: float) -> str:
    """One session: its headline, what is known of it besides, and its phases.

    Args:
        snapshot: The state.
        now: Its owner's wall clock, in seconds since 1970.
    """
    return f'<div style="{BLOCK}">{"".join(_session(snapshot, now))}</div>'


def sessions_html(snapshots: Sequence[Snapshot], now: float, *, more: bool = False) -> str:
    """Several sessions as a table, a row each.

    Args:
        snapshots: Their states.
        now: The wall clock, in seconds since 1970.
        more: Whether there are more than these.
    """
    if not snapshots:
        return f'<div style="{BLOCK}">No sessions</div>'
    rows = (_row(_summary(one, now)) for one in snapshots[:MOST_SESSIONS])
    head = "".join(f'<th scope="col" style="{CELL}">{name}</th>' for name in ("Session", "Status", "Progress", "Time"))
    left_out = len(snapshots) - MOST_SESSIONS
    rest = f"+ {left_out} more sessions" if left_out > 0 else "There are more sessions" if more else ""
    header = f'<tr style="background:none">{head}</tr>'
    return f'<div style="{BLOCK}"><table style="{TABLE}">{header}{"".join(rows)}</table>{_line(rest)}</div>'


def _summary(snapshot: Snapshot, now: float) -> Iterator[str]:
    title = _text(snapshot.title)
    yield title if snapshot.title == snapshot.id else f"{title} <small>{_text(snapshot.id)}</small>"
    yield _coloured(words.status(snapshot), words.standing(snapshot, now))
    yield f"{_bar(snapshot.progress, snapshot.title, words.status(snapshot))} {words.percent(snapshot.progress)}"
    left = words.labelled(words.session_left(snapshot, now))
    yield _text(", ".join(filter(None, (words.duration(ran(snapshot, now)), left))))


def _session(snapshot: Snapshot, now: float) -> Iterator[str]:
    status = words.status(snapshot)
    figures = (
        words.percent(snapshot.progress),
        words.labelled(words.session_left(snapshot, now)),
        words.duration(ran(snapshot, now)),
        words.attempt(snapshot),
    )
    headline = f"<strong>{_text(snapshot.title)}</strong> {_coloured(status, words.standing(snapshot, now))}"
    tail = _text(", ".join(filter(None, figures)))
    yield f"<div>{headline} {_bar(snapshot.progress, snapshot.title, status)} {tail}</div>"
    message = None if snapshot.ended else snapshot.message
    yield _line(words.error(snapshot))
    yield _line(message or "")
    yield _line(words.counters(snapshot, 12))
    times = words.times_of(snapshot, now)
    every = list(_all(snapshot.phases, 0))
    shown = every if len(every) <= MOST_PHASES else _most_telling(every)
    if shown:
        rows = (_row(_phase(phase, depth, times)) for phase, depth in shown)
        yield f'<table role="presentation" style="{TABLE}">{"".join(rows)}</table>'
    if len(shown) < len(every):
        yield _line(f"+ {len(every) - len(shown)} more phases")


def _all(phases: Iterable[PhaseSnapshot], depth: int) -> Iterator[tuple[PhaseSnapshot, int]]:
    for phase in phases:
        yield phase, depth
        yield from _all(phase.phases, depth + 1)


def _most_telling(every: list[tuple[PhaseSnapshot, int]]) -> list[tuple[PhaseSnapshot, int]]:
    """As many as there is room for, in their order: those that run, then those that failed, then the first of all."""
    rank = {"running": 0, "failed": 1}
    order = sorted(range(len(every)), key=lambda number: rank.get(every[number][0].status, 2))
    return [every[number] for number in sorted(order[:MOST_PHASES])]


def _phase(phase: PhaseSnapshot, depth: int, times: words.Times) -> Iterator[str]:
    yield f'<span style="padding-left:{min(depth, 10) * 1.2:.1f}em">{_text(phase.title)}</span>'
    yield _coloured(phase.status, phase.status)
    if phase.status in ("pending", "skipped"):
        yield ""
    else:
        percent = "" if phase.fraction is None else f" {words.percent(phase.fraction)}"
        yield _bar(phase.fraction, phase.title, phase.status) + percent
    took = "" if phase.started_at is None else words.short(phase_ran(phase, times.ran, times.now))
    figures = _text(", ".join(words.figures(phase, times, took)))
    message = f" <em>{_text(phase.message)}</em>" if phase.message else ""
    yield figures + message


def _row(cells: Iterable[str]) -> str:
    columns = "".join(f'<td style="{CELL}">{cell}</td>' for cell in cells)
    return f'<tr style="background:none">{columns}</tr>'


def _line(text: str) -> str:
    return f"<div>{_text(text)}</div>" if text else ""


def _coloured(status: str, text: str) -> str:
    colour = COLOURS.get(status)
    # The text keeps the colour of the page, whose contrast is the page's business; the mark beside it has its own.
    mark = "" if colour is None else f'<span aria-hidden="true" style="color:{colour}">&#9679;</span> '
    return f"{mark}{_text(text)}"


def _bar(fraction: float | None, name: str, status: str) -> str:
    colour = COLOURS.get(status, "currentColor")
    track = f"{TRACK};border:1px solid {colour}"
    label = f'role="progressbar" aria-label="{_text(name)}" aria-valuemin="0" aria-valuemax="100"'
    if fraction is None:
        return f'<span {label} style="{track};border-style:dashed"></span>'
    whole = int(min(max(fraction, 0.0), 1.0) * 100)
    full = f'<span style="display:block;width:{whole}%;height:100%;background:{colour}"></span>'
    return f'<span {label} aria-valuenow="{whole}" style="{track}">{full}</span>'


def _text(text: str) -> str:
    """A text as HTML that is that text, and cut where it is too long."""
    clean = printable(text)
    return html.escape(clean if len(clean) <= MOST_TEXT else clean[: MOST_TEXT - 1] + "\N{HORIZONTAL ELLIPSIS}")
