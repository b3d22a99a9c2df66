"""`python -m benchmarks`: runs one suite, prints its table and, with `--json`, writes it to a file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .suites import count, discover


def main(arguments: list[str] | None = None) -> int:
    """Runs the suite that the arguments name. A missed target is printed; it is no error."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="What trio-progress costs, beside its rivals."
    )
    commands = parser.add_subparsers(dest="suite", required=True, metavar="SUITE")
    suites = discover()
    for suite in suites.values():
        command = commands.add_parser(suite.name, help=suite.summary, description=suite.summary)
        command.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")
        command.add_argument("--rounds", type=count, default=suite.rounds, metavar="N", help="default: %(default)s")
        suite.add_arguments(command)
    options = parser.parse_args(arguments)
    try:
        report = suites[options.suite].run(options)
    except ModuleNotFoundError as error:
        print(f"{error.name} is not installed: pip install 'trio-progress[bench]'", file=sys.stderr)
        return 1
    report.print(sys.stdout)
    if options.json is not None:
        report.write(options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
