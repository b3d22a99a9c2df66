"""Widths are columns of the terminal: what is wide, what has no width of its own, and what stands together."""

from __future__ import annotations

import msgspec
import pytest
from rich.cells import cell_len

from tests.unit.terminal.test_words import NOW, phase, snapshot
from trio_progress import Snapshot
from trio_progress.terminal.cells import cells, cut, fit, padded
from trio_progress.terminal.layout import Frame, View, draw

TITLES = {
    "plain": "download of the corpus",
    "chinese": "检索结果的分析与摘要的撰写",
    "korean": "데이터를다운로드하고있습니다요",
    "rockets": "🚀" * 12,
    "variation": "⚙\ufe0f settings ⚙\ufe0f",
    "joined": "👩\u200d👩\u200d👧 family 👩\u200d👩\u200d👧",
    "flags": "🇩🇪🇫🇷🇯🇵 flags",
    "marks": "e\u0301" * 20,
    "skin": "👍🏽👍🏽👍🏽",
    "hindi": "खोज परिणामों का विश्लेषण",
    "thai": "กำลังดาวน์โหลดข้อมูล",
}


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("", 0), ("abc", 3), ("文字 a\u0301", 6), ("🚀", 2), ("⚙\ufe0f", 2), ("⚙", 1), ("1\ufe0f\u20e3", 2),
        ("👩\u200d👩\u200d👧", 2), ("👍🏽", 2), ("🇩🇪", 2), ("🇩🇪🇫🇷", 4), ("🇩", 2), ("\u0301", 0), ("각", 2),
        ("\u1100\u1161\u11a8", 2), ("का", 2),
    ],
)  # fmt: skip
def test_what_stands_together_is_measured_together(text: str, width: int) -> None:
    assert cells(text) == width


def test_what_stands_together_is_never_divided() -> None:
    for text in TITLES.values():
        for width in range(45):
            kept = text[: fit(text, width)]
            assert cells(kept) <= width
            assert cells(kept) + cells(text[len(kept) :]) == cells(text)
            assert cells(cut(text, width)) <= width
            assert cells(padded(cut(text, width), width)) == width
    assert cut("🇩🇪🇫🇷", 3) == "🇩🇪…"
    assert cut("e\u0301e\u0301e\u0301", 2) == "e\u0301…"
    assert cut("文字", 0) == ""


def titled(title: str) -> Snapshot:
    state = snapshot(phase(title=title, message=title, unit=title), phase(name="x"))
    return msgspec.structs.replace(state, title=title)


@pytest.mark.parametrize("title", TITLES.values(), ids=list(TITLES))
def test_a_title_is_whole_where_there_is_room_and_no_line_is_wider_than_the_window(title: str) -> None:
    state = titled(title)
    assert title in draw([View(state)], Frame(120, 10, NOW.timestamp()))[0].plain
    for width in (*range(1, 32), 40, 60, 79, 80, 120, 200):
        for text in draw([View(state, [title])], Frame(width, 10, NOW.timestamp())):
            assert cells(text.plain) <= width
            assert cell_len(text.plain) <= width
