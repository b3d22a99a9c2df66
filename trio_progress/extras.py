"""What to say where something that comes with an extra is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needed(what: str, extra: str) -> Iterator[None]:
    """Has a failed import in its block name the command that mends it.

    Args:
        what: What it is that stands on the imports.
        extra: The extra that brings them along.

    Raises:
        ModuleNotFoundError: Something is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name in ("", "trio_progress"):
            raise
        raise ModuleNotFoundError(f"{what} needs {name}: pip install 'trio-progress[{extra}]'", name=name) from None
