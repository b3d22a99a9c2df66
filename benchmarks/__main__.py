"""`python -m benchmarks`: runs one suite or all, compares two runs, makes the page of results of one."""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

# Every process that a suite spawns imports this module too, so it imports the rest where it runs.
if TYPE_CHECKING:
    from . import together
    from .suites import Suite


def main(arguments: list[str] | None = None) -> int:
    """Runs what the arguments name. A missed target is printed; it is no error.

    Returns:
        1 where something is missing that was asked for, or a suite of `all` has failed; else 0.
    """
    from . import together
    from .suites import MissingError, discover

    arguments = sys.argv[1:] if arguments is None else arguments
    suites = discover(*arguments[:1])
    parser = _parser(suites)
    options = parser.parse_args(arguments)
    try:
        if options.suite == "all":
            options.json.touch()  # Or many minutes would be lost where it cannot be written.
            save = partial(_write, options.json)
            run = together.run_all(suites, parser.parse_args, full=options.full, save=save)
            if run["failed"]:
                print(f"failed: {', '.join(run['failed'])}", file=sys.stderr)
                return 1
        elif options.suite == "compare":
            before, after = together.read(options.before), together.read(options.after)
            together.compare(before, after, sys.stdout, every=options.every)
        elif options.suite == "page":
            _page(options)
        else:
            report = suites[options.suite].run(options)
            report.print(sys.stdout)
            if options.json is not None:
                report.write(options.json)
    except ModuleNotFoundError as error:
        print(f"{error.name} is not installed: pip install 'trio-progress[bench]'", file=sys.stderr)
        return 1
    except MissingError as error:
        print(error, file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        if options.suite not in ("all", "compare", "page"):
            raise
        print(error, file=sys.stderr)
        return 1
    return 0


def _parser(suites: dict[str, Suite]) -> argparse.ArgumentParser:
    from .suites import count

    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="What trio-progress costs, beside its rivals."
    )
    commands = parser.add_subparsers(dest="suite", required=True, metavar="SUITE")
    for suite in suites.values():
        command = commands.add_parser(suite.name, help=suite.summary, description=suite.summary)
        command.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")
        command.add_argument("--rounds", type=count, default=suite.rounds, metavar="N", help="default: %(default)s")
        suite.add_arguments(command)
    every = commands.add_parser("all", help="every suite, short unless told, into one file")
    every.add_argument("--json", type=Path, metavar="OUT", required=True, help="the file")
    every.add_argument("--full", action="store_true", help="with each suite's defaults: many minutes")
    two = commands.add_parser("compare", help="what moved between two files that were written by --json")
    two.add_argument("before", type=Path, metavar="A")
    two.add_argument("after", type=Path, metavar="B")
    two.add_argument("--every", action="store_true", help="print also what has not moved")
    made = commands.add_parser("page", help="the page of results of docs/, from a file that `all` has written")
    made.add_argument("run", type=Path, metavar="RUN")
    made.add_argument("--into", type=Path, metavar="FILE", help="put it there, instead of printing it")
    return parser


def _write(path: Path, run: together.Run) -> None:
    path.write_text(json.dumps(run, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _page(options: argparse.Namespace) -> None:
    from . import page, together

    made = page.page(together.read(options.run))
    if options.into is None:
        print(made)
    else:
        page.put_into(options.into, made)


if __name__ == "__main__":
    sys.exit(main())
