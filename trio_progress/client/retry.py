"""What follows from how a connection to a server has ended: another one, or an error for whoever reads."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

import trio

from ..errors import ProgressError, ProtocolError

Token: TypeAlias = str | Callable[[], str | Awaitable[str]] | None

_STOP: Final = frozenset({1003, 1007, 1009})
_REJECTED: Final = frozenset({400, 401, 403, 404, 405, 421, 426})
"""HTTP statuses that the same request would be given again."""


class AgainError(Exception):
    """The connection has ended, and another one may do better. `soon`: without a pause."""

    def __init__(self, why: str, *, soon: bool = False) -> None:
        super().__init__(why)
        self.soon = soon


def first(group: BaseExceptionGroup[Any]) -> Exception:
    """Any one exception of a group of them: they are all of one connection that has broken."""
    leaf: BaseException = group
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    assert isinstance(leaf, Exception)
    return leaf


def closed(error: Any, token: Token) -> Exception:
    """What follows from how the server has closed a WebSocket, and from what it was shown."""
    reason = error.reason
    code = 1006 if reason is None else reason.code
    text = f"closed with {code}" + (f" ({reason.reason})" if reason is not None and reason.reason else "")
    if code == 4500 and token is None:
        return ProtocolError(f"the server wants a token, and none was given: {text}")
    if code == 4005 and isinstance(token, str):
        # It would be shown the same one for ever.
        return ProtocolError(f"the server refuses: {text}; a callable as `token` is asked for one each time")
    if code in _STOP or 4500 <= code <= 4999:
        return ProtocolError(f"the server refuses: {text}")
    return AgainError(text, soon=code == 4005)


def judged(error: Exception, patience: float) -> Exception:
    """Whether a failure is worth another connection."""
    import h11
    from trio_websocket import ConnectionRejected, HandshakeError

    if isinstance(error, (AgainError, ProgressError)):
        return error
    if isinstance(error, ConnectionRejected):
        if error.status_code in _REJECTED:
            return ProtocolError(f"the server refuses: HTTP {error.status_code}")
        return AgainError(f"HTTP {error.status_code}")
    if isinstance(error, ssl.SSLCertVerificationError):
        return error
    if isinstance(error, trio.TooSlowError):
        return AgainError(f"it does not answer within {patience:g} s")
    if isinstance(error, h11.ProtocolError):
        return AgainError(f"it does not answer as a WebSocket: {error}")
    if isinstance(error, (OSError, trio.BrokenResourceError, trio.ClosedResourceError, HandshakeError)):
        return AgainError(str(error) or type(error).__name__)
    return error
