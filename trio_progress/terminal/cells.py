"""How many columns of a terminal a text takes, and texts cut and padded to so many. Standard library only.

Characters that stand together (a letter and its marks, an emoji and what modifies it, the two halves of a flag) are
measured, kept and left out together. Where terminals differ, the larger width counts: a line that is a column
short is harmless, one that is too long breaks.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

_JOINER: Final = "\u200d"
_AS_EMOJI: Final = "\ufe0f"


def cells(text: str) -> int:
    """How many columns a text takes that has passed `printable`."""
    if text.isascii():
        return len(text)
    return sum(width for _, width in _pieces(text))


def fit(text: str, width: int) -> int:
    """How many characters from the beginning fit into `width` columns."""
    if text.isascii():
        return min(len(text), max(width, 0))
    kept = 0
    for end, taken in _pieces(text):
        width -= taken
        if width < 0:
            break
        kept = end
    return kept


def cut(text: str, width: int, ellipsis: str = "…") -> str:
    """The text, shortened to at most `width` columns."""
    # No character takes more than two columns, so most texts need not be measured.
    if 2 * len(text) <= width or cells(text) <= width:
        return text
    room = width - cells(ellipsis)
    return text[: fit(text, room)].rstrip() + ellipsis if room >= 0 else ""


def column(text: str, width: int, ellipsis: str = "…") -> str:
    """The text, cut or padded to `width` columns."""
    return padded(cut(text, width, ellipsis), width)


def indent(depth: int, width: int) -> str:
    """Spaces before a phase of this depth, on a line of this width: deep trees must leave room for names."""
    return "  " * min(depth, max(width // 8, 1))


def padded(text: str, width: int) -> str:
    """The text with spaces behind it, up to `width` columns."""
    return text + " " * (width - cells(text))


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    """For all characters that stand together: where they end, and their width."""
    width = 0
    joined = half = False
    for at, character in enumerate(text):
        own = _width(character)
        if character == _AS_EMOJI:
            width = max(width, 2)
        elif own == 0:
            pass
        elif half and _is_half_flag(character):
            half = False
            continue
        elif width == 2 and (joined or "\U0001f3fb" <= character <= "\U0001f3ff"):
            pass
        elif own == 1 and unicodedata.category(character) == "Mc":
            width += 1
        else:
            if at:
                yield at, width
            width = own
            half = _is_half_flag(character)
        joined = character == _JOINER
    if text:
        yield len(text), width


def _is_half_flag(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


@lru_cache(maxsize=4096)
def _width(character: str) -> int:
    if character.isascii():
        return 1
    # Vowels and finals of Hangul that are letters of their own join the letter before them.
    if unicodedata.category(character) in ("Mn", "Me", "Cf") or "\u1160" <= character <= "\u11ff":
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" or _is_half_flag(character) else 1
