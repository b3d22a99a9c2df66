"""What earlier runs of a pipeline have taught, for a tracker's user: to be read, forgotten, and taken as a start."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from ..state import checks
from ..state.history import PipelineHistory, given_history
from ..stores.base import Done, HistoryStore, SetHistory
from .runtime import TrackerPart


class TrackerHistories(TrackerPart):
    """The part of a tracker that is about the histories of pipelines."""

    async def history(self, pipeline: str) -> PipelineHistory | None:
        """What earlier runs of a pipeline have taught; None: nothing. A checkpoint.

        Raises:
            ValueError, TypeError: It is no name of a pipeline.
            StoreError: The store did not answer.
        """
        checks.name("a pipeline's name", pipeline)
        store = self._runtime.store
        if not isinstance(store, HistoryStore):
            await trio.lowlevel.checkpoint()
            return None
        return await store.history(pipeline)

    async def histories(self) -> Sequence[str]:
        """The pipelines of which there is a history, the one that ran last first. A checkpoint.

        Raises:
            StoreError: The store did not answer.
        """
        store = self._runtime.store
        if not isinstance(store, HistoryStore):
            await trio.lowlevel.checkpoint()
            return ()
        return await store.histories()

    async def forget_history(self, pipeline: str) -> bool:
        """Removes what earlier runs of a pipeline have taught; False where there was nothing. A checkpoint.

        Raises:
            ValueError, TypeError: It is no name of a pipeline.
            StoreError: The store did not answer.
        """
        checks.name("a pipeline's name", pipeline)
        outcome = await self._runtime.committer.write(SetHistory(pipeline, None))
        return isinstance(outcome, Done) and outcome.found

    async def import_history(self, pipeline: str, history: PipelineHistory | str | bytes) -> PipelineHistory:
        """Takes over a history, instead of what there is. A checkpoint.

        Args:
            pipeline: The name of the pipeline.
            history: What `history()` has given, here or with another store, or its `to_json()`.

        Returns:
            The history as it is kept.

        Raises:
            ValueError, TypeError: It is no history, or no name of a pipeline.
            StoreError: The store did not answer.
        """
        checks.name("a pipeline's name", pipeline)
        taken = given_history(history)
        await self._runtime.committer.write(SetHistory(pipeline, taken))
        return taken
