"""What somebody may do, and the question who decides that."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, TypeAlias, final, get_args

from ...protocol.labels import has_labels
from ...protocol.messages import Verb
from ...state import checks

VERBS: Final[tuple[Verb, ...]] = get_args(Verb)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What its holder may do, with which sessions, and until when.

    A grant without sessions and labels grants nothing; a grant for all sessions says so by `everything=True`.

    Args:
        verbs: Of `read`, `cancel` and `delete`; each is granted by itself.
        sessions: The ids that it is for.
        labels: It is also for all sessions that have these labels, all of them. No value may be empty.
        everything: It is for all sessions; `sessions` and `labels` must then be empty.
        expires_at: When it ends, in seconds since 1970; None: never.
        name: Who holds it, as far as that is known; shown to the holder only.

    Raises:
        ValueError, TypeError: A verb is unknown, or a value is no such thing.
    """

    verbs: frozenset[Verb] = frozenset({"read"})
    sessions: frozenset[str] = frozenset()
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    everything: bool = False
    expires_at: float | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "verbs", _verbs(self.verbs))
        object.__setattr__(self, "sessions", _ids(self.sessions))
        object.__setattr__(self, "labels", MappingProxyType(_labels(self.labels)))
        if type(self.everything) is not bool:
            raise TypeError(f"everything must be True or False, not {self.everything!r:.200}")
        if self.everything and (self.sessions or self.labels):
            raise ValueError("everything=True grants all sessions: give no sessions and no labels beside it")
        if self.expires_at is not None and (
            type(self.expires_at) not in (int, float) or math.isnan(self.expires_at)  # which never comes
        ):
            raise ValueError(f"expires_at must be seconds since 1970 or None, not {self.expires_at!r:.200}")
        if self.name is not None and type(self.name) is not str:
            raise TypeError(f"name must be a str or None, not {self.name!r:.200}")

    def allows(self, verb: Verb, session_id: str, labels: Mapping[str, str]) -> bool:
        """Whether the holder may do this with a session that has these labels."""
        if verb not in self.verbs:
            return False
        if self.everything or session_id in self.sessions:
            return True
        return bool(self.labels) and has_labels(labels, self.labels)

    def verbs_on(self, session_id: str, labels: Mapping[str, str]) -> tuple[Verb, ...]:
        """All that the holder may do with a session."""
        return tuple(verb for verb in VERBS if self.allows(verb, session_id, labels))

    @property
    def bare(self) -> Grant:
        """What it grants, to nobody in particular and for ever."""
        return replace(self, expires_at=None, name=None)

    def grants_as(self, other: Grant) -> bool:
        """Whether it grants the same as another one, whoever they are for and however long."""
        return self.bare == other.bare

    def expired(self, now: float) -> bool:
        """Whether it has ended, at this many seconds since 1970."""
        return self.expires_at is not None and now >= self.expires_at


def _verbs(verbs: object) -> frozenset[Verb]:
    if isinstance(verbs, str) or not isinstance(verbs, Iterable):
        raise TypeError(f"verbs must be several of {', '.join(VERBS)}, not {verbs!r:.200}")
    given = frozenset(verbs)
    if not given or not given <= set(VERBS):
        raise ValueError(f"verbs must be some of {', '.join(VERBS)}, not {sorted(map(str, given))!r:.200}")
    return given


def _ids(sessions: object) -> frozenset[str]:
    if isinstance(sessions, (str, bytes, Mapping)) or not isinstance(sessions, Iterable):
        raise TypeError(f"sessions must be a collection of ids, such as ['r-42'], not {sessions!r:.200}")
    return frozenset(map(checks.session_id, sessions))


def _labels(labels: object) -> dict[str, str]:
    """An empty value is refused although a session may have one: it is what an unset user turns into."""
    if not isinstance(labels, Mapping):
        raise TypeError(f"labels must be a mapping such as {{'user': 'u1'}}, not {labels!r:.200}")
    for name, value in labels.items():
        if type(name) is not str or type(value) is not str:
            raise TypeError(f"labels must map a str to a str, not {name!r:.100} to {value!r:.100}: is it unset?")
        if not name or not value.strip():
            raise ValueError(f"the label {name!r:.100} must not be empty in what is granted, not {value!r:.100}")
    return dict(labels)


ALL: Final = Grant(verbs=frozenset(VERBS), everything=True)
"""Everything, for ever."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a request brings along to say who asks.

    Args:
        token: The bearer token, however it came; None where there is none.
        headers: The request's headers by lower-case name; those that came more than once joined by ", ".
        cookies: The cookies by name.
        address: The client's address; behind a trusted proxy, the one that the proxy names.
        trusted: Whether the request came through a trusted proxy.
        scope: In an ASGI app, the scope of the request, with what middleware around the app has put there, such as
            the user of a session; None at our own port.
    """

    token: str | None
    headers: Mapping[str, str]
    cookies: Mapping[str, str]
    address: str
    trusted: bool = False
    scope: Mapping[str, Any] | None = None

    def __repr__(self) -> str:
        """Without what is secret: a log may hold it."""
        return f"<Credentials from {self.address}, {'with' if self.token else 'without'} a token>"


Authenticate: TypeAlias = Callable[[Credentials], Awaitable[Grant | None]]
"""Who decides: an async function that gives a `Grant`, or None for credentials that are none to it."""
