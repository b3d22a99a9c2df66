"""`instrument()`: has a tracker's sessions traced."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from opentelemetry import trace

from .._version import __version__
from ..tracker import ProgressTracker, runtime_of
from .spans import AttemptSpans

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider


def instrument(tracker: ProgressTracker, tracer_provider: TracerProvider | None = None) -> None:
    """Has OpenTelemetry trace the sessions that the tracker opens from now on; needs the extra `otel`.

    Each attempt of a session is a span, linked to the attempt before, whichever process that ran in; each phase is a
    span within it; custom events are its events. The block of a session or phase has its span as the current one, so
    that spans of other libraries lie within it. What fails here is logged and ends the tracing, not the work.

    Args:
        tracker: Whose sessions. Calling this again has later sessions traced by the newer provider.
        tracer_provider: Makes the spans; the global one unless given.

    Raises:
        TypeError: `tracker` is none.
    """
    if not isinstance(tracker, ProgressTracker):
        raise TypeError(f"tracker must be a ProgressTracker, not {tracker!r:.200}")
    tracer = trace.get_tracer("trio_progress", __version__, tracer_provider)
    runtime_of(tracker).tracing = partial(AttemptSpans, tracer)
