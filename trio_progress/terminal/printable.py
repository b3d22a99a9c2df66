"""Text that others wrote, made fit to be shown.

Titles, messages, file names and the contents of files reach a terminal through this module. A terminal obeys
what it is sent: an escape sequence can move the cursor over what was already said, rename the window or answer
on the user's behalf, and a bidirectional control can make a line read as something it is not.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

__all__ = ["printable"]

# The sequences of ECMA-48 (section 5.4 and 8.3): CSI ... final byte, and the control strings OSC, DCS, SOS, PM
# and APC up to their terminator. Taken out whole, so that no "[31m" is left standing in a title; what is not
# well-formed loses its control characters one by one below, which is what makes the result safe. As in a terminal, a
# control string is broken off where another one begins: so each character is passed over once, however many openers
# there are that nothing closes. The possessive `*+` never goes back over what it has taken.
_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*+[ -/]*+[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\x9d\x90\x98\x9e\x9f]*+(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*+[0-~]"
)

# Format characters that writing needs: the joiners, without which Persian, Hindi and emoji are misspelt. They
# neither reorder nor hide anything.
_KEPT = frozenset("\u200c\u200d")

# Breaks of a line become one space: what is cleaned is one line, and must not be able to begin another.
_BREAKS = frozenset("\t\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029")


@lru_cache(maxsize=4096)
def _shown(character: str) -> str:
    if character in _BREAKS:
        return " "
    if character in _KEPT:
        return character
    category = unicodedata.category(character)
    if category == "Cs":
        # Lone surrogates (undecodable file names hold them) cannot be encoded: printing them would raise.
        return "\ufffd"
    return "" if category in ("Cc", "Cf") else character


def printable(text: str) -> str:
    """`text` as one line that a terminal can only display, never obey.

    Escape sequences, control characters and format characters (bidirectional controls among them) are left out,
    line breaks and tabs become spaces, and lone surrogates the replacement character. The result never holds a
    line break, so what is meant to keep its lines is split first. Text that is clean already is returned as is.

    Args:
        text: Anything, of any length.
    """
    if text.isprintable():
        return text
    return "".join(map(_shown, _SEQUENCE.sub("", text)))
