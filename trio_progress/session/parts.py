"""The sessions that a session follows: each is one child phase, until it has completed.

1. A followed session runs wherever its owner is. What is shown of it is what its owner has published, or stored; it is
   not asked for more, unless somebody watches the session that follows.
2. One that there is not yet, or that was interrupted or lost, is waited for: somebody may begin it, or go on with it.
3. Sessions that follow each other in a circle would wait for ever. Who begins such a circle's last link need not see
   all of it, but what it follows is then seen by the one before: each looks once behind every session that one of its
   own begins to follow.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, final

from ..errors import (
    CorruptEntryError,
    PhaseError,
    SessionClosedError,
    SessionEndedError,
    SessionNotFoundError,
    StoreError,
)
from ..live.following import Following, answered
from ..live.listing import named_sessions
from ..protocol.clock import utc
from ..protocol.snapshot import Snapshot
from ..state import checks
from ..state.mirror import AWAITED
from .parts_left import PartsLeft
from .phase import phase_scope

if TYPE_CHECKING:
    from ..state.phase import PhaseNode
    from .core import SessionCore
    from .runtime import TrackerRuntime

CANCELLING: Final = frozenset({"failed", "cancelled", "timed_out"})
"""The ends of a session with which its parts are cancelled."""


@final
class Parts:
    """Those of one session."""

    __slots__ = ("_core", "_following", "_left", "_own", "_runtime")

    def __init__(self, runtime: TrackerRuntime, core: SessionCore) -> None:
        self._runtime = runtime
        self._core = core
        self._following: dict[Following, None] = {}
        self._own: dict[str, None] = {}
        """Those that end with the session where they are its parts: not detached, nor known to have ended."""
        self._left: PartsLeft | None = None

    @property
    def watched(self) -> bool:
        """Whether somebody watches the session, here or by the store."""
        topic = self._core.topic
        return (topic is not None and topic.keen) or self._core.persister.is_watched

    def watch(self) -> None:
        """Somebody begins to watch the session: those that it follows are wanted at broadcast pace as well.

        When nobody does so any more is found by the next state of each.
        """
        for following in self._following:
            following.set_keen(True)

    async def follow(
        self, parent: PhaseNode, session_id: str, *, weight: float | None, title: str | None, detach: bool
    ) -> Snapshot:
        """See `Phase.follow()`."""
        known = parent.children.get(checks.session_id(session_id))
        if type(detach) is not bool:
            raise TypeError(f"detach must be True or False, not {detach!r:.200}")
        if session_id == self._core.state.id:
            raise PhaseError(f"session {session_id!r} cannot follow itself")
        if known is not None and known.status == "completed" and known.mirror is not None:
            return await self._completed(known)
        if not detach:
            self._own[session_id] = None
        with phase_scope(self._core, parent, session_id, weight=weight, title=title) as phase:
            node: PhaseNode | None = getattr(phase, "_node", None)  # Of one that was refused and dropped, none.
            return await self._ended(node, session_id, title)

    def end(self, *, cancel: bool) -> None:
        """The session has ended: where that is no success, and `cancel` says so, its parts are cancelled."""
        if cancel and self._own and self._core.state.status in CANCELLING:
            self._left = PartsLeft(self._runtime, self._core, self._own)
            name = f"parts of session {self._core.state.id}"
            self._runtime.nursery.start_soon(self._left.run, name=name)

    @property
    def unasked(self) -> tuple[str, ...]:
        """Those that are to be cancelled, and that nobody has been asked to cancel yet."""
        return () if self._left is None else tuple(self._left.unasked)

    async def left(self) -> list[BaseException]:
        """Waits for the ends of those that are cancelled, within `flush_timeout`. Returns Ctrl-Cs that came."""
        return [] if self._left is None else await self._left.left()

    async def _ended(self, node: PhaseNode | None, session_id: str, title: str | None) -> Snapshot:
        """Shows the session until it has ended; its last state, if it has completed."""
        state = self._core.state
        behind: set[str] = set()
        last: Snapshot | None = None
        if node is not None:
            state.show_followed(node, None, title)
        following = Following(self._runtime.hub, session_id, keen=self.watched)
        self._following[following] = None
        try:
            async with following:
                async for last in following:
                    following.set_keen(self.watched)
                    if node is not None:
                        state.show_followed(node, last, title)
                    new = {*followed_by(last)} - behind
                    if new and await self._looked_behind(session_id, new):
                        behind |= new
        finally:
            del self._following[following]
        if following.gone or (last is not None and last.ended and last.status not in AWAITED):
            self._own.pop(session_id, None)
        if following.gone:
            raise SessionNotFoundError(session_id)
        if last is None or not last.ended or last.status in AWAITED:
            raise SessionClosedError(f"the tracker was left before the followed session {session_id!r} had ended")
        if last.status != "completed":
            said = "" if last.error is None else f" ({last.error.message or last.error.type})"
            ended = {"cancelled": "was cancelled", "timed_out": "has timed out"}.get(last.status, f"has {last.status}")
            text = f"the followed session {session_id!r} {ended}{said}"
            raise SessionEndedError(session_id, last.status, text)
        return last

    async def _looked_behind(self, session_id: str, new: set[str]) -> bool:
        """Whether it was found out that none of these, which `session_id` follows, leads back here.

        Raises:
            PhaseError: One of them does.
        """
        mine, known = self._core.state.id, {session_id}
        while new:
            if mine in new:
                raise PhaseError(
                    f"session {mine!r} cannot follow {session_id!r}, which follows it in turn: both would wait for ever"
                )
            known |= new
            try:
                found = await named_sessions(self._runtime.hub, new)
            except StoreError:
                return False  # The next state of what is followed leads here again.
            new = {other for each in found for other in followed_by(each)} - known
        return True

    async def _completed(self, node: PhaseNode) -> Snapshot:
        """The last state of a session that had completed in an earlier attempt of this one.

        A store that is down is waited for. What is no longer stored is told as far as it is known here.
        """
        try:
            found = await answered(lambda: named_sessions(self._runtime.hub, [node.name]))
        except CorruptEntryError:
            found = []
        if found and found[0].status == "completed":
            return found[0]
        assert node.mirror is not None
        return Snapshot(
            id=node.name,
            pipeline=None,
            title=node.title,
            labels={},
            epoch=0,
            seq=0,
            attempt=node.mirror.follows.attempt,
            status="completed",
            liveness="ok",
            progress=1.0,
            raw=1.0,
            eta=None,
            message=node.message,
            counters={},
            fields={},
            result=None,
            error=None,
            queued_at=None,
            started_at=utc(node.started),
            progressed_at=None,
            heartbeat_at=None,
            ended_at=utc(node.ended),
            phases=(),
        )


def followed_by(snapshot: Snapshot) -> Iterator[str]:
    """The ids of the sessions that a session follows now."""
    waiting = list(snapshot.phases)
    while waiting:
        phase = waiting.pop()
        if phase.status == "running":
            if phase.follows is not None:
                yield phase.follows.id
            waiting += phase.phases
