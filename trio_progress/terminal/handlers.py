"""Log handlers that write to the terminal by themselves, while something is drawn there.

`print()` finds the stream that stands in for the terminal's; a handler that was made before holds the terminal's own,
and what it writes would be drawn over.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import IO, Any, final


@final
class Diverted:
    """The handlers whose stream is one of these write to another one, until `restore()`.

    Args:
        instead: By the `id` of a stream, what stands in for it.
    """

    def __init__(self, instead: Mapping[int, IO[str]]) -> None:
        self._before: list[tuple[logging.StreamHandler[Any], Any]] = []
        for handler in set(_stream_handlers()):
            own = handler.stream
            other = instead.get(id(own))
            if other is not None and other is not own:
                handler.setStream(other)
                self._before.append((handler, own))

    def restore(self) -> None:
        """Gives them their own streams back; one that was given another one meanwhile keeps it no longer."""
        for handler, own in self._before:
            handler.setStream(own)
        self._before.clear()


def _stream_handlers() -> Iterator[logging.StreamHandler[Any]]:
    known = [logging.root, *logging.root.manager.loggerDict.values()]
    for logger in known:
        if isinstance(logger, logging.Logger):
            for handler in logger.handlers:
                if isinstance(handler, logging.StreamHandler):
                    yield handler
