"""The door as HTTP: polling, server-sent events, the page's files, probes, and clients that others wrote."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import trio
import trio.lowlevel

from tests.doors import SECRET, ask, bearer, both_doors, open_door, read_answer, talk
from tests.support import PATIENCE, RecordingStore
from trio_progress import CustomEvent, Snapshot, Update, connect, decode_message, open_progress

pytestmark = pytest.mark.integration


def events_of(body: bytes) -> list[tuple[str | None, dict[str, Any]]]:
    """The id and the message of each event."""
    found = []
    for block in body.decode().split("\n\n"):
        fields = [line.partition(": ")[::2] for line in block.split("\n") if not line.startswith(":")]
        given = dict(fields)
        if "data" in given:
            found.append((given.get("id"), json.loads(given["data"])))
    return found


@both_doors
async def test_polling_is_answered_with_304_until_something_has_changed() -> None:
    async with open_door() as door:
        async with door.tracker.session("r-1") as session:
            first = await ask(door.port, "GET", "/sessions/r-1")
            tag = first.headers["etag"]
            assert (first.status, first.json["id"]) == (200, "r-1")
            for given in (tag, f'"x", {tag}', tag.removeprefix("W/"), "*"):
                again = await ask(door.port, "GET", "/sessions/r-1", {"If-None-Match": given})
                assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
            session.set(x=1)
            await trio.sleep(0.05)
            changed = await ask(door.port, "GET", "/sessions/r-1", {"If-None-Match": tag})
            assert (changed.status, changed.json["fields"]) == (200, {"x": 1})
            head = await ask(door.port, "HEAD", "/sessions/r-1")
            assert (head.status, head.body) == (200, b"")


@both_doors
async def test_the_list_is_paged_filtered_and_checked() -> None:
    async with open_door() as door:
        for n in range(5):
            async with door.tracker.session(f"r-{n}", labels={"parity": "odd" if n % 2 else "even"}):
                await trio.sleep(0.002)
        page = (await ask(door.port, "GET", "/sessions?limit=2")).json
        found = [one["id"] for one in page["sessions"]]
        while page["cursor"]:
            page = (await ask(door.port, "GET", f"/sessions?limit=2&cursor={quote(page['cursor'])}")).json
            found += [one["id"] for one in page["sessions"]]
        assert found == ["r-4", "r-3", "r-2", "r-1", "r-0"]
        even = (await ask(door.port, "GET", "/sessions?label=parity:even&status=completed")).json["sessions"]
        assert [one["id"] for one in even] == ["r-4", "r-2", "r-0"]
        assert (await ask(door.port, "GET", "/sessions?status=failed")).json["sessions"] == []
        await door.tracker.declare("part", labels={"parity": "none"}, parent="r-1")
        for query, ids in (("parent=r-1", ["part"]), ("parent=r-1&label=parity:odd", []), ("parent=r-2", [])):
            answer = await ask(door.port, "GET", f"/sessions?{query}")
            assert [one["id"] for one in answer.json["sessions"]] == ids, query
        for bad in (
            "status=nonsense",
            "limit=0",
            "limit=1001",
            "limit=x",
            "label=x",
            "label=:x",
            "cursor=%00",
            "parent=%20",
        ):
            answer = await ask(door.port, "GET", f"/sessions?{bad}")
            assert (answer.status, answer.json["code"]) == (400, "bad_request"), bad


@both_doors
async def test_events_are_told_resumed_by_their_id_and_end_with_204() -> None:
    async with open_door() as door:
        async with trio.open_nursery() as nursery:
            bodies: list[bytes] = []

            async def listen() -> None:
                bodies.append((await ask(door.port, "GET", "/sessions/r-1/events?wait=1")).body)

            nursery.start_soon(listen)
            await trio.sleep(0.1)
            async with door.tracker.session("r-1") as session:
                with session.phase("a", total=5) as phase:
                    for n in range(5):
                        phase.advance()
                        session.emit("found", n)
                        await trio.sleep(0.03)
        told = events_of(bodies[0])
        kinds = [message["type"] for _, message in told]
        assert (kinds[:2], kinds[-1]) == (["subscribed", "snapshot"], "end")
        assert [message["data"] for _, message in told if message["type"] == "event"] == [0, 1, 2, 3, 4]
        assert all(tag == message["resume"] for tag, message in told if "resume" in message)
        middle = next(tag for tag, message in told if message["type"] == "event" and message["data"] == 2)
        assert middle is not None
        again = await ask(door.port, "GET", "/sessions/r-1/events", {"Last-Event-ID": middle})
        assert again.headers["content-type"].startswith("text/event-stream")
        resumed = [message for _, message in events_of(again.body)]
        assert resumed[-1]["type"] == "end"
        assert [message["data"] for message in resumed if message["type"] == "event"] == [3, 4]
        last = told[-1][0]
        assert last is not None
        assert (await ask(door.port, "GET", "/sessions/r-1/events", {"Last-Event-ID": last})).status == 204
        assert (await ask(door.port, "GET", "/sessions/nobody/events")).status == 404
        for bad in ("max_hz=0", "max_hz=x", "events=-1", "wait=maybe"):
            assert (await ask(door.port, "GET", f"/sessions/r-1/events?{bad}")).status == 400


async def test_head_of_a_stream_is_its_head_alone() -> None:
    async with open_door() as door:
        async with door.tracker.session("r-1"):
            for path in ("/events", "/sessions/r-1/events"):
                async with await trio.open_tcp_stream("127.0.0.1", door.port) as stream:
                    await stream.send_all(f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                    data = b""
                    with trio.fail_after(PATIENCE):
                        while more := await stream.receive_some(65536):
                            data += more
                head, _, body = data.partition(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200 ")
                assert b"text/event-stream" in head
                assert body == b""


@both_doors
async def test_the_list_is_told_as_events() -> None:
    async with open_door() as door:
        stream = await trio.open_tcp_stream("127.0.0.1", door.port)
        async with stream:
            await stream.send_all(b"GET /events?max_hz=50 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = await read_answer(stream, head_only=True)
            assert answer is not None
            data = answer.body
            async with door.tracker.session("r-1"):
                with trio.fail_after(PATIENCE):
                    while b'"status":"running"' not in data:
                        data += await stream.receive_some(65536)


@both_doors
async def test_files_are_told_apart_by_their_content_and_nothing_else_is_served() -> None:
    async with open_door() as door:
        page = await ask(door.port, "GET", "/")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        again = await ask(door.port, "GET", "/", {"If-None-Match": page.headers["etag"]})
        assert again.status == 304
        script = await ask(door.port, "GET", "/static/trio-progress.js")
        assert script.headers["content-type"] == "text/javascript; charset=utf-8"
        assert (await ask(door.port, "GET", "/schema.json")).json["title"] == "trio-progress.v1"
        for path in ("/static/", "/static/README.md", "/static/nothing.js", "/settings.py", "/static/../schema.json"):
            assert (await ask(door.port, "GET", path)).status == 404
        assert (await ask(door.port, "POST", "/")).status == 405
        assert (await ask(door.port, "PUT", "/sessions/r-1")).status == 405
        assert (await ask(door.port, "POST", "/sessions")).status == 405


async def test_a_base_path_is_before_all_paths() -> None:
    async with open_door(base_path="/progress") as door:
        assert door.server.url.endswith("/progress/")
        moved = await ask(door.port, "GET", "/progress")
        assert (moved.status, moved.headers["location"]) == (308, "/progress/")
        for path in ("/progress/", "/progress/sessions", "/progress/static/trio-progress.js", "/progress/healthz"):
            assert (await ask(door.port, "GET", path)).status == 200
        for path in ("/", "/sessions", "/progressive/sessions"):
            assert (await ask(door.port, "GET", path)).status == 404
        async with talk(door.port, path="/progress/ws") as client:
            await client.say(type="ping")
            await client.until("pong")


async def test_many_requests_follow_each_other_on_one_connection() -> None:
    async with open_door() as door:
        stream = await trio.open_tcp_stream("127.0.0.1", door.port)
        async with stream:
            request = b"GET /static/trio-progress.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
            for _ in range(3):
                await stream.send_all(request)
                answer = await read_answer(stream)
                assert answer is not None
                assert answer.status == 200
            head = b"POST /sessions/nobody/cancel HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            await stream.send_all(head + b"Content-Length: 2\r\n\r\n{}")
            answer = await read_answer(stream)
            assert answer is not None
            assert answer.status == 404


async def test_an_upgrade_to_something_else_is_ignored_and_the_request_is_answered() -> None:
    """Java's HttpClient, and `curl --http2`, ask for h2c with their first request, also where it has a body."""
    h2c = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAoAAAAAIAAAAA"}
    async with open_door() as door:
        async with door.tracker.session("r-1") as session:
            head = "".join(f"{name}: {value}\r\n" for name, value in {"Host": "localhost", **h2c}.items())
            async with await trio.open_tcp_stream("127.0.0.1", door.port) as stream:
                for _ in range(2):  # and the connection stays
                    await stream.send_all(f"GET /sessions/r-1 HTTP/1.1\r\n{head}\r\n".encode())
                    answer = await read_answer(stream)
                    assert answer is not None
                    assert answer.status == 200
            json = {"Content-Type": "application/json"}
            body = b'{"reason":"enough"}'
            assert (await ask(door.port, "POST", "/sessions/none/cancel", {**h2c, **json}, body)).status == 404
            assert session.status == "running"


@both_doors
async def test_the_probes_are_tied_to_the_loop_and_to_the_store() -> None:
    store = RecordingStore()
    async with open_door(tracker_settings={"store": store, "persist_interval": 0.02, "flush_timeout": 0.5}) as door:
        async with door.tracker.session("r-1") as session:
            assert (await ask(door.port, "GET", "/healthz")).body == b"ok\n"
            ready = await ask(door.port, "GET", "/readyz")
            assert (ready.status, ready.json["ready"], ready.json["read_lag"]) == (200, True, 0)
            store.mode = "down"
            session.set(x=1)
            with trio.fail_after(PATIENCE):
                while door.tracker.statistics().store_up:  # noqa: ASYNC110 - the tracker tells nobody
                    await trio.sleep(0.02)
            unready = await ask(door.port, "GET", "/readyz")
            assert (unready.status, unready.json["ready"], unready.json["store_up"]) == (503, False, False)
            assert unready.json["stopping"] is False
            assert (await ask(door.port, "GET", "/healthz")).status == 200
            assert (await ask(door.port, "GET", "/sessions/elsewhere")).status == 503
            async with talk(door.port) as client:
                await client.say(type="subscribe", session="elsewhere")
                assert (await client.next())["code"] == "unavailable"
            store.mode = "up"


async def test_the_probe_says_which_partitions_of_the_store_are_down_and_is_ready_all_the_same() -> None:
    store = RecordingStore()
    store.partitions_down = [3, 7]  # type: ignore[attr-defined]
    async with open_door(tracker_settings={"store": store}) as door:
        ready = await ask(door.port, "GET", "/readyz")
        assert (ready.status, ready.json["store_up"], ready.json["store_partitions_down"]) == (200, True, [3, 7])
        assert "trio_progress_store_partitions_down 2.0\n" in (await ask(door.port, "GET", "/metrics")).body.decode()


@both_doors
async def test_metrics_are_for_those_who_may_read_all() -> None:
    pytest.importorskip("prometheus_client")
    from trio_progress import issue_token

    async with open_door(auth=SECRET) as door:
        async with door.tracker.session("r-1"):
            answer = await ask(door.port, "GET", "/metrics", bearer(issue_token(SECRET, everything=True)))
            assert answer.status == 200
            assert b"trio_progress_states_total" in answer.body
            assert b"r-1" not in answer.body
            one = bearer(issue_token(SECRET, sessions=["r-1"]))
            assert (await ask(door.port, "GET", "/metrics", one)).status == 403


@both_doors
async def test_config_tells_a_page_what_it_needs() -> None:
    async with open_door() as door:
        open_to_all = (await ask(door.port, "GET", "/config")).json
        assert (open_to_all["auth"], open_to_all["authenticated"]) == ("none", True)
    async with open_door(auth=SECRET) as door:
        closed = (await ask(door.port, "GET", "/config")).json
        assert (closed["auth"], closed["authenticated"], closed["verbs"]) == ("token", False, [])
        known = (await ask(door.port, "GET", "/config", bearer(SECRET))).json
        assert (known["authenticated"], known["verbs"]) == (True, ["read", "cancel", "delete"])


async def test_a_script_has_its_page_by_one_keyword() -> None:
    async with open_progress("import", {"a": 1}, display=False, serve=0):
        await trio.lowlevel.checkpoint()
    with pytest.raises(ValueError, match="port"):
        async with open_progress("import", display=False, serve=70_000):
            raise AssertionError("it must not begin")


async def test_connect_goes_on_where_it_stood_when_the_server_comes_back() -> None:
    from trio_progress import open_tracker
    from trio_progress.server import open_server

    async with open_tracker(broadcast_interval=0.02) as tracker, trio.open_nursery() as nursery:
        numbers: list[int] = []
        states: list[Snapshot] = []

        async def follow(port: int) -> None:
            async with connect(f"ws://127.0.0.1:{port}", "r-1") as messages:
                async for message in messages:
                    if isinstance(message, CustomEvent):
                        numbers.append(message.n)  # noqa: PERF401 - another task looks at it meanwhile
            assert messages.state is not None
            assert messages.reconnects >= 1
            states.append(messages.state)

        async with tracker.session("r-1") as session:
            phase = session.phase("a", total=40).__enter__()
            async with open_server(tracker, port=0, drain_timeout=0.1) as server:
                port = server.port
                nursery.start_soon(follow, port)
                for n in range(10):
                    phase.advance()
                    session.emit("found", n)
                    await trio.sleep(0.03)
            for n in range(10):
                phase.advance()
                session.emit("found", n)
                await trio.sleep(0.01)
            async with open_server(tracker, port=port):
                with trio.fail_after(PATIENCE):
                    while len(numbers) < 20:  # noqa: ASYNC110 - the reader is another task
                        await trio.sleep(0.02)
                phase.advance(20)
                session.cancel()
                with trio.move_on_after(0.5):
                    await trio.sleep_forever()
        # The server is left before the session ends; the client learns the end from the next one.
        async with open_server(tracker, port=port):
            with trio.fail_after(PATIENCE):
                while not states:  # noqa: ASYNC110
                    await trio.sleep(0.02)
    assert numbers == list(range(1, 21))
    assert states[0].status == "cancelled"


async def run_client(*command: str) -> str:
    done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


WEBSOCKETS = """
import json, sys
from websockets.sync.client import connect
with connect(sys.argv[1], subprotocols=["trio-progress.v1"]) as socket:
    socket.send(json.dumps({"type": "subscribe", "session": "r-1", "wait": True, "close": True}))
    for text in socket:
        print(text)
print(json.dumps({"type": "closed", "code": socket.protocol.close_code}))
"""

NODE = """
const { WebSocket } = globalThis.WebSocket ? globalThis : require("ws");
const socket = new WebSocket(process.argv[1], ["trio-progress.v1"]);
socket.onopen = () => socket.send(JSON.stringify({ type: "subscribe", session: "r-1", wait: true, close: true }));
socket.onmessage = ({ data }) => console.log(data);
socket.onclose = ({ code }) => console.log(JSON.stringify({ type: "closed", code }));
"""


def foreign(name: str) -> list[str]:
    """The command of a client that somebody else wrote; the test is skipped where it is not there."""
    if name == "websockets":
        pytest.importorskip("websockets")
        return [sys.executable, "-c", WEBSOCKETS]
    if name == "curl":
        if shutil.which("curl") is None:
            pytest.skip("curl is missing: install the package curl")
        return ["curl", "--silent", "--no-buffer", "--max-time", "20"]
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is missing: install the package nodejs")
    probe = "process.exit(globalThis.WebSocket || require.resolve('ws') ? 0 : 1)"
    for flags in ([], ["--experimental-websocket"]):
        command = [node, *flags, "-e", probe]
        if subprocess.run(command, capture_output=True, check=False, cwd=Path.home()).returncode == 0:
            return [node, *flags, "-e", NODE]
    pytest.skip("this Node has no WebSocket, and `ws` is not installed")


@pytest.mark.parametrize("name", ["websockets", "node", "curl"])
@both_doors
async def test_clients_that_others_wrote_end_on_the_same_state(name: str) -> None:
    command = foreign(name)
    async with open_door() as door:
        output: list[str] = []
        address = f"ws://127.0.0.1:{door.port}/ws"
        if name == "curl":
            address = f"http://127.0.0.1:{door.port}/sessions/r-1/events?wait=1"
        async with trio.open_nursery() as nursery:

            async def client() -> None:
                output.append(await run_client(*command, address))

            nursery.start_soon(client)
            with trio.fail_after(PATIENCE):
                while not door.tracker.statistics().subscribers:  # noqa: ASYNC110 - the tracker tells nobody
                    await trio.sleep(0.02)
            async with door.tracker.session("r-1") as session:
                with session.phase("a", total=30) as phase:
                    for n in range(30):
                        phase.advance()
                        session.emit("found", {"n": n, "é": "\u2028<b>"})
                        await trio.sleep(0.01)
        final = await door.tracker.snapshot("r-1")
    if name == "curl":
        told = [message for _, message in events_of(output[0].encode())]
    else:
        told = [json.loads(line) for line in output[0].split("\n") if line]
        assert told.pop() == {"type": "closed", "code": 1000}
    assert [message["data"]["n"] for message in told if message["type"] == "event"] == list(range(30))
    state: Snapshot | None = None
    for message in told:
        decoded = decode_message(json.dumps(message))
        if isinstance(decoded, Snapshot):
            state = decoded
        elif isinstance(decoded, Update):
            assert state is not None
            state = decoded.apply(state)
    assert state is not None
    assert (state.seq, state.status, state.phases) == (final.seq, "completed", final.phases)
    assert told[-1]["type"] == "end"
