"""From an update to a client, at the default broadcast interval: how long each of many waits."""

from __future__ import annotations

import argparse
import sys

from .fanout import measured
from .fanout_server import Plan
from .report import Report
from .slow import p99
from .suites import Suite, count, register, seconds

ALLOWED = 10.0
"""Milliseconds above the interval."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `latency`."""
    parser.add_argument("--clients", type=count, default=1000, metavar="N", help="default: 1000")
    parser.add_argument("--interval", type=seconds, default=0.1, metavar="S", help="broadcast_interval (default: 0.1)")
    parser.add_argument("--every", type=seconds, default=0.017, metavar="S", help="between updates (default: 0.017)")
    parser.add_argument("--seconds", type=seconds, default=5.0, metavar="S", help="of a run (default: 5)")


def run(options: argparse.Namespace) -> Report:
    """Measures once a round."""
    names = ("clients", "interval", "every", "seconds", "rounds")
    report = Report("latency", {name: getattr(options, name) for name in names})
    rounds = max(int(options.seconds / options.every), 10)
    plan = Plan(options.clients, rounds, options.every, 1000, interval=options.interval)
    lags: list[float] = []
    for number in range(options.rounds):
        result, told = measured("ours", plan, timed=True)
        lags.append(p99(result, told) * 1000)
        print(f"\r{number + 1} of {options.rounds} runs", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    report.add(f"{options.clients} clients are told within, 99 % of it", "ms", {"ours": lags}, headline={"ours": ()})
    report.aim("p99 from update to client", "ms", options.interval * 1000 + ALLOWED, lags)
    report.notes.append(
        "from session.set() until it, or a newer state, lies in a client's socket and that is known; with the interval"
    )
    return report


register(
    Suite(
        name="latency",
        summary="from an update to each of 1000 WebSockets, beside the broadcast interval",
        rounds=3,
        add_arguments=add_arguments,
        run=run,
        short=("--rounds", "2"),
    )
)
