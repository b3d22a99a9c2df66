"""What pipelines are tested with: every schedule from a seed, a cancel at every step, doubles that behave.

`memory_client` is loaded when it is asked for: it needs the extra `server`.
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from .assertions import assert_progress as assert_progress
from .cancel_sweep import LeftoverError as LeftoverError
from .cancel_sweep import Sweep as Sweep
from .cancel_sweep import cancel_everywhere as cancel_everywhere
from .exhaustive import Exhaustion as Exhaustion
from .exhaustive import NotProvenError as NotProvenError
from .exhaustive import exhaust as exhaust
from .explorer import Exploration as Exploration
from .explorer import explore as explore
from .failure import ScheduleError as ScheduleError
from .faulty_store import FaultyStore as FaultyStore
from .gates import Gates as Gates
from .recording import Recording as Recording
from .recording import recorded as recorded
from .replaying import UnfitScheduleWarning as UnfitScheduleWarning
from .running import StuckError as StuckError
from .schedule import Schedule as Schedule
from .scheduler import UnsupportedTrioError as UnsupportedTrioError
from .subscriber import Subscriber as Subscriber
from .within import cancelled_somewhere as cancelled_somewhere
from .within import jitter as jitter
from .within import note as note
from .within import seeded_random as seeded_random
from .within import shared as shared

if _TYPE_CHECKING:
    from .memory import MemoryClient as MemoryClient
    from .memory import RefusedError as RefusedError
    from .memory import memory_client as memory_client


def __getattr__(name: str) -> object:
    if name not in ("MemoryClient", "RefusedError", "memory_client"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ..errors import require_extra

    with require_extra(f"trio_progress.testing.{name}", "server"):
        from . import memory

    return getattr(memory, name)
