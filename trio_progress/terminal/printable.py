"""Text that others wrote, made safe to show in a terminal.

Titles, messages, file names and the contents of files reach a terminal through this module. A terminal obeys escape
sequences: one can overwrite lines above, rename the window or answer on the user's behalf; and a bidirectional control
can make a line read as something that it is not.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

# The sequences of ECMA-48 (section 5.4 and 8.3): CSI ... final byte, and the control strings OSC, DCS, SOS, PM and APC
# up to their terminator. They are removed whole, so that no "[31m" stays in a title; a malformed one loses its control
# characters one by one below, which makes the result safe. As in a terminal, a control string ends where another one
# begins: so each character is read once, however many openers nothing closes. The possessive `*+` never backtracks.
_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*+[ -/]*+[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\x9d\x90\x98\x9e\x9f]*+(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*+[0-~]"
)

# Format characters that writing needs: without the joiners, Persian, Hindi and emoji are misspelt. They reorder and
# hide nothing.
_KEPT = frozenset("\u200c\u200d")

# Line breaks become a space: the result must be one line.
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
    """A text of any length as one line that a terminal can only display, never obey.

    Escape sequences, control characters and format characters (bidirectional controls among them) are removed, line
    breaks and tabs become spaces, and lone surrogates the replacement character. To keep lines, split the text first.
    """
    if text.isprintable():
        return text
    return "".join(map(_shown, _SEQUENCE.sub("", text)))
