"""One client that never reads among many: what the others notice, and what it costs in memory."""

from __future__ import annotations

import argparse
import sys

from .fanout import measured
from .fanout_server import Plan, Result
from .harness import Values
from .report import Report
from .suites import Suite, count, register, seconds

RIVALS = ("websockets.broadcast",)
"""Those that go on at all: trio-websocket in turn stands still for ever when one client does not read."""

EVICTION = 2.0
"""Seconds that a client may stay unwritable, in this suite."""

FILLED = 1.5
"""Seconds in which the kernels' buffers for it must be full."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `slow`."""
    parser.add_argument("--clients", type=count, default=100, metavar="N", help="one of them stuck (default: 100)")
    parser.add_argument("--ticks", type=count, default=600, metavar="N", help="payloads in a run (default: 600)")
    parser.add_argument("--pace", type=seconds, default=0.01, metavar="S", help="between two (default: 0.01)")
    parser.add_argument("--size", type=count, default=16_384, metavar="BYTES", help="of one (default: 16384)")
    parser.add_argument("--rivals", nargs="*", default=RIVALS, choices=RIVALS, metavar="NAME", help=", ".join(RIVALS))


def run(options: argparse.Namespace) -> Report:
    """Measures each contender with a stuck client and without one, once a round."""
    names = ("clients", "ticks", "pace", "size", "rounds")
    report = Report("slow", {name: getattr(options, name) for name in names})
    lags: Values = {}
    memory: Values = {}
    evicted: list[float] = []
    for _ in range(options.rounds):
        for name in ("ours", *options.rivals):
            for stuck in (0, 1):
                what = f"{name}, {stuck} stuck"
                plan = Plan(options.clients, options.ticks, options.pace, options.size, EVICTION, stuck=stuck)
                result, told = measured(name, plan, timed=True)
                lags.setdefault(what, []).append(p99(result, told) * 1000)
                memory.setdefault(what, []).append(growth(result))
                if stuck and name == "ours":
                    evicted.append(result.wall if result.evicted is None else result.evicted)
                print(f"\r{what:32}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    ours, rivals = "ours, 1 stuck", [f"{name}, 1 stuck" for name in options.rivals]
    against = ["ours, 0 stuck", *(f"{name}, 0 stuck" for name in options.rivals), *rivals]
    shown = {ours: ["ours, 0 stuck", *rivals]}
    report.add("the others are told within, 99 % of it", "ms", lags, against=against, headline=shown)
    report.add("memory of the server, by its second half", "MB/s", memory, headline={ours: rivals})
    report.aim("p99 of the others, with one stuck to none", "x", 1.2, lags["ours, 1 stuck"], lags["ours, 0 stuck"])
    report.aim("memory with one stuck", "MB/s", 0.1, memory["ours, 1 stuck"])
    report.add("the stuck one is dropped after", "s", {"ours": evicted}, headline={"ours": ()})
    report.aim("the stuck one is dropped after", "s", EVICTION + FILLED, evicted)
    report.notes += [
        f"write_timeout is {EVICTION:g} s, and begins when the buffers of both kernels are full, not with the run",
        "from when the payload was given until it lies in a client's socket and that is known",
    ]
    return report


def p99(result: Result, told: list[list[tuple[int, float]]]) -> float:
    """Seconds from giving a payload until it, or a newer one, was read, of 99 % of all."""
    lags: list[float] = []
    for heard in told:
        before = 0
        for number, moment in heard:
            # Those in between came with this one, at the latest; the first of them has waited longest.
            lags += [moment - result.times[n - 1] for n in range(before + 1, number + 1) if n <= len(result.times)]
            before = max(before, number)
    lags.sort()
    return lags[int(len(lags) * 0.99)] if lags else float("inf")


def growth(result: Result) -> float:
    """Megabytes a second, by the second half of the run."""
    half = result.memory[len(result.memory) // 2 :]
    return (half[-1] - half[0]) / 1e6 / (result.wall / 2) if len(half) > 1 else 0.0


register(
    Suite(
        name="slow",
        summary="one WebSocket of 100 that never reads: what the others notice, the memory, and when it is dropped",
        rounds=5,
        add_arguments=add_arguments,
        run=run,
        short=("--rounds", "1", "--ticks", "400"),
    )
)
