"""What is asked of a session by its id, wherever it runs: to be declared, cancelled, deleted, waited for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import trio

from ..errors import SessionActiveError, SessionClosedError, SessionNotFoundError
from ..live.subscription import Watch
from ..storage import cancelling
from ..storage.fencing import TRIES, Fence, changes_too_fast
from ..storage.ownerless import declaration
from ..stores.base import Claimed, Delete, Done, Refused

if TYPE_CHECKING:
    from ..protocol.snapshot import Snapshot
    from ..state.session import SessionState
    from .runtime import TrackerRuntime


async def declare(runtime: TrackerRuntime, state: SessionState) -> Snapshot:
    """Stores a declared session, and shows it to those who follow here."""
    if state.id in runtime.open:
        raise SessionActiveError(state.id, "in this process")
    claim = declaration(state, runtime.settings.keep("queued"))
    outcome = await runtime.committer.write(claim)
    if not isinstance(outcome, Claimed):
        raise SessionActiveError(state.id, "in another process")
    state.move(outcome.epoch)
    snapshot = state.snapshot()
    runtime.hub.show(snapshot)
    return snapshot


def cancel_here(runtime: TrackerRuntime, session_id: str, reason: str | None) -> bool:
    """Cancels a session that is open here, or is being entered; False where it is not."""
    reserved = runtime.open.get(session_id)
    if reserved is None:
        return False
    if reserved.core is None:
        reserved.stop(reason, interrupted=False)  # It is being entered, and is cancelled as soon as it has begun.
    elif not reserved.core.state.over:
        reserved.core.cancel(reason)
    return True


async def cancel(runtime: TrackerRuntime, session_id: str, reason: str | None) -> None:
    """Cancels a session here, or asks its owner for that; one that is queued ends at once. Has a checkpoint."""
    await trio.lowlevel.checkpoint()
    if cancel_here(runtime, session_id, reason):
        return
    cancel = cancelling.Cancel(reason, runtime.hub.clock.wall(), runtime.settings.keep("cancelled"))
    for _ in range(cancelling.TRIES):
        stored = await runtime.store.read(session_id)
        if stored is None:
            raise SessionNotFoundError(session_id)
        made = cancel.write(stored, runtime.tally)
        if made is None:
            return
        write, ended = made
        outcome = await runtime.committer.write(write)
        if isinstance(outcome, Claimed) and ended is not None:
            runtime.hub.show(msgspec.structs.replace(ended, epoch=outcome.epoch))
        if not cancelling.overtaken(outcome):
            return
    raise cancelling.changes_too_fast(session_id)


async def fence(runtime: TrackerRuntime, session_id: str, epoch: int | None, reason: str | None) -> Snapshot:
    """Writes a running session off past its owner's lease, if that is of `epoch`; how it stands after that."""
    if session_id in runtime.open:
        raise SessionActiveError(session_id, "in this process")
    await runtime.delivery.deliver(session_id)  # What its owner has left here says better how it ended.
    for _ in range(TRIES):
        stored = await runtime.store.read(session_id)
        if stored is None:
            raise SessionNotFoundError(session_id)
        if session_id in runtime.open:  # By now.
            raise SessionActiveError(session_id, "in this process")
        if epoch is None:
            epoch = stored.key.epoch
        fence = Fence(epoch, reason, runtime.hub.clock.wall())
        claim = fence.claim(stored, runtime.settings.keep("lost"), runtime.tally)
        if claim is None:
            return runtime.hub.found(stored).snapshot()
        outcome = await runtime.committer.write(claim)
        if isinstance(outcome, Claimed):
            runtime.tally.sessions_lost += 1
            runtime.tally.ledger.end(claim.index.pipeline, "lost")
            return runtime.hub.found(fence.granted(claim, outcome.epoch)).snapshot()
    raise changes_too_fast(session_id)


async def delete(runtime: TrackerRuntime, session_id: str) -> None:
    """Removes all that is stored of a session that nobody runs."""
    if session_id in runtime.open:
        raise SessionActiveError(session_id, "in this process")
    outcome = await runtime.committer.write(Delete(session_id))
    if isinstance(outcome, Refused):
        raise SessionActiveError(session_id, "in another process")
    if isinstance(outcome, Done) and not outcome.found:
        raise SessionNotFoundError(session_id)


async def wait_ended(runtime: TrackerRuntime, session_id: str) -> Snapshot:
    """Waits until a session has ended, and nothing of it is left here."""
    last = None
    async with Watch(runtime.hub, session_id, wait=False) as snapshots:
        async for snapshot in snapshots:
            last = snapshot
    reserved = runtime.open.get(session_id)
    if reserved is not None and reserved.core is not None and reserved.core.state.over:
        await reserved.wait_left()
    if last is None or not last.ended:
        if runtime.closed:
            raise SessionClosedError(f"the tracker was left before session {session_id!r} had ended")
        raise SessionNotFoundError(session_id)
    return last
