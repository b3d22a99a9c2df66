"""How a backend in Redis connects, and the errors that say what to do."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
import redis.sentinel

from tests.integration.redis_backend.asking import one, plain
from tests.redis_server import RedisServer, host_of
from tests.store_contract.rig import append, claim
from tests.support import PATIENCE, free_port
from trio_progress import RedisStore, StoreError
from trio_progress.stores.base import Claimed, Done, Key, Query
from trio_progress.stores.opening import open_backend
from trio_progress.stores.redis.backend import RedisBackend
from trio_progress.stores.redis.calls import Calls
from trio_progress.stores.redis.server import Server

pytestmark = pytest.mark.integration

StartRedis = Callable[..., RedisServer]


# Errors that say what to do


def refusal(url: str | redis.Redis, **given: Any) -> str:
    backend = RedisBackend(url, **{"timeout": 20.0} | given)
    with pytest.raises(StoreError) as info:
        backend.open()
    backend.close()
    assert "hunter2" not in str(info.value)
    assert "hunter2" not in repr(backend.address)
    return str(info.value)


def test_nobody_is_there() -> None:
    assert "refused" in refusal(f"redis://user:hunter2@127.0.0.1:{free_port()}/0")


def test_a_host_of_that_name_does_not_exist() -> None:
    assert "store redis://nowhere.invalid:6379/0" in refusal("redis://nowhere.invalid")


def test_what_answers_is_no_redis() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(1000)
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                peer.recv(1000)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        assert "Protocol" in refusal(f"redis://127.0.0.1:{listener.getsockname()[1]}")
        thread.join(60)


def test_it_does_not_answer_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        began = time.monotonic()
        text = refusal(f"redis://127.0.0.1:{listener.getsockname()[1]}", timeout=0.3)
        assert "not answered for 0.3 s" in text
        assert time.monotonic() - began < 30


def test_the_password_is_wrong_or_missing(start_redis: StartRedis) -> None:
    server = start_redis("--requirepass", "secret", client={"password": "secret"})
    assert "password" in refusal(f"redis://:hunter2@127.0.0.1:{server.port}")
    assert "redis://USER:PASSWORD@HOST" in refusal(server.url)
    RedisBackend(f"redis://:secret@127.0.0.1:{server.port}").open()


def test_a_replica_that_cannot_be_written(start_redis: StartRedis) -> None:
    primary = start_redis()
    replica = start_redis("--replicaof", "127.0.0.1", str(primary.port))
    text = refusal(replica.url)
    assert "replica" in text
    assert "primary" in text


def test_it_is_full_and_goes_on_once_it_is_not(start_redis: StartRedis) -> None:
    server = start_redis()
    backend = RedisBackend(server.url, timeout=5.0)
    epoch = plain(backend)
    admin = server.client()
    admin.config_set("maxmemory", "1000")
    for write in (append(epoch, 2), claim("b"), append(epoch, 2, lease=None)):
        with pytest.raises(StoreError, match="full"):
            one(backend, write)
    admin.config_set("maxmemory", "0")
    assert one(backend, append(epoch, 2)) == Done()
    backend.close()


def fill_memory(admin: redis.Redis, folder: Path) -> None:
    admin.config_set("maxmemory", "1000")


def fill_disk(admin: redis.Redis, folder: Path) -> None:
    """Redis cannot save, as on a disk that is full."""
    folder.rmdir()
    admin.config_set("save", "3600 1")
    admin.bgsave()
    until = time.monotonic() + PATIENCE
    while admin.info("persistence")["rdb_last_bgsave_status"] != "err":
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("fill", "why"), [(fill_memory, "it is full (maxmemory)"), (fill_disk, "save them to its disk")]
)
def test_who_comes_while_it_cannot_be_written_can_read_it_and_is_told(
    start_redis: StartRedis,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    fill: Callable[[redis.Redis, Path], None],
    why: str,
) -> None:
    (folder := tmp_path / "data").mkdir()
    server = start_redis("--dir", str(folder))
    before = RedisBackend(server.url, timeout=5.0)
    epoch = plain(before)
    assert one(before, append(epoch, 2)) == Done()
    fill(admin := server.client(), folder)
    backend = RedisBackend(server.url, timeout=5.0)
    backend.open()
    found = backend.read("a")
    assert found is not None
    assert found.key == Key(epoch, 2)
    assert [stored.id for stored in backend.list(Query(status=frozenset({"running"}))).sessions] == ["a"]
    assert [vars(record)["event"] for record in caplog.records] == ["store_unwritable"]
    assert why in caplog.text
    admin.config_set("maxmemory", "0")
    admin.config_set("save", "")
    assert one(backend, append(epoch, 3)) == Done()
    backend.close()
    before.close()


def test_how_many_replies_have_come_in_time_is_told(start_redis: StartRedis) -> None:
    server = start_redis()
    calls = Calls(Server.of_url(server.url, None)[0], 60.0)
    assert calls([("PING",)]) == [b"PONG"]
    server.freeze()
    with pytest.raises(StoreError, match=r"/0: 0 of 1 replies came within 120 s$"):
        calls([("PING",)], until=time.monotonic())
    server.thaw()
    calls.close()


def test_a_node_of_a_cluster_without_our_slot_says_so(start_redis: StartRedis) -> None:
    port = next(port for port in iter(free_port, None) if port < 55_000)  # It takes another one, 10,000 above.
    server = start_redis("--cluster-enabled", "yes", port=port)
    assert "cluster" in refusal(server.url).lower()


def test_a_user_that_may_not(start_redis: StartRedis) -> None:
    server = start_redis()
    server.client().execute_command("ACL", "SETUSER", "u", "on", ">hunter2", "~*", "+@read", "+@connection")
    assert "ACL rule" in refusal(f"redis://u:hunter2@127.0.0.1:{server.port}")


# URLs, clients


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis:///0",
        "redis://host/x",
        "redis://host:port/0",
        "redis://host/0?nonsense=1",
        "redis://host/0?prefix=a{b}",
        "redis://host/0?prefix=",
        "http://host",
    ],
)
def test_a_url_that_is_none_is_a_value_error(url: str) -> None:
    with pytest.raises(ValueError, match=r"redis://|option|prefix"):
        RedisBackend(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2/x@host/0",
        "redis://:hunter2#x@host/0",
        "redis://:hunter2?x@host/0",
        "redis://:6379#hunter2@host/0",
        "redis://u:6379#hunter2@host/0",
        "redis://u:6379?hunter2@host/0",
        "redis://u:hunter2\u2100@host/0",
        "redis://u:hunter2[@host/0",
        "redis://u:x@host:hunter2/0",
        "redis://u:x@host/0?socket_timeout=hunter2",
    ],
)
def test_a_mistyped_url_is_told_of_without_what_may_be_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="redis://") as info:
        RedisBackend(url)
    assert "hunter2" not in "".join(traceback.format_exception(info.value))
    assert "%2F" in str(info.value)


def test_addresses_tell_stores_apart_and_no_secrets() -> None:
    def address(url: str, **given: Any) -> str:
        return RedisBackend(url, **given).address

    assert address("redis://u:hunter2@host") == "redis://host:6379/0"
    assert address("rediss://u:hunter2@host:1/3?ssl_cert_reqs=none") == "rediss://host:1/3"
    assert address("redis://[::1]/2?prefix=a") == "redis://[::1]:6379/2?prefix=a"
    assert address("redis://host", prefix="b") == "redis://host:6379/0?prefix=b"


@pytest.mark.parametrize(
    "client", [redis.asyncio.Redis(), None, 7, "", object()], ids=lambda client: type(client).__name__
)
def test_what_is_no_client_is_refused_at_once(client: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        RedisStore(client)


@pytest.mark.parametrize("given", [{"timeout": 0}, {"event_limit": 0}, {"event_limit": True}, {"prefix": "a b"}])
def test_bad_settings_are_refused_at_once(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"timeout|event_limit|prefix"):
        RedisStore("redis://host", **given)


@pytest.mark.parametrize("options", [{}, {"decode_responses": True}, {"protocol": 3}, {"socket_timeout": None}])
def test_a_client_is_asked_how_it_connects_and_left_as_it_is(
    redis_url: str, prefix: str, options: dict[str, Any]
) -> None:
    host, port = host_of(redis_url)
    asked: list[None] = []

    class Rotating(redis.CredentialProvider):
        def get_credentials(self) -> tuple[str, str]:
            asked.append(None)
            return "default", "anything"

    with redis.Redis(host, port, credential_provider=Rotating(), **options) as client:
        before = dict(client.connection_pool.connection_kwargs)
        backend = RedisBackend(client, prefix=prefix)
        backend.open()
        assert isinstance(one(backend, claim("a", record=b"\xff\x00")), Claimed)
        found = backend.read("a")
        assert found is not None
        assert found.record == b"\xff\x00"
        backend.close()
        assert client.ping()
        assert dict(client.connection_pool.connection_kwargs) == before
    assert len(asked) >= 2, "credentials are asked for with each connection"


def test_through_sentinel_a_failover_is_followed(start_redis: StartRedis, redis_program: str) -> None:
    primary = start_redis("--repl-diskless-sync-delay", "0")  # Or it waits for more replicas, for 5 s.
    replica = start_redis("--replicaof", "127.0.0.1", str(primary.port))

    class Watching:
        """A Sentinel, as far as a client asks one."""

        def __init__(self) -> None:
            self.master = primary.port

        def discover_master(self, name: str) -> tuple[str, int]:
            assert name == "mymaster"
            return "127.0.0.1", self.master

    sentinel = Watching()
    pool = redis.sentinel.SentinelConnectionPool("mymaster", sentinel)
    backend = RedisBackend(redis.Redis(connection_pool=pool))
    assert backend.address == "sentinel://mymaster/0"
    epoch = plain(backend)
    while replica.client().info("replication")["master_link_status"] != "up":
        time.sleep(0.05)
    primary.client().execute_command("WAIT", 1, 5000)
    replica.client().execute_command("REPLICAOF", "NO", "ONE")
    primary.client().execute_command("REPLICAOF", "127.0.0.1", replica.port)
    sentinel.master = replica.port
    deadline = time.monotonic() + 60
    while True:
        try:
            assert one(backend, append(epoch, 2)) == Done()
            break
        except StoreError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert replica.client().exists("tp:{0}:s:a")
    assert backend.read("a") is not None
    backend.close()


def test_without_redis_py_it_is_said_how_to_install_it() -> None:
    code = """
import sys
sys.modules["redis"] = None
from trio_progress.stores.opening import open_backend
try:
    open_backend("redis://localhost")
except ModuleNotFoundError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'trio-progress[redis]'" in done.stdout


def test_a_backend_for_code_that_blocks_is_opened_by_its_url(redis_url: str) -> None:
    backend = open_backend(f"{redis_url}?prefix=test:opened")
    assert backend.read("nobody") is None
    backend.close()
    with pytest.raises(StoreError, match="closed"):
        backend.read("nobody")
