"""A session as it was at one moment: frozen values that can be kept, compared, encoded and sent."""

from __future__ import annotations

import importlib
import time
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import msgspec

from .clock import datetime_class

if TYPE_CHECKING:
    from datetime import datetime as datetime  # noqa: PLC0414 - given on
else:
    datetime = datetime_class()  # Where this is imported while the time is frozen, the name is a subclass.

SessionStatus: TypeAlias = Literal[
    "queued", "running", "completed", "failed", "cancelled", "timed_out", "interrupted", "lost"
]
PhaseStatus: TypeAlias = Literal["pending", "running", "completed", "failed", "cancelled", "skipped"]
Liveness: TypeAlias = Literal["ok", "stalled", "lost"]

ENDED: frozenset[str] = frozenset({"completed", "failed", "cancelled", "timed_out", "interrupted", "lost"})
"""The session statuses after which nothing comes within an attempt."""

RESUMABLE: frozenset[str] = frozenset({"failed", "cancelled", "timed_out", "interrupted", "lost"})
"""The session statuses that a later attempt can go on from."""


class ErrorInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Why a session did not complete, as far as a viewer may know.

    `type` is the exception's class name, "Cancelled", or "Failure" for `session.fail()`. `message`
    is None unless the pipeline gave a text: messages of exceptions carry keys and addresses, so
    they go to the log only.
    """

    type: str
    message: str | None = None
    details: dict[str, Any] = {}


class Expected(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How long a phase was expected to take in all, and from what that is known."""

    seconds: float
    """From its beginning to its end, in a run as usual."""
    source: Literal["usual", "unit", "given", "weight"]
    """"usual": it took so long in earlier runs; "unit": its units did, and it has `count` of them; "given": the
    pipeline says so; "weight": by its weight, from what is known of the others."""
    runs: int = 0
    """How many earlier runs it is from."""
    unit_seconds: float | None = None
    """Seconds that one of its units usually takes; None: not by units."""
    count: float | None = None
    """How many units it is expected to have; None: not by units."""


class Followed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The session that a phase follows, as it was seen last. Its own phases are to be had under its id."""

    id: str
    status: SessionStatus | None = None
    """None: it has been neither declared nor begun."""
    liveness: Liveness = "ok"
    attempt: int = 0
    """0: it is not known yet."""


class PhaseValues(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a phase says of itself, without its children."""

    name: str
    title: str
    status: PhaseStatus
    attempt: int
    """How often it was entered; 0 while it was not."""
    done: int | float
    total: int | float | None
    """None: how much there is to do is not known (an indeterminate phase)."""
    unit: str | None
    weight: float
    """Its share among its siblings; those of a pipeline sum to 1."""
    fraction: float | None
    """0 to 1, and 1 only once the phase's scope has exited; None: indeterminate."""
    rate: float | None
    """Units a second, smoothed, without the skipped ones; None: not known (yet)."""
    eta: float | None
    """Seconds to its end, as of this `seq`."""
    message: str | None
    fields: dict[str, Any]
    started_at: datetime | None
    ended_at: datetime | None
    skipped: int | float = 0
    """The part of `done` that was skipped, not worked on."""
    folded: int = 0
    """How many finished children were folded into this phase to keep the tree bounded."""
    folded_weight: float = 0.0
    """The weight of the folded children among the remaining ones."""
    started_after: float | None = None
    """Seconds after the beginning of the session's attempt at which it was entered, by a clock that nobody sets; None:
    not in this attempt, or not known."""
    elapsed: float | None = None
    """Seconds that its newest attempt took, by the same clock; None until that has ended, or where it is not known."""
    expected: Expected | None = None
    """How long it was expected to take; None: nobody knows."""
    follows: Followed | None = None
    """The session that it follows, whose `progress` is its `fraction`; None: it is work of this session."""


class PhaseSnapshot(PhaseValues, frozen=True, kw_only=True, omit_defaults=True):
    """A phase with its children, in the order in which they came."""

    phases: tuple[PhaseSnapshot, ...] = ()


class PhaseUpdate(PhaseValues, frozen=True, kw_only=True, omit_defaults=True):
    """A phase that changed, whole but for its children, at its `path` from the root."""

    path: tuple[str, ...]
    kept: tuple[str, ...] = ()
    """What is left out, see `Update.kept`: "fields.NAME"."""


class Head(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A session without its phases."""

    id: str
    pipeline: str | None
    title: str
    labels: dict[str, str]
    epoch: int
    """The number of the ownership: every claim of the id raises it."""
    seq: int
    """The number of the published state within the epoch."""
    attempt: int
    status: SessionStatus
    liveness: Liveness
    progress: float
    """0 to 1; never falls within an epoch, and 1 only once the session has completed."""
    raw: float
    """The fraction as the phases have it now; falls below `progress` when totals grow."""
    eta: float | None
    """Seconds to the end, as of this `seq`; None: not known."""
    message: str | None
    counters: dict[str, int | float]
    fields: dict[str, Any]
    result: Any
    error: ErrorInfo | None
    queued_at: datetime | None
    started_at: datetime | None
    progressed_at: datetime | None
    """When the work last advanced."""
    heartbeat_at: datetime | None
    """When the owner's event loop last said that it lives."""
    ended_at: datetime | None
    stall_after: float | None = None
    """Seconds without progress after which it now counts as stalled; None: never."""
    events: int = 0
    """The ordinal of the newest custom event."""
    elapsed: float | None = None
    """Seconds that this attempt ran until `progressed_at`, and in all once it has ended, by a clock that nobody sets;
    None: not begun, or not known. `ended_at - started_at` is something else where the wall clock was set meanwhile."""
    eta_range: tuple[float, float] | None = None
    """Between how many seconds the end is, four times of five; None: not known."""
    published_at: datetime | None = None
    """What `progress`, `eta` and `eta_range` are as of, by the owner's wall clock: when this `seq` was published, or
    was read by `snapshot()`, which tells them anew."""
    parent: str | None = None
    """The session whose part it was declared to be, which may cancel it; None: nobody's."""


class Snapshot(Head, frozen=True, kw_only=True, omit_defaults=True):
    """A session as it was at `seq`: plain attributes, frozen.

    It is what `tracker.snapshot()` and `tracker.watch()` give, and also the protocol's message of
    that name. `resume` is the token with which `tracker.subscribe(since=...)` goes on from here.
    """

    phases: tuple[PhaseSnapshot, ...]
    resume: str = ""

    @property
    def ended(self) -> bool:
        """Whether nothing more comes within this attempt."""
        return self.status in ENDED

    def to_json(self) -> str:
        """The state as JSON, exactly as a server sends it: `GET /sessions/{id}` answers this.

        What has its usual value is left out, as the protocol says; times are RFC 3339.
        """
        return ENCODER.encode(self).decode()

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values: what `json.loads(snapshot.to_json())` gives."""
        data: dict[str, Any] = msgspec.json.decode(ENCODER.encode(self))
        return data

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> dict[str, Any]:
        # What pydantic, and FastAPI by it, asks a type that it does not know. The schema is a plain value, so that
        # pydantic is not imported here. It takes snapshots alone, and makes of them what a server sends.
        serialization = {"type": "function-plain", "function": cls.to_dict}
        return {"type": "is-instance", "cls": cls, "serialization": serialization}

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: Any, _handler: Any) -> dict[str, Any]:
        return {"type": "object", "title": cls.__name__, "description": "A session as it was: State in `schema.json`."}

    def resuming(self, token: str) -> Snapshot:
        """The same state with another resume token."""
        return self if token == self.resume else msgspec.structs.replace(self, resume=token)

    def _repr_html_(self) -> str:
        """What a notebook shows of it."""
        # By its name: what draws it stands above, and is loaded where somebody looks.
        drawn: str = importlib.import_module("trio_progress.terminal.html").session_html(self, time.time())
        return drawn

    def phase(self, *path: str) -> PhaseSnapshot:
        """The phase at `path`: the name of a phase, then of its child, and so on.

        Raises:
            KeyError: There is none.
        """
        level = self.phases
        found = None
        for name in path:
            found = next((phase for phase in level if phase.name == name), None)
            if found is None:
                raise KeyError("/".join(path))
            level = found.phases
        if found is None:
            raise KeyError("the path is empty")
        return found


def headed(state: Head) -> Head:
    """The state without its phases."""
    if type(state) is Head:
        return state
    return Head(**{name: getattr(state, name) for name in Head.__struct_fields__})


def ran(state: Head, now: float) -> float:
    """Seconds that the attempt has run, or ran, as well as can be known.

    Where the owner has not measured it, or since it has last said so, by the stamps of the wall clock, which may have
    been set meanwhile: a jump of it is seen until the work advances again, and not in what has ended.

    Args:
        state: The newest state.
        now: The owner's wall clock, in seconds since 1970.
    """
    if state.started_at is None:
        return 0.0
    if "lost" in (state.status, state.liveness) and state.heartbeat_at is not None:
        now = min(now, state.heartbeat_at.timestamp())  # What it did after that nobody knows.
    started = state.started_at.timestamp()
    if state.ended_at is not None:
        return max(state.ended_at.timestamp() - started if state.elapsed is None else state.elapsed, 0.0)
    if state.elapsed is None or state.progressed_at is None:
        return max(now - started, 0.0)
    return max(state.elapsed, 0.0) + max(now - state.progressed_at.timestamp(), 0.0)


def phase_ran(phase: PhaseValues, whole: float, now: float) -> float:
    """The same of a phase.

    Args:
        phase: The phase.
        whole: What `ran()` says of its session.
        now: The owner's wall clock, in seconds since 1970.
    """
    if phase.started_at is None:
        return 0.0
    if phase.elapsed is not None:
        return max(phase.elapsed, 0.0)
    if phase.ended_at is None and phase.started_after is not None:
        return max(whole - phase.started_after, 0.0)
    until = now if phase.ended_at is None else phase.ended_at.timestamp()
    return max(until - phase.started_at.timestamp(), 0.0)


def _as_text(value: object) -> str:
    """What an encoder takes for a value that is no JSON: somebody has put it into the data of a snapshot."""
    return f"{value!r:.200}"


ENCODER: Final = msgspec.json.Encoder(enc_hook=_as_text)
"""Of all that has a state in it: on the wire, in a store, for a user."""
