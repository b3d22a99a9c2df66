"""The spans of one attempt: its own, and one for each phase that a block or a hand-over begins.

1. The attempt's span is a child of the span that was current where its session was entered, and is linked to the
   attempt before it, wherever that ran: each stored record has the `traceparent` of its attempt.
2. While a block of the session or of a phase runs, its span is the current one of its task, and of the tasks that are
   started there. So spans of other libraries lie within it, and it within theirs.
3. A phase's span lies within that of the phase above, as the tree of phases has it; but where a span of somebody else
   is current, within that one.
4. Who traces never hurts the work: what fails here is logged once, and nothing more of the attempt is begun. What was
   begun is ended all the same, and no context of ours is left behind.
5. What a span says of time is the wall clock's when the attempt began, and goes on by a clock that nobody sets. So none
   lasts an hour, or less than nothing, because the wall clock was set meanwhile.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar, final

import msgspec
from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.trace import Link, SpanContext, Status, StatusCode, TraceFlags

from ..session.current import current_session
from ..telemetry.logs import log_event

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.util.types import AttributeValue

    from ..state.phase import PhaseNode
    from ..state.session import SessionState

P = ParamSpec("P")
T = TypeVar("T")

OURS: Final = contexts.create_key("trio_progress-span")
"""In a context, the span of ours that was made current with it."""

PREFIX: Final = "trio_progress."

TIMED_OUT: Final = "timeout"
"""The `error.type` of an attempt that has timed out, whose error has no type."""

MOST_VALUES: Final = 32
"""Attributes of one event; more of them are left out."""

_TRACEPARENT: Final = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
"""W3C Trace Context, section 3.2, version 00."""


def traceparent(of: SpanContext) -> str:
    """A span's context as W3C writes it."""
    return f"00-{of.trace_id:032x}-{of.span_id:016x}-{of.trace_flags:02x}"


def span_context(text: str | None) -> SpanContext | None:
    """What `traceparent()` has written; None for what is no such thing: it may be read from a store."""
    found = None if text is None else _TRACEPARENT.fullmatch(text)
    if found is None:
        return None
    trace_id, span_id, flags = (int(part, 16) for part in found.groups())
    read = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
    return read if read.is_valid else None


def _safely(
    method: Callable[Concatenate[AttemptSpans, P], T],
) -> Callable[Concatenate[AttemptSpans, P], T | None]:
    """Rule 4."""

    @wraps(method)
    def call(self: AttemptSpans, /, *args: P.args, **kwargs: P.kwargs) -> T | None:
        try:
            return method(self, *args, **kwargs)
        except Exception as error:
            if self.failed:
                return None
            self.failed = True
            text = "session %r cannot be traced any further; the work goes on"
            log_event(logging.ERROR, "tracing_failed", text, self.session_id, error=error, session=self.session_id)
            return None

    return call


@final
class PhaseSpan:
    """The span of one attempt of a phase."""

    __slots__ = ("attempt", "context", "error", "outer", "span")

    def __init__(self, span: trace.Span, context: Context, attempt: int) -> None:
        self.span = span
        self.context = context
        self.attempt = attempt
        self.outer: Context | None = None
        """The context that its block was entered in; None where there is no block."""
        self.error: BaseException | None = None


@final
class AttemptSpans:
    """The spans of one attempt of a session.

    Args:
        tracer: Makes them.
        state: The session's.
    """

    __slots__ = ("_ahead", "_context", "_emitted", "_outer", "_phases", "_span", "_state", "_tracer", "failed")

    def __init__(self, tracer: trace.Tracer, state: SessionState) -> None:
        self._tracer = tracer
        self._state = state
        self._span: trace.Span = trace.INVALID_SPAN
        self._ahead = time.time_ns() - time.monotonic_ns()
        """Nanoseconds by which the wall clock was ahead of the monotonic one."""
        self._context: Context = contexts.get_current()
        self._outer: Context | None = None
        self._phases: dict[PhaseNode, PhaseSpan] = {}
        self._emitted = state.event_log.newest
        """The number of the newest event that is on the span, or was there before."""
        self.failed = False
        """Whether it is not traced any further."""

    @property
    def session_id(self) -> str:
        """The session's id."""
        return self._state.id

    def _now(self) -> int:
        """Nanoseconds since 1970; rule 5."""
        return time.monotonic_ns() + self._ahead

    # What the session tells

    @_safely
    def begin(self, before: str | None) -> str | None:
        """Begins the attempt's span; returns its `traceparent`."""
        state, earlier = self._state, span_context(before)
        attributes: dict[str, AttributeValue] = {
            f"{PREFIX}session.id": state.id,
            f"{PREFIX}session.title": state.title,
            f"{PREFIX}session.attempt": state.attempt,
            **{f"{PREFIX}label.{name}": value for name, value in state.labels.items()},
        }
        if state.pipeline_name is not None:
            attributes[f"{PREFIX}pipeline"] = state.pipeline_name
        self._span = span = self._tracer.start_span(
            state.pipeline_name or "session",
            links=[] if earlier is None else [Link(earlier, {f"{PREFIX}link": "previous attempt"})],
            attributes=attributes,
            start_time=self._now(),
        )
        self._context = _with(span, contexts.get_current())
        found = span.get_span_context()
        return traceparent(found) if found.is_valid else before

    @_safely
    def attach(self) -> None:
        """Makes it the current one."""
        self._outer = contexts.get_current()
        contexts.attach(self._context)

    @_safely
    def detach(self) -> None:
        """Makes that the current one which was so before."""
        if self._outer is not None:
            contexts.attach(self._outer)

    @_safely
    def entered(self, node: PhaseNode) -> None:
        """Begins a phase's span, and makes it the current one."""
        if self.failed:
            return
        begun = self._begin(node)
        begun.outer = contexts.get_current()
        contexts.attach(begun.context)

    @_safely
    def left(self, node: PhaseNode, error: BaseException | None) -> None:
        """Makes that the current one which was so before the block, and ends the spans of what has ended."""
        found = self._phases.get(node)
        if found is not None:
            found.error = error
            # Not by the token of `attach()`: blocks may be left by another task, or in another order.
            if found.outer is not None and contexts.get_current() is found.context:
                contexts.attach(found.outer)
        self._end_phases()

    @_safely
    def handed_over(self, node: PhaseNode) -> None:
        """Ends the spans of what has ended, and begins that of the phase."""
        self._end_phases()
        if node.status == "running" and node not in self._phases and not self.failed:
            self._begin(node)

    @_safely
    def emitted(self, name: str, data: Any) -> None:
        """Adds an event to the attempt's span; not what came late, or was dropped."""
        newest = self._state.event_log.newest
        if newest != self._emitted and not self.failed:
            self._emitted = newest
            self._span.add_event(name, _values(data), self._now())

    @_safely
    def end(self) -> None:
        """Ends all spans."""
        state, span = self._state, self._span
        self._end_phases()
        span.set_attribute(f"{PREFIX}session.status", state.status)
        span.set_attribute(f"{PREFIX}session.epoch", state.epoch)
        if state.status in ("failed", "timed_out"):
            error = state.error
            span.set_attribute("error.type", TIMED_OUT if error is None else error.type)
            # What viewers are shown: an exception's own message is for the log.
            span.set_status(Status(StatusCode.ERROR, state.status if error is None else error.message or error.type))
        span.end(self._now())

    # Phases

    def _begin(self, node: PhaseNode) -> PhaseSpan:
        context = self._within(node)
        attributes: dict[str, AttributeValue] = {
            f"{PREFIX}session.id": self._state.id,
            f"{PREFIX}phase.path": list(node.path),
            f"{PREFIX}phase.attempt": node.attempt,
        }
        span = self._tracer.start_span(node.name, context, attributes=attributes, start_time=self._now())
        self._phases[node] = begun = PhaseSpan(span, _with(span, context), node.attempt)
        return begun

    def _within(self, node: PhaseNode) -> Context:
        """Rule 3."""
        here = contexts.get_current()
        span = trace.get_current_span(here)
        if current_session().id == self._state.id and contexts.get_value(OURS, here) is not span:
            return here
        above = None if node.parent is None else self._phases.get(node.parent)
        return self._context if above is None else above.context

    def _end_phases(self) -> None:
        for node, begun in list(self._phases.items()):
            if node.status != "running" or node.attempt != begun.attempt:
                del self._phases[node]
                _end_phase(node, begun, self._now())


def _with(span: trace.Span, context: Context) -> Context:
    return contexts.set_value(OURS, span, trace.set_span_in_context(span, context))


def _end_phase(node: PhaseNode, begun: PhaseSpan, at: int) -> None:
    span = begun.span
    span.set_attribute(f"{PREFIX}phase.status", node.status)
    span.set_attribute(f"{PREFIX}phase.done", node.done)
    if node.total is not None:
        span.set_attribute(f"{PREFIX}phase.total", node.total)
    if node.unit is not None:
        span.set_attribute(f"{PREFIX}phase.unit", node.unit)
    if node.status == "failed":
        kind = "_OTHER" if begun.error is None else type(begun.error).__qualname__
        span.set_attribute("error.type", kind)
        span.set_status(Status(StatusCode.ERROR))
    span.end(at)


def _values(data: Any) -> dict[str, AttributeValue]:
    """The data of an event as attributes: the values of an object by their names, all else as JSON."""
    if data is None:
        return {}
    if not isinstance(data, dict):
        return {"data": _value(data)}
    return {name: _value(value) for name, value in list(data.items())[:MOST_VALUES]}


def _value(value: Any) -> AttributeValue:
    return value if isinstance(value, (str, bool, int, float)) else msgspec.json.encode(value).decode()
