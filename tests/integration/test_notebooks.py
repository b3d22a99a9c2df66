"""A real kernel runs the cells of a notebook: what it shows meanwhile, and what is left there."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.exhaustive]

TRIO_RUN = """
import trio
from trio_progress import open_progress

async def main():
    async with open_progress("import", {"fetch": 3, "load": 1}, session_id="i-1") as session:
        with session.phase("fetch", total=20) as phase:
            for _ in phase.track(range(20)):
                await trio.sleep(0.05)
        session.skip_phase("load", "nothing <b>new</b>")

trio.run(main)
"""
FIRST = """
%autoawait trio
"""
AUTOAWAIT = """
from trio_progress import open_tracker, open_display
async with open_tracker() as tracker, open_display(tracker):
    async with tracker.session("a", title="<script>alert(1)</script>") as session:
        with session.phase("count", total=3) as phase:
            for _ in phase.track(range(3)):
                await trio.sleep(0.3)
    snapshot = await tracker.snapshot("a")
    page = await tracker.sessions()
print("done")
"""


@pytest.fixture(scope="module")
def outputs() -> list[list[Any]]:
    """What each cell has put out, and how often its display was sent."""
    from nbclient import NotebookClient

    made: Any = importlib.import_module("nbformat.v4")
    cells = [TRIO_RUN, FIRST, AUTOAWAIT, "snapshot", "page", "session"]
    notebook = made.new_notebook(cells=[made.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    return [cell.outputs for cell in notebook.cells]


def test_the_display_is_one_output_and_its_last_state_stays(outputs: list[list[Any]]) -> None:
    (shown,) = outputs[0]
    assert shown.output_type == "display_data"
    assert 'aria-valuenow="100"' in shown.data["text/html"]
    assert "completed" in shown.data["text/html"]
    assert "import | 100 % | completed" in shown.data["text/plain"]


def test_it_is_so_too_where_cells_await_on_trio(outputs: list[list[Any]]) -> None:
    kinds = sorted(one.output_type for one in outputs[2])
    assert kinds == ["display_data", "stream"]
    html = next(one.data["text/html"] for one in outputs[2] if one.output_type == "display_data")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "<script" not in html
    assert "3/3" in html


@pytest.mark.parametrize("cell", [3, 4, 5], ids=["a snapshot", "a page of sessions", "a session"])
def test_what_a_cell_ends_with_is_drawn(outputs: list[list[Any]], cell: int) -> None:
    (result,) = outputs[cell]
    assert result.output_type == "execute_result"
    assert 'role="progressbar"' in result.data["text/html"]
    assert "&lt;script&gt;" in result.data["text/html"]
