"""`python -m trio_progress`: the same as the command `trio-progress`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
