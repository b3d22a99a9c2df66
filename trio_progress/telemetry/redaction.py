"""Secrets taken out of text: of whatever says a URL, to a person, a log or a traceback.

1. What stands between `://` and the last `@` of a word is replaced whole. A password that was not escaped may have
   any of `/ ? # @ :` in it, so where it ends can only be told from the end; too much is hidden rather than too little.
2. So is the value of an option whose name says that it is secret (`?password=...`), with what may be the rest of a
   password that was not escaped: behind a `#`, or behind an `&` that no further option follows.
3. So is what stands before an `@` where a word begins as the URL of a store does and goes on otherwise (`redis:pw@h`).
4. Time is linear in the text, which others may have written.
"""

from __future__ import annotations

import re
from typing import Final

HIDDEN: Final = "***"
"""What stands in a secret's place."""

_WORD: Final = re.compile(r"\S+")

_OPTION: Final = re.compile(
    r"([?&;][A-Za-z0-9_.-]{0,40}(?:passw|passphrase|pwd|secret|token|credential|api_?key|auth)[A-Za-z0-9_.-]{0,40}=)"
    r"[^&;\s\"']+(?:[&;][^&;=\s\"']++(?=[&;\s\"']|$))*",
    re.IGNORECASE,
)

_BEGINNING: Final = re.compile(r"redis[a-z-]{0,20}[:/]{1,3}", re.IGNORECASE)


def redacted(text: str) -> str:
    """The text without the passwords, users and secret options of the URLs in it; text without any is returned as is.

    Args:
        text: Anything, of any length: a URL, or what was written about one.
    """
    if "@" in text:
        text = _WORD.sub(_without_user, text)
    if "=" in text and ("?" in text or "&" in text or ";" in text):
        text = _OPTION.sub(rf"\1{HIDDEN}", text)
    return text


def redacted_url(url: str) -> str:
    """A URL without its secrets, well-formed or not. All of the text is taken for it: a password may have a space."""
    if "://" not in url and "@" in url and not url.startswith("sqlite:"):
        return f"{HIDDEN}@{url.rpartition('@')[2]}"
    return redacted(_without_user_of(url))


def has_secret(url: str) -> bool:
    """Whether a URL holds a user, a password or a secret option."""
    return redacted_url(url) != url


def _without_user(match: re.Match[str]) -> str:
    word = match[0]
    if "@" not in word:
        return word
    mistyped = None if "://" in word else _BEGINNING.search(word)
    if mistyped is not None:
        _, at, host = word[mistyped.end() :].rpartition("@")
        return f"{word[: mistyped.end()]}{HIDDEN}{at}{host}" if at else word
    return _without_user_of(word)


def _without_user_of(word: str) -> str:
    scheme, separator, rest = word.partition("://")
    user, at, host = rest.rpartition("@")
    return f"{scheme}{separator}{HIDDEN}{at}{host}" if separator and at and user else word
