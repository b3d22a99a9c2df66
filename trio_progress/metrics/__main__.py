"""`python -m trio_progress.metrics dashboard | rules`: prints what is provided, to be put where it is used."""

from __future__ import annotations

import argparse
import sys

from .assets import dashboard, rules

_WHAT = {"dashboard": dashboard, "rules": rules}


def main() -> None:
    """Prints the file that is asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m trio_progress.metrics",
        description="Prints the Grafana dashboard (JSON) or the Prometheus alert rules (YAML) of trio-progress.",
    )
    parser.add_argument("what", choices=sorted(_WHAT))
    sys.stdout.write(_WHAT[parser.parse_args().what]())


if __name__ == "__main__":
    main()
