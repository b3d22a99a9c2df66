"""`trio-progress serve` as it is operated: begun while its store is down, and what it logs."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.redis_server import RedisServer
from tests.serving import answered, serving
from tests.support import PATIENCE, free_port
from trio_progress.blocking import Client
from trio_progress.cli import exit_codes

pytestmark = pytest.mark.integration


def test_begun_before_its_store_it_is_unready_until_that_is_there_and_says_so(
    redis_program: str, tmp_path: Path
) -> None:
    server = RedisServer(redis_program, tmp_path, port=free_port())
    with serving("--store", server.url, "--wait-for-store") as served:
        served.says("the store cannot be used yet, it is tried again: ")
        url = served.says("Serving ").split()[-1]
        assert answered(f"{url}healthz") == (200, "ok\n")
        status, body = answered(f"{url}readyz")
        assert (status, json.loads(body)["store_up"]) == (503, False)
        assert answered(f"{url}sessions")[0] == 503
        server.start()
        try:
            served.says("the store can be read again")
            assert answered(f"{url}readyz")[0] == 200
            assert json.loads(answered(f"{url}sessions")[1])["sessions"] == []
        finally:
            server.stop()


def test_begun_before_its_store_it_ends_where_it_is_not_to_wait(tmp_path: Path) -> None:
    with serving("--store", f"redis://127.0.0.1:{free_port()}/0") as served:
        assert "Connection refused" in served.says("store redis://")
        assert served.process.wait(PATIENCE) == exit_codes.STORE


def test_who_asked_to_cancel_or_delete_a_session_stands_in_its_log(tmp_path: Path) -> None:
    store = f"sqlite:{tmp_path / 'progress.db'}"
    with Client(store) as client:
        client.declare("r-1")
        with serving("--store", store) as served:
            url = served.says("Serving ").split()[-1]
            assert answered(f"{url}sessions/r-1/cancel", "POST")[0] == 202
            served.says("session 'r-1': a client at 127.0.0.1 asks to cancel it")
            assert client.wait_ended("r-1", PATIENCE).status == "cancelled"
            assert answered(f"{url}sessions/r-1", "DELETE")[0] == 204
            served.says("session 'r-1': a client at 127.0.0.1 asks to delete it")
            served.process.terminate()
            served.says("received SIGTERM: 0 open sessions are interrupted")
            assert len(served.heard) == 4, "where it serves, what it was asked and that it stops, once each"
            assert served.process.wait(PATIENCE) == exit_codes.SIGNAL + signal.SIGTERM
