"""A server under many clients that come, go and stall: whether all end on one state, and what is left."""

from __future__ import annotations

import argparse
import multiprocessing
from dataclasses import dataclass
from multiprocessing.connection import Connection

from .fanout import received
from .report import Report
from .soak_clients import LATE, Outcome, visit
from .soak_server import Soak, Standing, serve
from .suites import Suite, count, register, seconds

ALLOWED = 5.0
"""Megabytes of memory that a run may leave which another one of the same length has not left before: what the
allocator holds in pieces. What is lost in a run is lost in each."""


@dataclass(frozen=True, slots=True)
class Soaked:
    """What a soak has shown."""

    fresh: Standing
    """The server before anybody came."""
    before: Standing
    """After a run of the same length."""
    after: Standing
    final: bytes
    """The session's last state, as `essence` has it."""
    outcome: Outcome
    readers: int

    @property
    def astray(self) -> int:
        """Readers that ended on another state, or heard of no end."""
        return self.readers - self.outcome.states[self.final]


def soaked(soak: Soak) -> Soaked:
    """Runs it twice: a server and its clients, in a process each. The first time shows what is kept for good."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    clients, their = context.Pipe()
    server = context.Process(target=serve, args=(soak, there), daemon=True)
    server.start()
    try:
        port = received(here, 60)
        crowd = context.Process(target=visit, args=(soak, port, their), daemon=True)
        crowd.start()
        try:
            here.send("stand")
            fresh: Standing = received(here, 60)
            before, _, _ = _once(here, clients, soak.seconds)
            after, final, outcome = _once(here, clients, soak.seconds)
            clients.send(None)
            crowd.join(10)
        finally:
            crowd.kill()
        here.send("stop")
        server.join(10)
    finally:
        server.kill()
    return Soaked(fresh, before, after, final, outcome, soak.clients - soak.stalled)


def _once(server: Connection, clients: Connection, lasting: float) -> tuple[Standing, bytes, Outcome]:
    server.send("run")
    received(server, 30)
    clients.send(lasting)
    received(clients, lasting + 120)
    server.send("end")
    final: bytes = received(server, 30)
    outcome: Outcome = received(clients, LATE + 60)
    server.send("stand")
    return received(server, 60), final, outcome


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `soak`."""
    parser.add_argument("--clients", type=count, default=1000, metavar="N", help="1 %% never read (default: 1000)")
    parser.add_argument("--seconds", type=seconds, default=60.0, metavar="S", help="of each of two runs (default: 60)")
    parser.add_argument("--leaving", type=seconds, default=0.03, metavar="SHARE", help="in a second (default: 0.03)")


def run(options: argparse.Namespace) -> Report:
    """Soaks a server once a round, each in processes of its own."""
    names = ("clients", "seconds", "leaving", "rounds")
    report = Report("soak", {name: getattr(options, name) for name in names})
    soak = Soak(options.clients, options.seconds, options.leaving)
    runs = [soaked(soak) for _ in range(options.rounds)]

    def seen(*what: str) -> dict[str, list[float]]:
        return {name: [one.outcome.seen[name] for one in runs] for name in what}

    done = seen("connections", "resumed")
    done["dropped as they do not read"] = [float(one.after.dropped - one.before.dropped) for one in runs]
    report.add("what was done", "times", done)
    report.add("what was told", "messages", seen("messages", "updates that do not fit"))
    states = {
        "on the session's last state": [float(one.readers - one.astray) for one in runs],
        "elsewhere": [float(one.astray) for one in runs],
        "dropped although they read": [float(one.outcome.seen["readers dropped"]) for one in runs],
    }
    report.add("where those who read end", "clients", states)
    stood = {name: [getattr(one, name) for one in runs] for name in ("fresh", "before", "after")}
    tasks = {name: [float(one.tasks) for one in standing] for name, standing in stood.items()}
    report.add("tasks, with nobody there", "tasks", tasks)
    files = {name: [float(one.descriptors) for one in standing] for name, standing in stood.items()}
    report.add("file descriptors, with nobody there", "descriptors", files)
    memory = {name: [one.memory / 1e6 for one in standing] for name, standing in stood.items()}
    report.add("memory, with nobody there", "MB", memory)
    report.aim("clients that end elsewhere", "clients", 0, states["elsewhere"])
    report.aim("clients dropped although they read", "clients", 0, states["dropped although they read"])
    report.aim("updates that do not fit", "messages", 0, seen("updates that do not fit")["updates that do not fit"])
    for what, unit, limit, pair in (
        ("tasks", "tasks", 0, tasks),
        ("descriptors", "descriptors", 0, files),
        ("memory", "MB", ALLOWED, memory),
    ):
        more = [after - before for before, after in zip(pair["before"], pair["after"], strict=True)]
        report.aim(f"{what} more than before", unit, limit, more)
    report.notes += [
        f"fresh: nobody has come yet; before: after {options.seconds:g} s of the same",
        "1 % never read, and come back some time after they were dropped",
        "half of those who come back resume, half begin anew; half leave politely, half vanish",
    ]
    return report


register(
    Suite(
        name="soak",
        summary="two minutes with 1000 WebSockets that come, go and stall: where all end, and what is left of them",
        rounds=1,
        add_arguments=add_arguments,
        run=run,
        short=("--clients", "500", "--seconds", "15"),
    )
)
