"""Races that were found in the world of Trio and told of in public, each as a scenario for the explorer.

`entry` says what an entry is; `locks`, `streams`, `frames`, `listeners`, `services`, `loops`, `pools`, `protocols` and
`connections` have them; `guarded` has correct scenarios with timeouts. `hunting` measures one, `environments` installs
old libraries, `suite` is the command line.
"""

from . import connections, frames, listeners, locks, loops, pools, protocols, services, streams

ENTRIES = (
    *locks.ENTRIES,
    *streams.ENTRIES,
    *frames.ENTRIES,
    *listeners.ENTRIES,
    *services.ENTRIES,
    *loops.ENTRIES,
    *pools.ENTRIES,
    *protocols.ENTRIES,
    *connections.ENTRIES,
)

from . import suite as suite  # noqa: E402 - it lists the entries
