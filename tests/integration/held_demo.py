"""The demo, whose search stays at a file until it is stopped: whoever stops it there comes at no moment too late."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from typing import Final

import trio

from trio_progress.cli import main
from trio_progress.demo import search
from trio_progress.demo.corpus import Skipped, read_lines

READ: Final = 40
"""Files that are read before that."""

_read = itertools.count()
_lock = threading.Lock()


def held(root: str, path: str) -> list[str] | Skipped:
    """Reads a file; from the one on at which it stays only until it is cancelled."""
    with _lock:
        number = next(_read)
    while number >= READ:
        trio.from_thread.check_cancelled()
        time.sleep(0.01)
    return read_lines(root, path)


if __name__ == "__main__":
    vars(search)["read_lines"] = held
    sys.exit(main(["demo", *sys.argv[1:]]))
