"""How a session ended, read from how its scope was left: nobody has to say it."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import trio

from ..protocol.snapshot import ErrorInfo, PhaseStatus, SessionStatus
from ..state import checks
from ..state.limits import Limits
from ..telemetry.logs import log_event

if TYPE_CHECKING:
    from ..state.pipeline import Pipeline

_SOFT = (trio.Cancelled, KeyboardInterrupt, SystemExit, GeneratorExit)

# A nursery whose body was interrupted cancels its tasks as "nursery" and gives the exception's repr as the
# reason; it is all that a session in one of those tasks can know of the Ctrl-C.
_INTERRUPTED_NURSERY = re.compile(r"raised exception .*\bKeyboardInterrupt\(", re.DOTALL)


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions in a group, however nested; the exception itself where it is none."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


def only_cancelled(error: BaseException | None) -> bool:
    """Whether what came out of a scope is a cancellation from outside and nothing else."""
    return error is not None and all(isinstance(leaf, trio.Cancelled) for leaf in leaves(error))


def hard_leaves(error: BaseException) -> list[BaseException]:
    """What came out of a scope beside cancellations and interrupts."""
    return [leaf for leaf in leaves(error) if not isinstance(leaf, _SOFT)]


def conclude(error: BaseException | None, cancelled: trio.Cancelled | None) -> SessionStatus:
    """The status of a session whose body was left with `error`.

    Args:
        error: What came out of the session's own cancel scope; None when the body returned.
        cancelled: Where `error` is nothing but `Cancelled`: what the enclosing scope raised when it was
            asked. The exception that came out may have come from an inner scope's other reason.
    """
    if error is None:
        return "completed"
    if any(isinstance(leaf, (KeyboardInterrupt, SystemExit)) for leaf in leaves(error)):
        return "interrupted"  # Whatever else came out: what is torn down in the middle often raises.
    hard = hard_leaves(error)
    if hard:
        return "timed_out" if all(isinstance(leaf, trio.TooSlowError) for leaf in hard) else "failed"
    if cancelled is None:
        return "cancelled"
    if cancelled.source == "deadline":
        return "timed_out"
    if cancelled.source in ("KeyboardInterrupt", "shutdown"):
        return "interrupted"
    if cancelled.source == "nursery" and _INTERRUPTED_NURSERY.search(cancelled.reason or ""):
        return "interrupted"
    return "cancelled"


def describe(
    status: SessionStatus, error: BaseException | None, reason: str | None, pipeline: Pipeline | None
) -> ErrorInfo | None:
    """What viewers are shown of how a session ended: types, and a text only where the pipeline gives one."""
    if status == "cancelled":
        return None if reason is None else ErrorInfo(type="Cancelled", message=reason)
    if status not in ("failed", "timed_out", "interrupted"):
        return None
    if error is None or only_cancelled(error):
        return ErrorInfo(type="DeadlineExceeded") if status == "timed_out" else None
    if status == "interrupted" and not hard_leaves(error):
        return None
    told = [leaf for leaf in leaves(error) if not isinstance(leaf, trio.Cancelled)]
    kinds = dict.fromkeys(type(leaf).__name__ for leaf in told)
    # A nursery's group with one error in it has no text of its own that is worth showing.
    text = _error_text(told[0] if len(told) == 1 else error, pipeline)
    return ErrorInfo(type=", ".join(list(kinds)[:5]), message=text)


def _error_text(error: BaseException, pipeline: Pipeline | None) -> str | None:
    if pipeline is None or pipeline.error_text is None:
        return None
    try:
        text = pipeline.error_text(error)
        return None if text is None else checks.message("error_text", str(text), Limits())
    except Exception as raised:
        what = "the error_text of pipeline %r raised"
        log_event(logging.ERROR, "error_text_raised", what, pipeline.name, error=raised, pipeline=pipeline.name)
        return None


def phase_end(error: BaseException | None) -> PhaseStatus:
    """What becomes of a phase whose scope is left with `error`."""
    if error is None:
        return "completed"
    return "cancelled" if all(isinstance(leaf, _SOFT) for leaf in leaves(error)) else "failed"
