"""Spans by OTLP over HTTP, from processes of their own to a receiver; the second goes on with what the first left."""

from __future__ import annotations

import gzip
import os
import sys
from pathlib import Path
from typing import Any

import h11
import pytest
import trio

from tests.documents import ROOT
from tests.support import PATIENCE

pytestmark = [pytest.mark.integration, pytest.mark.exhaustive]

WORKER = """
import os, sys, trio
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from trio_progress import SessionActiveError, open_tracker, tracing

provider = TracerProvider(resource=Resource.create({"service.name": sys.argv[2]}))
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=sys.argv[1])))

async def main():
    async with open_tracker("sqlite:progress.db", lost_after=1.0, heartbeat_interval=0.2) as tracker:
        tracing.instrument(tracker, provider)
        while True:
            try:
                async with tracker.session("r-1", resume="always", labels={"user": "ada"}) as session:
                    if session.attempt == 1:
                        with session.phase("load", total=2) as load:
                            load.advance(2)
                        await session.flush()
                        await trio.to_thread.run_sync(provider.force_flush)
                        os._exit(9)
                    session.emit("half", {"done": 1})
                    with session.phase("store"):
                        session.fail("the disk is full")
                break
            except SessionActiveError:  # the lease of who was killed is still there
                await trio.sleep(0.2)

trio.run(main)
provider.shutdown()
"""


async def receive(stream: trio.SocketStream, requests: list[Any]) -> None:
    """Takes requests of one connection as a collector does (OTLP 1.x, OTLP/HTTP)."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
        ExportTraceServiceRequest,
        ExportTraceServiceResponse,
    )

    connection = h11.Connection(h11.SERVER)
    body, head = b"", None
    async with stream:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await stream.receive_some(65536))
            elif isinstance(event, h11.Request):
                body, head = b"", event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                headers = dict(head.headers)
                assert (head.method, head.target) == (b"POST", b"/v1/traces")
                assert headers[b"content-type"] == b"application/x-protobuf"
                whole = gzip.decompress(body) if headers.get(b"content-encoding") == b"gzip" else body
                requests.append(ExportTraceServiceRequest.FromString(whole))
                answer = ExportTraceServiceResponse().SerializeToString()
                said = [("Content-Type", "application/x-protobuf"), ("Content-Length", str(len(answer)))]
                data = connection.send(h11.Response(status_code=200, headers=said)) or b""
                data += connection.send(h11.Data(data=answer)) or b""
                await stream.send_all(data + (connection.send(h11.EndOfMessage()) or b""))
                connection.start_next_cycle()
            else:
                return


def attributes(of: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in of.attributes}


async def test_a_receiver_finds_both_attempts_and_how_they_are_linked(tmp_path: Path) -> None:
    requests: list[Any] = []
    (tmp_path / "worker.py").write_text(WORKER, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    async with trio.open_nursery() as nursery:

        async def handle(stream: trio.SocketStream) -> None:
            try:
                await receive(stream, requests)
            except (trio.BrokenResourceError, h11.RemoteProtocolError):
                pass

        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, handle, [listener])
        endpoint = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/v1/traces"
        codes = []
        for name in ("first", "second"):
            command = [sys.executable, "worker.py", endpoint, name]
            with trio.fail_after(PATIENCE):
                done = await trio.run_process(command, cwd=tmp_path, env=environment, check=False, capture_stderr=True)
            codes.append(done.returncode)
            assert done.returncode in (0, 9), done.stderr
        nursery.cancel_scope.cancel()
    assert codes == [9, 0]
    found = {
        (attributes(resource.resource)["service.name"], span.name): span
        for request in requests
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
        if scope.scope.name == "trio_progress"
    }
    assert set(found) == {("first", "load"), ("second", "store"), ("second", "session")}
    second = found["second", "session"]
    (link,) = second.links
    # The first was killed, so its own span never came; its phase did, and names it.
    assert (link.trace_id, link.span_id) == (found["first", "load"].trace_id, found["first", "load"].parent_span_id)
    assert [event.name for event in second.events] == ["half"]
    assert attributes(second)["trio_progress.session.attempt"] == 2
    assert attributes(second)["trio_progress.label.user"] == "ada"
    assert attributes(second)["error.type"] == "Failure"
    assert (second.status.code, second.status.message) == (2, "the disk is full")
    assert found["second", "store"].parent_span_id == second.span_id
