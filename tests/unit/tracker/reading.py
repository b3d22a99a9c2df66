"""Readers of a tracker's streams, for its tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

from trio_progress import (
    Snapshot,
    Update,
)
from trio_progress.protocol.messages import Message


class Reader:
    """Reads a subscription to its end, and holds every update against what it has."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.view: Snapshot | None = None

    async def read(self, subscription: AbstractAsyncContextManager[AsyncIterator[Message]]) -> None:
        async with subscription as messages:
            async for message in messages:
                self.messages.append(message)
                if isinstance(message, Snapshot):
                    self.view = message
                elif isinstance(message, Update):
                    assert self.view is not None
                    self.view = message.apply(self.view)

    @property
    def kinds(self) -> list[str]:
        return [type(message).__name__ for message in self.messages]


def plain(snapshot: Snapshot | None) -> Snapshot | None:
    return None if snapshot is None else snapshot.resuming("")
