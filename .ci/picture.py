"""Draws the picture in README: a moment of a real run of the demo, as the terminal shows it.

Run it as `python .ci/picture.py .readme/demo.svg`.
"""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path

import trio
from rich.console import Console
from rich.terminal_theme import MONOKAI

from trio_progress import CustomEvent, Snapshot, open_tracker
from trio_progress.demo.corpus import checked_folder, standard_library
from trio_progress.demo.engine import PIPELINE, research
from trio_progress.terminal.display_model import event_line
from trio_progress.terminal.layout import Frame, View, draw

QUESTION = "How does asyncio cancel a task?"
MOMENT = 0.45
WIDTH = 104

# As rich has it, without the fonts that it would have the viewer's browser fetch from elsewhere.
FORMAT = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, monospace; font-size: {char_height}px;
line-height: {line_height}px; font-variant-east-asian: full-width; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}<g class="{unique_id}-matrix">{matrix}</g></g>
</svg>
"""


async def moment() -> View:
    """The demo's session when it is about half done, with its last events."""
    events: list[str] = []
    async with open_tracker() as tracker, trio.open_nursery() as nursery:

        async def follow(task_status: trio.TaskStatus[None]) -> None:
            async with tracker.subscribe("demo", wait=True) as messages:
                task_status.started()
                async for message in messages:
                    events.extend([event_line(message)] if isinstance(message, CustomEvent) else [])

        await nursery.start(follow)
        taken: list[Snapshot] = []

        async def watch() -> None:
            async with tracker.watch("demo", wait=True) as snapshots:
                async for snapshot in snapshots:
                    if not taken and snapshot.progress >= MOMENT and snapshot.eta:
                        taken.append(snapshot)
                        events[:] = events[-3:]
                        nursery.cancel_scope.cancel()

        nursery.start_soon(watch)
        async with tracker.session("demo", PIPELINE, title=QUESTION) as session:
            await research(session, QUESTION, checked_folder(standard_library()))
    return View(taken[0], events)


def main() -> None:
    """Writes the picture to the file that is named."""
    view = trio.run(moment)
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for line in draw([view], Frame(WIDTH, 40, time.time())):
        console.print(line)
    picture = console.export_svg(title="trio-progress demo", theme=MONOKAI, code_format=FORMAT, unique_id="demo")
    Path(sys.argv[1]).write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
