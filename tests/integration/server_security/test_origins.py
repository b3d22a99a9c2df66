"""Who may ask at all: where a server binds, which origins, hosts, proxies and ids it takes."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

import pytest
import trio
import trio.testing
import trustme

from tests.doors import SECRET, ask, bearer, both_doors, open_door, raw, read_answer, talk
from tests.raw import UPGRADE
from trio_progress import open_tracker
from trio_progress.server import Credentials, Grant, Trusted, open_server

pytestmark = pytest.mark.integration


# Where it binds


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
async def test_a_host_that_others_can_reach_is_refused_without_auth(host: str) -> None:
    async with open_tracker() as tracker:
        with pytest.raises(ValueError, match="`auth` is required"):
            async with open_server(tracker, port=0, host=host):
                raise AssertionError("it must not start")


async def test_it_binds_to_loopback_unless_told_and_to_all_with_auth() -> None:
    async with open_door() as door:
        assert door.server.host == "127.0.0.1"
    async with open_door(host="0.0.0.0", auth=SECRET) as door:
        assert door.server.host == "0.0.0.0"
        assert (await ask(door.port, "GET", "/sessions")).status == 401


# Origins and hosts

FOREIGN: list[Mapping[str, str]] = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:1"},
    {"Origin": "http://localhost.evil.example"},
    {"Origin": "file://"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
]


@pytest.mark.parametrize("headers", FOREIGN)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/config"),
        ("GET", "/sessions"),
        ("GET", "/sessions/r-1"),
        ("GET", "/sessions/r-1/events"),
        ("GET", "/events"),
        ("GET", "/static/trio-progress.js"),
        ("POST", "/sessions/r-1/cancel"),
        ("DELETE", "/sessions/r-1"),
        ("GET", "/healthz"),
        ("OPTIONS", "/sessions"),
        ("GET", "/ws"),
    ],
)
@both_doors
async def test_a_foreign_origin_is_refused_on_every_path_before_anything_else(
    method: str, path: str, headers: Mapping[str, str]
) -> None:
    async with open_door(auth=SECRET) as door:
        answer = await ask(door.port, method, path, headers)
        assert answer.status == 403
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("headers", FOREIGN)
@both_doors
async def test_a_websocket_of_a_foreign_origin_is_refused(headers: Mapping[str, str]) -> None:
    async with open_door() as door:
        extra = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()
        async with await raw(door.port) as stream:
            await stream.send_all(UPGRADE[:-2] + extra + b"\r\n")
            answer = await read_answer(stream)
        assert answer is not None
        assert answer.status == 403


@both_doors
async def test_the_servers_own_page_may_ask_and_a_link_to_the_page_may_be_followed() -> None:
    async with open_door() as door:
        own = {"Host": f"localhost:{door.port}", "Origin": f"http://localhost:{door.port}"}
        assert (await ask(door.port, "GET", "/sessions", own)).status == 200
        followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
        assert (await ask(door.port, "GET", "/", followed)).status == 200
        assert (await ask(door.port, "GET", "/sessions", followed)).status == 403


@both_doors
async def test_an_allowed_origin_gets_cors_with_preflight() -> None:
    async with open_door(origins=["https://app.example.org"]) as door:
        origin = {"Origin": "https://app.example.org"}
        answer = await ask(door.port, "GET", "/sessions", {**origin, "Sec-Fetch-Site": "cross-site"})
        assert answer.status == 200
        assert answer.headers["access-control-allow-origin"] == "https://app.example.org"
        assert answer.headers["vary"] == "Origin"
        assert "access-control-allow-credentials" not in answer.headers
        preflight = {**origin, "Access-Control-Request-Method": "POST"}
        answer = await ask(door.port, "OPTIONS", "/sessions/r-1/cancel", preflight)
        assert answer.status == 204
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert "Authorization" in answer.headers["access-control-allow-headers"]
        assert (await ask(door.port, "GET", "/sessions", {"Origin": "https://app.example.org.evil"})).status == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "evillocalhost", "localhost.evil.example", "", "127.0.0.1.evil.example", "a b"]
)
@both_doors
async def test_a_name_that_somebody_elses_dns_points_here_is_refused(host: str) -> None:
    async with open_door() as door:
        assert (await ask(door.port, "GET", "/sessions", {"Host": host})).status in (400, 421)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1", "[::1]:9", "app.localhost", "10.1.2.3"])
@both_doors
async def test_addresses_and_localhost_are_always_served(host: str) -> None:
    async with open_door() as door:
        assert (await ask(door.port, "GET", "/sessions", {"Host": host})).status == 200


async def test_over_tls_the_page_of_the_same_name_without_it_is_foreign() -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    theirs = ssl.create_default_context()
    authority.configure_trust(theirs)
    async with open_door(ssl_context=context) as door:
        for scheme, status in (("http", 403), ("https", 200)):
            async with await raw(door.port) as stream:
                client = trio.SSLStream(stream, theirs, server_hostname="localhost", https_compatible=True)
                head = f"GET /sessions HTTP/1.1\r\nHost: localhost\r\nOrigin: {scheme}://localhost\r\n\r\n"
                await client.send_all(head.encode())
                answer = await read_answer(client)
                assert answer is not None
                assert answer.status == status


@both_doors
async def test_a_host_that_was_named_is_served() -> None:
    async with open_door(hosts=["progress.example.org"]) as door:
        assert (await ask(door.port, "GET", "/sessions", {"Host": "Progress.example.org:443"})).status == 200


@both_doors
async def test_forwarded_addresses_are_believed_from_trusted_proxies_only() -> None:
    seen: list[tuple[str, bool]] = []

    async def note(credentials: Credentials) -> Grant | None:
        await trio.lowlevel.checkpoint()
        seen.append((credentials.address, credentials.trusted))
        return None

    forwarded = {"X-Forwarded-For": "6.6.6.6, 203.0.113.9, 10.0.0.7"}
    async with open_door(auth=note) as door:
        await ask(door.port, "GET", "/sessions", forwarded)
    async with open_door(auth=note, trusted_proxies=["127.0.0.0/8", "10.0.0.0/8"]) as door:
        await ask(door.port, "GET", "/sessions", forwarded)
        await ask(door.port, "GET", "/sessions", {"X-Forwarded-For": "nonsense"})
    assert seen == [("127.0.0.1", False), ("203.0.113.9", True), ("127.0.0.1", True)]


@both_doors
async def test_a_header_that_names_the_user_is_believed_from_a_trusted_proxy_only() -> None:
    user = {"X-Forwarded-User": "u1"}
    for proxies, status in (((), 401), (("127.0.0.1",), 200)):
        async with open_door(auth=Trusted("X-Forwarded-User"), trusted_proxies=proxies) as door:
            async with door.tracker.session("mine", labels={"user": "u1"}):
                async with door.tracker.session("theirs", labels={"user": "u2"}):
                    answer = await ask(door.port, "GET", "/sessions", user)
        assert answer.status == status
        if status == 200:
            assert [one["id"] for one in answer.json["sessions"]] == ["mine"]


async def test_probes_and_metrics_can_have_a_port_of_their_own_that_asks_for_nothing() -> None:
    async with open_door(auth=SECRET, admin_port=0) as door:
        admin = door.server.admin_port
        assert admin is not None
        odd = {"Host": "10.2.3.4.cluster.example", "Origin": "null"}
        assert (await ask(admin, "GET", "/healthz", odd)).status == 200
        assert (await ask(admin, "GET", "/readyz", odd)).status == 200
        assert (await ask(admin, "GET", "/metrics", odd)).status in (200, 404)  # 404 without the extra
        for path in ("/", "/sessions", "/config", "/ws", "/static/trio-progress.js"):
            assert (await ask(admin, "GET", path)).status == 404
        for path in ("/healthz", "/readyz", "/metrics"):
            assert (await ask(door.port, "GET", path, bearer(SECRET))).status == 404


async def test_a_house_full_of_guests_is_not_taken_for_dead() -> None:
    settings: list[dict[str, Any]] = [{"max_connections": 3}, {"max_connections_per_address": 3}]
    for full in settings:
        async with open_door(admin_port=0, **full) as door:
            admin = door.server.admin_port
            assert admin is not None
            async with talk(door.port), talk(door.port), talk(door.port):
                assert (await ask(admin, "GET", "/healthz")).status == 200
                assert (await ask(admin, "GET", "/readyz")).status == 200


# Ids


@pytest.mark.parametrize("path", ["..", ".", "%2e%2e", "a%2fb", "a%00b", "x" * 129, "a%0d%0ab", "*", "%F0%9F%92%A3"])
@both_doors
async def test_an_id_that_is_none_is_not_found_and_no_store_is_asked(path: str) -> None:
    async with open_door() as door:
        for what in ("", "/events", "/cancel"):
            method = "POST" if what == "/cancel" else "GET"
            assert (await ask(door.port, method, f"/sessions/{path}{what}")).status == 404


@pytest.mark.parametrize(
    "settings",
    [
        {"auth": "short"},
        {"auth": "ü" * 40},
        {"auth": []},
        {"auth": 5},
        {"origins": "https://a.example"},
        {"origins": ["a.example"]},
        {"origins": ["https://a.example/path"]},
        {"hosts": ["a.example:80"]},
        {"trusted_proxies": ["everybody"]},
        {"base_path": "progress"},
        {"base_path": "/pro gress?x=1#y"},
        {"base_path": "/a/../b"},
        {"base_path": "/%61"},
        {"keepalive": 0},
        {"max_connections": 0},
        {"port": 99999},
        {"nonsense": 1},
    ],
)
async def test_a_setting_that_is_none_is_refused_at_the_call(settings: dict[str, Any]) -> None:
    async with open_tracker() as tracker:
        with pytest.raises((ValueError, TypeError)) as caught:
            async with open_server(tracker, **{"port": 0, **settings}):
                raise AssertionError("it must not start")
        assert SECRET not in str(caught.value)
