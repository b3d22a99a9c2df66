"""The JSON Schema of the protocol's messages, made of the types that encode and decode them.

`python -m trio_progress.server.schema > trio_progress/server/schema.json` after a change of them; a test tells when
that was forgotten.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Sequence
from typing import Any, Final, get_args

import msgspec

from .._version import __version__
from ..protocol import messages, requests
from ..protocol.messages import SUBPROTOCOL
from ..protocol.snapshot import Snapshot

FROM_SERVER: Final = get_args(messages.ServerMessage)
FROM_CLIENT: Final = get_args(requests.Request)


class SessionList(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `GET /sessions`."""

    sessions: tuple[Snapshot, ...]
    cursor: str | None


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `GET /config`: what a page needs to know."""

    protocol: str
    auth: str
    """Who decides what one may see: "none" (all may all), "token", or "other" (cookies, a proxy)."""
    authenticated: bool
    name: str | None
    verbs: tuple[messages.Verb, ...]
    keepalive: float
    version: str = __version__


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `GET /readyz`."""

    ready: bool
    stopping: bool
    store_up: bool
    store_partitions_down: Sequence[int]
    """The partitions of a store in a Redis Cluster whose node did not answer the last time."""
    read_lag: float
    """Seconds since it was last known what news of other processes' sessions there is in the store."""
    sessions_followed: int
    """Sessions of other processes that are watched here."""


def schema() -> dict[str, Any]:
    """The schema as JSON data: in `$defs` are `ServerMessage`, `ClientMessage` and all that they are made of."""
    _, definitions = msgspec.json.schema_components(
        (*FROM_SERVER, *FROM_CLIENT, Snapshot, SessionList, Config), ref_template="#/$defs/{name}"
    )
    # A docstring is indented as it stands in the source, but for CPython 3.13 and newer.
    definitions = {
        name: one | {"description": inspect.cleandoc(one["description"])} if "description" in one else one
        for name, one in definitions.items()
    }
    definitions["ServerMessage"] = {"anyOf": [{"$ref": f"#/$defs/{kind.__name__}"} for kind in FROM_SERVER]}
    definitions["ClientMessage"] = {"anyOf": [{"$ref": f"#/$defs/{kind.__name__}"} for kind in FROM_CLIENT]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": SUBPROTOCOL,
        "description": "The messages of the protocol that PROTOCOL.md describes.",
        "anyOf": [{"$ref": "#/$defs/ServerMessage"}, {"$ref": "#/$defs/ClientMessage"}],
        "$defs": dict(sorted(definitions.items())),
    }


@functools.cache
def encoded() -> bytes:
    """The schema as it stands in `schema.json`; made once, for it takes some 20 ms, and each server asks for it."""
    return msgspec.json.format(msgspec.json.encode(schema()), indent=2) + b"\n"


if __name__ == "__main__":
    sys.stdout.buffer.write(encoded())
