"""Many sessions that move, told to many open pages of the list: the share of a core that this takes."""

from __future__ import annotations

import argparse
import random
import sys
from dataclasses import replace

from .fanout import measured
from .fanout_server import Plan
from .harness import Values
from .lists_server import CONTENDERS, measure
from .report import Report
from .suites import Suite, count, register, seconds

OURS = "ours, list"
FLOOR = "floor on Trio"
NOBODY = "ours, nobody looks"
RIVALS = [name for name in CONTENDERS if name not in (OURS, FLOOR)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `lists`."""
    parser.add_argument("--pages", type=count, default=100, metavar="N", help="that are open (default: 100)")
    parser.add_argument("--sessions", type=count, default=50, metavar="N", help="that move (default: 50)")
    parser.add_argument("--pace", type=seconds, default=0.1, metavar="S", help="between two moves (default: 0.1)")
    parser.add_argument("--seconds", type=seconds, default=5.0, metavar="S", help="of a run (default: 5)")
    parser.add_argument(
        "--rivals", nargs="*", default=RIVALS, choices=RIVALS, metavar="NAME", help=f"of {', '.join(RIVALS)}"
    )


def run(options: argparse.Namespace) -> Report:
    """Measures each contender once a round."""
    settings = ("pages", "sessions", "pace", "seconds", "rounds")
    report = Report("lists", {name: getattr(options, name) for name in settings})
    rounds = max(int(options.seconds / options.pace), 10)
    plan = Plan(options.pages, rounds, options.pace, 0, sessions=options.sessions)
    names = [FLOOR, OURS, NOBODY, *options.rivals]
    values: Values = {name: [] for name in names}
    for _ in range(options.rounds):
        for name in random.sample(names, len(names)):
            result, _ = (
                measured(OURS, replace(plan, clients=0), measure=measure)
                if name == NOBODY
                else measured(name, plan, measure=measure)
            )
            values[name].append(result.cpu / result.wall * 100)
            print(f"\r{name:24}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    against = [name for name in names if name != OURS]
    what = f"{options.pages} pages of {options.sessions} sessions"
    report.add(what, "% of a core", values, against=against, headline={OURS: against})
    for rival in options.rivals:
        report.aim(f"{what}: ours to {rival}", "x", 1.0, values[OURS], values[rival])
    report.notes += [
        f"each session moves every {options.pace * 1000:g} ms, each page is told four times a second of those that did",
        "CPU time of the server, user and system; ours is the whole way from phase.advance() on, and the server's",
        "the floor, and websockets.broadcast(), have no sessions: they tell entries that are as large",
        "each by itself: a task a page that follows the tracker and encodes what it tells, by bare sockets",
    ]
    return report


register(
    Suite(
        name="lists",
        summary="50 sessions that move, told to 100 open pages of the list: CPU of the server, beside its rivals",
        rounds=3,
        add_arguments=add_arguments,
        run=run,
        short=("--rounds", "1"),
    )
)
