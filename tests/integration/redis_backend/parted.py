"""States that Redis keeps in parts, who stores them and who watches, and what an older version does beside them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import msgspec
import redis

from tests.integration.redis_backend.asking import claimed, one
from tests.store_contract.rig import LEASE, append
from trio_progress.stores.base import Done, Seen, Stored
from trio_progress.stores.redis.backend import RedisBackend

Names = Callable[[str], str]
"""The keys of session `a` by their kind."""


class State:
    """A session that changes at random, as a record."""

    def __init__(self, rng: random.Random, phases: int = 5) -> None:
        self.rng = rng
        self.phases: list[dict[str, Any]] = []
        self.state: dict[str, Any] = {"id": "a", "n": 0, "fields": {}, "result": None, "phases": self.phases}
        self.saved: Any = None
        for n in range(phases):
            self.add(f"phase {n}")

    def add(self, name: str) -> None:
        self.phases.append({"name": name, "done": 0, "fields": {}, "phases": [{"name": "below", "fields": {}, "x": 0}]})

    def change(self) -> bytes:
        """The next record."""
        rng = self.rng
        self.state["n"] += 1
        for _ in range(rng.randint(1, 3)):
            what = rng.choice(["count", "count", "below", "add", "remove", "field", "result", "saved", "order"])
            phase = rng.choice(self.phases) if self.phases else None
            if what == "add":
                self.add(f"phase {self.state['n']}.{rng.random():.3f}")
            elif what in ("result", "saved"):
                value = rng.choice([None, "r" * rng.choice([5, 300, 9000])])
                if what == "saved":
                    self.saved = value
                else:
                    self.state["result"] = value
            elif phase is None:
                continue
            elif what == "count":
                phase["done"] += 1
            elif what == "below":
                phase["phases"][0]["x"] += 1
            elif what == "remove":
                self.phases.remove(phase)
            elif what == "field":
                phase["fields"]["log"] = "l" * rng.choice([5, 300, 9000])
            else:
                self.phases.remove(phase)
                self.phases.append(phase)
        return self.record()

    def record(self) -> bytes:
        return msgspec.json.encode({"format": 1, "state": self.state, "saved": self.saved, "folded": 0, "spent": {}})


def once(seconds: float) -> bool:
    """A pause that does not let look a second time."""
    time.sleep(seconds)
    return seconds > 0


class Watching:
    """A process that watches session `a`."""

    def __init__(self, backend: RedisBackend) -> None:
        self.backend = backend
        self.mark = backend.changes(None, {}, lambda _: True).mark
        self.seen: Seen | None = None
        self.stored: Stored | None = None

    def look(self, *, forget: bool = False) -> None:
        """Takes in what is new, unless the answer is to be lost."""
        changes = self.backend.changes(self.mark, {"a": self.seen}, once)
        if not forget:
            self.mark = changes.mark
            for stored in changes.sessions:
                assert self.seen is None or stored.key >= self.seen.key
                self.seen, self.stored = stored.seen, stored


def stored_in(backend: RedisBackend) -> Stored:
    found = backend.read("a")
    assert found is not None
    return found


def in_parts(backend: RedisBackend, state: State) -> int:
    """The epoch of a session whose second state is kept in parts."""
    epoch = claimed(backend, record=b"claimed")
    for seq in (1, 2):
        state.state["n"] = seq
        assert one(backend, append(epoch, seq, record=state.record())) == Done()
    return epoch


def claim_of_an_older_version(client: redis.Redis, names: Names, epoch: int, record: bytes) -> None:
    """What a process does that knows of no parts."""
    client.delete(names("s"), names("e"), names("m"), names("k"))
    client.xadd(names("s"), {"d": record}, id=f"{epoch}-0")
    client.xadd(names("e"), {"0": ""}, id=f"{epoch}-0")
    given: dict[Any, Any] = {"e": epoch, "o": "older", "f": "0", "s": "running", "p": "", "l": "{}", "q": "1.0"}
    client.hset(names("m"), mapping=given)
    client.set(f"{names('l')}:{epoch}", "", px=int(LEASE * 1000))
