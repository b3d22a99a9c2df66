"""Where sessions stand that can be taken: by how often they were begun, and by the dimensions of lists.

See `stores.taking` and `stores.places`.
"""

from __future__ import annotations

from .places import LAPSED, dimensions, of_pipeline
from .taking import NEVER_BEGUN, Wanted


def begun(attempts: int) -> str:
    """The bucket of what was begun so often and waits to be gone on with."""
    return f"again{attempts}"


def bucket_of(place: str, attempts: int) -> str | None:
    """Where a session stands among those that can be taken; None: it is none of them.

    Args:
        place: That of the session in lists.
        attempts: How often it was begun.
    """
    if place == NEVER_BEGUN:
        return NEVER_BEGUN
    return begun(max(attempts, 1)) if place in ("interrupted", "lost", LAPSED) else None


def buckets_of(wanted: Wanted) -> list[str]:
    """Where the sessions stand that were begun seldom enough."""
    return [NEVER_BEGUN, *map(begun, range(1, wanted.max_attempts))]


def pipelines_of(wanted: Wanted) -> list[str]:
    """The dimensions in one of which they stand; the one of all sessions where any pipeline will do."""
    return [of_pipeline(name) for name in wanted.pipelines] or [""]


def labels_of(wanted: Wanted) -> list[str]:
    """The dimensions in all of which they stand."""
    return dimensions(None, wanted.labels)
