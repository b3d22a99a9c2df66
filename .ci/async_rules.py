"""Runs flake8-async's rules over files, at half of what its own command costs.

Its command works out where each node of a file stands anew for each of its rules, in case that one has changed the
file. Here none changes any, and they share it.

    python .ci/async_rules.py --disable=CODES FILE...
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import flake8_async
from flake8_async.runner import Flake8AsyncRunner_cst
from flake8_async.visitors.visitor_utility import NoqaHandler
from libcst import MetadataWrapper


def run(self: Flake8AsyncRunner_cst) -> Iterator[Any]:
    """What the runner's own `run` does, for rules that change nothing; where none is asked for, only `noqa`."""
    module = MetadataWrapper(self.module, unsafe_skip_copy=True)
    for visitor in (*self.utility_visitors, *self.visitors):
        if not self.visitors and not isinstance(visitor, NoqaHandler):
            continue
        module.visit(visitor)
        self.noqas = visitor.noqas
    yield from self.state.problems


if __name__ == "__main__":
    Flake8AsyncRunner_cst.run = run
    sys.exit(flake8_async.main())
