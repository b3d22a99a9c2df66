"""The registry of suites: a module that measures something registers it here, and the command line finds it."""

from __future__ import annotations

import argparse
import importlib
import math
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

import benchmarks

from .report import Report


@dataclass(frozen=True, slots=True)
class Suite:
    """One sub-command of `python -m benchmarks`.

    Args:
        name: What it is called on the command line.
        summary: One line for `--help`.
        rounds: How many it does unless told.
        add_arguments: Adds the suite's own options; `--json` and `--rounds` are there already.
        run: Measures, by the options, and gives a report.
        short: The arguments with which it takes about a minute.
    """

    name: str
    summary: str
    rounds: int
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], Report]
    short: tuple[str, ...] = ()


class MissingError(Exception):
    """A program, or whatever else a suite measures with, is not here: the suite is left out."""


_SUITES: dict[str, Suite] = {}


def register(suite: Suite) -> None:
    """Makes the suite known by its name.

    Raises:
        ValueError: Another one has that name.
    """
    if _SUITES.setdefault(suite.name, suite) is not suite:
        raise ValueError(f"two suites are named {suite.name!r}")


def discover(wanted: str | None = None) -> dict[str, Suite]:
    """All suites by name: imports every module beside this one, each of which registers what it has.

    A module that measures rivals imports them where it runs: `--help` works without them.

    Args:
        wanted: Where a module has this name and registers a suite, the others need not be there.
    """
    names = [module.name for module in pkgutil.iter_modules(benchmarks.__path__) if not module.name.startswith("_")]
    if wanted in names:
        importlib.import_module(f"benchmarks.{wanted}")
    if wanted not in _SUITES:
        for name in names:
            importlib.import_module(f"benchmarks.{name}")
    return dict(sorted(_SUITES.items()))


def count(text: str) -> int:
    """A whole number of at least 1, from the command line."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not at least 1")
    return number


def seconds(text: str) -> float:
    """A time above 0, from the command line."""
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no time above 0")
    return number
