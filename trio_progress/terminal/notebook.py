"""The display in a notebook: one output of the cell, which is replaced as the work goes on."""

from __future__ import annotations

import importlib
import sys
import time
import uuid
from typing import TYPE_CHECKING, Any, Final, final

import trio

from .display_model import OwnerClock
from .html import session_html
from .plain_lines import line

if TYPE_CHECKING:
    from .display_model import DisplayModel

MOST_SHOWN: Final = 10
"""Sessions in one output; those that run come first."""

EVERY: Final = 0.25
"""Seconds between two messages to the notebook, at least; the last state is always sent."""


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook. IPython is not loaded to find that out."""
    interactive: Any = sys.modules.get("IPython")
    shell = None if interactive is None else interactive.get_ipython()
    return shell is not None and getattr(shell, "kernel", None) is not None


@final
class NotebookScreen:
    """An output of the cell in which the display was opened. What it publishes is handed to a thread of the kernel."""

    writer = None

    def __init__(self) -> None:
        self._id: Final = uuid.uuid4().hex
        self._shown: dict[str, str] | None = None
        self._shown_at = float("-inf")
        self._time = OwnerClock()

    def show(self, model: DisplayModel, *, final: bool) -> None:
        """Replaces the output, where it is to be another one."""
        now = trio.current_time()
        if now - self._shown_at < EVERY and not final:
            model.changed = True
            return
        model.evicted.clear()  # There is room for the newest only.
        model.unlisted = 0
        content = self._content(model, now)
        if content == self._shown:
            return
        published: Any = importlib.import_module("IPython.display")
        publish = published.display if self._shown is None else published.update_display
        publish(content, raw=True, display_id=self._id)
        self._shown, self._shown_at = content, now

    def _content(self, model: DisplayModel, monotonic: float) -> dict[str, str]:
        """What there is to see, for a page and for a front end that shows text."""
        ordered, wall = model.ordered(), time.time()
        html, text = [], []
        for snapshot in ordered[:MOST_SHOWN]:
            now = self._time.now(snapshot, monotonic, wall)
            html.append(session_html(snapshot, now))
            text.append(line(snapshot, now=now))
        self._time.keep(model.snapshots)
        if len(ordered) > MOST_SHOWN:
            text.append(f"+ {len(ordered) - MOST_SHOWN} more sessions")
            html.append(f"<div>{text[-1]}</div>")
        return {"text/html": "".join(html), "text/plain": "\n".join(text)}

    def close(self) -> None:
        """Leaves the output where it is."""
