"""Counting in worker processes for a phase of their parent: see `phase.from_processes()`.

A worker that is sent the counter as an argument uses that. A program that was started with `counter.environment` begins
by `counter = trio_progress.counting.inherit()`.
"""

from .counter import NullCounter as NullCounter
from .counter import ProcessCounter as ProcessCounter
from .counter import inherit as inherit

__all__ = ["NullCounter", "ProcessCounter", "inherit"]
