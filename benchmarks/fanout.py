"""One payload told to many over WebSocket: what it costs the server, beside a bare `socket.send` and its rivals."""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, Final

from .fanout_server import CONTENDERS, Plan, Result, measure
from .fanout_sink import drink
from .harness import Values
from .report import Report
from .suites import Suite, count, register, seconds

ALWAYS = ("floor", "floor on Trio", "ours")
"""Those that are measured in any case."""

FLAT: Final = ((10, 1.3), (100, 1.2), (1000, 1.1))
PACED: Final = ((10, 1.2), (100, 1.2), (1000, 1.15))
"""From how many clients on, how many times the floor on Trio ours may be; fewer clients as the fewest here."""

Told = list[list[tuple[int, float]]]
"""By client: which number it was told, and when."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `fanout`."""
    parser.add_argument("--clients", type=count, nargs="+", default=[2, 10, 100, 1000], metavar="N")
    parser.add_argument("--frames", type=count, default=20_000, metavar="N", help="in a run, flat out (default: 20000)")
    parser.add_argument("--pace", type=seconds, default=0.02, metavar="S", help="between two payloads (default: 0.02)")
    parser.add_argument("--ticks", type=count, default=100, metavar="N", help="payloads in a paced run (default: 100)")
    parser.add_argument("--size", type=count, default=1000, metavar="BYTES", help="of a payload (default: 1000)")
    rivals = [name for name in CONTENDERS if name not in ALWAYS]
    parser.add_argument(
        "--rivals", nargs="*", default=rivals, choices=rivals, metavar="NAME", help=f"of {', '.join(rivals)}"
    )


def run(options: argparse.Namespace) -> Report:
    """Measures each contender once a round, at each number of clients, flat out and paced."""
    settings = ("clients", "frames", "pace", "ticks", "size", "rounds")
    report = Report("fanout", {name: getattr(options, name) for name in settings})
    for clients in options.clients:
        rounds = max(options.frames // clients, 10)
        names = [name for name in CONTENDERS if name in ALWAYS or name in options.rivals]
        _group(report, options.rounds, names, Plan(clients, rounds, 0.0, options.size), "flat out")
        paced = Plan(clients, options.ticks, options.pace, options.size)
        _group(report, options.rounds, names, paced, f"every {options.pace * 1000:g} ms")
    report.notes += [
        "CPU time of the server, user and system, for each frame that was handed to a client's socket",
        "the floor is a loop of socket.send, with time.sleep() between payloads; on Trio, with trio.sleep()",
        "the clients are in a process of their own, which only reads",
        "ours is the whole way: session.set(), a tick of the broadcaster, an update made and encoded, and sent",
    ]
    return report


def _group(report: Report, rounds: int, names: Sequence[str], plan: Plan, how: str) -> None:
    values: Values = {name: [] for name in names}
    for _ in range(rounds):
        for name in random.sample(names, len(names)):
            result, _ = measured(name, plan)
            values[name].append(result.cpu / max(result.frames, 1) * 1e6)
            print(f"\r{plan.clients} clients, {how}: {name:24}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    rivals = [name for name in values if name != "ours"]
    report.add(f"{plan.clients} clients, {how}", "us a frame", values, against=rivals, headline={"ours": rivals})
    what = f"{plan.clients} clients, {how}: ours to "
    steps = PACED if plan.pace else FLAT
    limit = next((limit for clients, limit in reversed(steps) if plan.clients >= clients), steps[0][1])
    report.aim(f"{what}the floor on Trio", "x", limit, values["ours"], values["floor on Trio"])
    if "websockets.broadcast" in values:
        # A few paced clients cost what waking up costs, and there the floor on Trio is above it itself.
        few = plan.pace > 0 and plan.clients <= FLAT[0][0]
        rival = values["websockets.broadcast"]
        report.aim(f"{what}websockets.broadcast()", "x", 1.2 if few else 1.0, values["ours"], rival)


def measured(
    name: str,
    plan: Plan,
    *,
    timed: bool = False,
    measure: Callable[[str, Plan, Connection], None] = measure,
) -> tuple[Result, Told]:
    """One run of one contender, in a fresh process, with its clients in another.

    Args:
        name: The contender.
        plan: What it tells.
        timed: Whether the clients note when they were told what.
        measure: Runs it, in its process.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    clients, their = context.Pipe()
    server = context.Process(target=measure, args=(name, plan, there), daemon=True)
    server.start()
    try:
        port = received(here, 60)
        sink = context.Process(target=drink, args=(name, port, plan.clients, plan.stuck, timed, their), daemon=True)
        sink.start()
        try:
            received(clients, 120)
            here.send("go")
            result = received(here, 300)
            clients.send("stop")
            _, told = received(clients, 60)
            sink.join(10)
        finally:
            sink.kill()
    finally:
        server.join(5)
        server.kill()
    return result, told


def received(connection: Any, within: float) -> Any:
    """What a process says next; what it raises, if it says that."""
    if not connection.poll(within):
        raise TimeoutError(f"a process of the benchmark says nothing for {within:g} s")
    value = connection.recv()
    if isinstance(value, BaseException):
        raise value
    return value


register(
    Suite(
        name="fanout",
        summary="one update to 2, 10, 100 and 1000 WebSockets: CPU of the server, beside a bare send and its rivals",
        rounds=3,
        add_arguments=add_arguments,
        run=run,
        short=("--rounds", "1", "--clients", "100", "1000", "--frames", "10000", "--ticks", "50"),
    )
)
