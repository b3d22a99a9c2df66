"""Input that means harm, so much of it: whether the server and what reads stores stay what they are.

Not a benchmark of speed. Each input comes from a seed of its own; what fails tells it, and the command that replays it.
With `--flood`, three clients without a token send for so many seconds what takes longest to read, from a process of
their own; a second one asks `/healthz`, and the server tells how far its loop lags behind.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from .report import Report
from .suites import Suite, count, register, seconds

ROOT: Final = Path(__file__).resolve().parents[1]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `fuzz`."""
    parser.add_argument("--count", type=count, default=20_000, metavar="N", help="inputs (default: 20000)")
    parser.add_argument(
        "--seed", type=int, metavar="N", help="the first one's seed, to replay it; each next has the next"
    )
    parser.add_argument("--flood", type=seconds, metavar="S", help="instead: three clients that send for S seconds")


def run(options: argparse.Namespace) -> Report:
    """Sends the inputs, in a process that may die of them; in each round others."""
    if options.flood is not None:
        return _flood(options)
    report = Report("fuzz", {"rounds": options.rounds, "count": options.count})
    names = ("process deaths", "promises broken", "tasks left", "descriptors left")
    broken = {name: [0.0] * options.rounds for name in names}
    inputs: dict[str, list[float]] = {}
    lags: dict[str, list[float]] = {"p99": [], "longest": []}
    for nth in range(options.rounds):
        seed = random.SystemRandom().getrandbits(40) if options.seed is None else options.seed
        print(f"seed {seed}", flush=True)
        done = _fuzzed(seed, options.count, broken, nth)
        if done is None:
            continue
        for kind, number in {**done["inputs"], **done["statuses"]}.items():
            inputs.setdefault(kind, [0.0] * options.rounds)[nth] = number
        for place, name in enumerate(names[2:]):
            broken[name][nth] = max(done["after"][place] - done["before"][place], 0)
        lags["p99"].append(done["lag p99"] * 1e3)
        lags["longest"].append(done["lag max"] * 1e3)
    report.add("what must not be", "times", broken)
    if inputs:
        report.add("inputs, answers and codes of closing", "times", dict(sorted(inputs.items())))
    if lags["p99"]:
        report.add("the loop's lag, clients of the same process included", "ms", lags)
    for name in names:
        report.aim(name, "", 0, broken[name])
    report.notes.append("an input replays alone: python -m benchmarks fuzz --count 1 --seed N")
    return report


def _fuzzed(seed: int, number: int, broken: dict[str, list[float]], nth: int) -> dict[str, Any] | None:
    """What one process has told of so many inputs; None where it has died."""
    command = [sys.executable, "-m", "benchmarks._fuzzing", str(seed), str(number)]
    begun = {"begun": seed, "count": number}
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - this program
        assert process.stdout is not None
        for line in process.stdout:
            said: dict[str, Any] = json.loads(line)
            if "begun" in said:
                begun = said
                print(f"\r{said['begun'] - seed} of {number}", end="", file=sys.stderr, flush=True)
            elif "failed" in said:
                broken["promises broken"][nth] += 1
                _print_failure(said["failed"], said["count"], said["why"])
            else:
                print(file=sys.stderr)
                return said
        code = process.wait()
    broken["process deaths"][nth] += 1
    _print_failure(begun["begun"], begun["count"], f"the process has died, with code {code}")
    return None


def _print_failure(seed: int, number: int, why: str) -> None:
    print(
        f"{why}\nseed {seed} failed; this replays it: python -m benchmarks fuzz --count {number} --seed {seed}",
        flush=True,
    )


def _flood(options: argparse.Namespace) -> Report:
    report = Report("fuzz", {"rounds": options.rounds, "flood": options.flood})
    lag: dict[str, list[float]] = {}
    health: dict[str, list[float]] = {}
    sent: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        command = [sys.executable, "-m", "benchmarks._flooding", str(options.flood)]
        told = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
        said: dict[str, dict[str, float]] = json.loads(told.stdout)
        for into, name in ((lag, "lag"), (health, "health"), (sent, "sent")):
            for what, value in said[name].items():
                into.setdefault(what, []).append(value)
    step = {name.replace("a step", "longest"): lag.pop(name) for name in ("a step", "a step, at rest")}
    report.add("the loop's lag", "ms", lag)
    report.add("CPU time of a step of a task", "ms", step)
    report.add("/healthz answers within", "ms", health)
    report.add("three clients without a token have sent", "", sent)
    report.aim("the loop's lag, p99", "ms", 50.0, lag["p99"])
    report.aim("CPU time of a step of a task, longest", "ms", 20.0, step["longest"])
    report.aim("/healthz, p99", "ms", 100.0, health["p99"])
    report.notes.append("at rest: the same for a while before, with nobody but who asks /healthz")
    return report


register(
    Suite(
        name="fuzz",
        summary="inputs that mean harm: whether what must hold does, and how the loop fares; not a measurement",
        rounds=1,
        add_arguments=add_arguments,
        run=run,
        short=("--count", "2000"),
    )
)
