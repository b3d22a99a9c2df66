"""A state as JSON and as plain values."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest

from tests.streams import record
from trio_progress import Snapshot

SNAPSHOTS = [message for name in record.names() for message in record.read(name) if isinstance(message, Snapshot)]


def test_a_state_comes_back_from_its_json_as_it_was() -> None:
    assert len(SNAPSHOTS) > 10
    for snapshot in SNAPSHOTS:
        text = snapshot.to_json()
        assert msgspec.json.decode(text, type=Snapshot) == snapshot
        assert json.loads(text) == snapshot.to_dict()
        assert msgspec.convert(snapshot.to_dict(), Snapshot) == snapshot


def test_the_json_is_what_a_server_sends() -> None:
    snapshot = next(one for one in SNAPSHOTS if one.phases)
    assert snapshot.to_json().encode() == msgspec.json.encode(snapshot)
    data = snapshot.to_dict()
    assert isinstance(data["phases"][0]["name"], str)
    assert "folded" not in data["phases"][0], "what has its usual value is left out"
    assert data["started_at"].endswith("Z")
    odd = msgspec.structs.replace(snapshot, fields={"set": {1}, "object": object})
    assert odd.to_dict()["fields"]["object"] == "<class 'object'>"


async def answered(app: Any, path: str) -> bytes:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
    }
    scope |= {"path": path, "query_string": b"", "headers": [], "server": ("host", 80), "client": ("host", 1)}
    await app(scope, receive, send)
    assert sent[0]["status"] == 200
    return b"".join(message.get("body", b"") for message in sent)


@pytest.mark.exhaustive
def test_a_route_of_fastapi_returns_it_as_it_is() -> None:
    fastapi = pytest.importorskip("fastapi", reason="fastapi comes with the extra `dev`")
    pydantic = pytest.importorskip("pydantic", reason="pydantic comes with fastapi")
    (snapshot, *_) = SNAPSHOTS
    app = fastapi.FastAPI()
    app.get("/one", response_model=Snapshot)(lambda: snapshot)
    app.get("/all", response_model=list[Snapshot])(lambda: [snapshot])
    assert asyncio.run(answered(app, "/one")).decode() == snapshot.to_json()
    assert json.loads(asyncio.run(answered(app, "/all"))) == [snapshot.to_dict()]
    assert "State in `schema.json`" in asyncio.run(answered(app, "/openapi.json")).decode()
    with pytest.raises(pydantic.ValidationError):
        pydantic.TypeAdapter(Snapshot).validate_python({"id": "r"})
