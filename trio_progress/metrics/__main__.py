"""`python -m trio_progress.metrics dashboard | rules`: prints the file, for Grafana or Prometheus to read."""

from __future__ import annotations

import argparse
import sys

from . import dashboard, rules

_WHAT = {"dashboard": dashboard, "rules": rules}


def main() -> None:
    """Prints the file."""
    parser = argparse.ArgumentParser(
        prog="python -m trio_progress.metrics",
        description="Prints the Grafana dashboard (JSON) or the Prometheus alert rules (YAML) of trio-progress.",
    )
    parser.add_argument("what", choices=sorted(_WHAT))
    sys.stdout.write(_WHAT[parser.parse_args().what]())


if __name__ == "__main__":
    main()
