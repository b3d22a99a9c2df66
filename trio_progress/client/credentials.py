"""The token that lets a client in: a text, or a callable that is asked anew for each connection."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import TypeAlias

Token: TypeAlias = str | Callable[[], str | Awaitable[str]] | None


def check_token(token: object) -> None:
    """Checks what is given as `token` before there is a connection.

    Raises:
        ValueError, TypeError: It is none.
    """
    if isinstance(token, str):
        _checked(token)
    elif token is not None and not callable(token):
        raise TypeError("token must be a str, a callable that gives one, or None")


async def authorization(token: Token) -> list[tuple[bytes, bytes]]:
    """The headers that show the token; none without one."""
    if callable(token):
        given = token()
        token = await given if inspect.isawaitable(given) else given
    return [] if token is None else [(b"Authorization", f"Bearer {_checked(token)}".encode())]


def _checked(token: object) -> str:
    if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError("token must be a text of visible ASCII characters, or a callable that gives one")
    return token
