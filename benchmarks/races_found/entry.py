"""What an entry of the corpus is, and what its scenarios share."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import trio

Scenario = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Entry:
    """One public issue.

    Args:
        name: The library's and the issue's number, in one word.
        library: Which it was found in.
        issue: As GitHub has it: `owner/repository#number`.
        affected: The version that has it; a month, where the thread names none.
        mended: A version that has it no more; else the pull request that mended it; "closed" where the thread
            names neither, "open" where it is not, "by the caller" or "by a channel" where it is left to users.
        text: What happens.
        faulty: Fails under some schedules.
        right: Passes under all: the same with what mended it.
        least: The fewest preemptions with which it is known to fail.
        remade: Whether the algorithm is made again here, in a few lines, where the version cannot run: it is for
            asyncio, was never released, or needs a server, processes, or a Trio of long ago.
        packages: What is installed for `faulty`, in an environment of its own; nothing: what is there already will do.
        mended_packages: The same for `right`.
    """

    name: str
    library: str
    issue: str
    affected: str
    mended: str
    text: str
    faulty: Scenario
    right: Scenario
    least: int = 0
    remade: bool = False
    packages: tuple[str, ...] = ()
    mended_packages: tuple[str, ...] = ()


def library(name: str) -> Any:
    """A module of a library, which need not be installed where the entries are only listed."""
    return importlib.import_module(name)


async def steps(count: int = 1) -> None:
    """Lets others run, so many times."""
    for _ in range(count):
        await trio.lowlevel.checkpoint()


async def together(*functions: Scenario) -> None:
    """Runs all at once."""
    async with trio.open_nursery() as nursery:
        for function in functions:
            nursery.start_soon(function)
