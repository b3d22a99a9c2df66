"""What others wrote reaches a terminal as characters only."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_progress.terminal.printable import printable


@pytest.mark.parametrize(
    ("given_text", "shown"),
    [
        ("plain, übliche, 文字 😀", "plain, übliche, 文字 😀"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;owned\x07title", "title"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b2Jcleared", "cleared"),
        ("a\x1b7b\x1bcc", "abc"),
        ("\x1b[999", "999"),
        ("over\rwritten\nline\tand\x0bmore", "over written line and more"),
        ("\u202egnp.exe", "gnp.exe"),
        ("a\u2066b\u2069c\u200fd\u061ce", "abcde"),
        ("soft\u00adhyphen\ufeff", "softhyphen"),
        ("bell\x07 null\x00 delete\x7f", "bell null delete"),
        ("name\udcff", "name\ufffd"),
        ("می\u200cخواهم 👩\u200d💻", "می\u200cخواهم 👩\u200d💻"),
        ("", ""),
    ],
)
def test_escapes_controls_and_bidi_controls_do_not_reach_the_terminal(given_text: str, shown: str) -> None:
    assert printable(given_text) == shown


def test_an_escape_hidden_in_an_escape_is_not_let_through() -> None:
    assert printable("\x1b\x1b[31m[31mred") == "[31mred"
    assert "\x1b" not in printable("\x1b]0;\x1b[31m\x1b]0;x\x07\x1b")


@given(st.text(st.characters()))
def test_whatever_comes_the_result_is_one_line_of_encodable_visible_text(text: str) -> None:
    shown = printable(text)
    shown.encode()
    assert len(shown.splitlines()) <= 1
    assert not {unicodedata.category(character) for character in shown} & {"Cc", "Cs", "Zl", "Zp"}
    assert not any(unicodedata.category(character) == "Cf" and character not in "\u200c\u200d" for character in shown)
    assert printable(shown) == shown


@given(st.text("\x1b[]0123;m\x07\\P^_ab\x9b\x9c"))
def test_no_order_of_escape_parts_leaves_a_control_character(text: str) -> None:
    assert printable(text).isprintable()
