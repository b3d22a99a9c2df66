"""The retry policy: what follows from how a connection has ended, another one or an error for whoever reads."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, Final

import trio

from ..errors import ProgressError, ProtocolError

if TYPE_CHECKING:
    from .credentials import Token

_FINAL_CODES: Final = frozenset({1003, 1007, 1009})
_FINAL_STATUSES: Final = frozenset({400, 401, 403, 404, 405, 421, 426})
"""HTTP statuses that the same request would be given again."""


class RetryableError(Exception):
    """The connection has ended, and another one may do better. `soon`: without a pause."""

    def __init__(self, why: str, *, soon: bool = False) -> None:
        super().__init__(why)
        self.soon = soon


def first_error(group: BaseExceptionGroup[Any]) -> Exception:
    """Any one exception of a group of them: they are all of one connection that has broken."""
    leaf: BaseException = group
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    assert isinstance(leaf, Exception)
    return leaf


def classify(error: Exception, token: Token, patience: float) -> Exception:
    """A `RetryableError` where another connection may do better, else the error to raise to the reader.

    Args:
        error: How the connection has ended.
        token: What the server was shown.
        patience: Seconds that the server had to answer in.
    """
    import h11
    from trio_websocket import ConnectionClosed, ConnectionRejected, HandshakeError

    if isinstance(error, (RetryableError, ProgressError, ssl.SSLCertVerificationError)):
        return error
    if isinstance(error, ConnectionClosed):
        return _classify_close(error.reason, token)
    if isinstance(error, ConnectionRejected):
        if error.status_code in _FINAL_STATUSES:
            return ProtocolError(f"the server refuses: HTTP {error.status_code}")
        return RetryableError(f"HTTP {error.status_code}")
    if isinstance(error, trio.TooSlowError):
        return RetryableError(f"it does not answer within {patience:g} s")
    if isinstance(error, h11.ProtocolError):
        return RetryableError(f"it does not answer as a WebSocket: {error}")
    if isinstance(error, (OSError, trio.BrokenResourceError, trio.ClosedResourceError, HandshakeError)):
        return RetryableError(str(error) or type(error).__name__)
    return error


def _classify_close(reason: Any, token: Token) -> Exception:
    code = 1006 if reason is None else reason.code
    text = f"closed with {code}" + (f" ({reason.reason})" if reason is not None and reason.reason else "")
    if code == 4500 and token is None:
        return ProtocolError(f"the server wants a token, and none was given: {text}")
    if code == 4005 and isinstance(token, str):
        # It would be shown the same one for ever.
        return ProtocolError(f"the server refuses: {text}; a callable as `token` is asked for one each time")
    if code in _FINAL_CODES or 4500 <= code <= 4999:
        return ProtocolError(f"the server refuses: {text}")
    return RetryableError(text, soon=code == 4005)
