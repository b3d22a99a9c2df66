"""Prometheus' own tools and server, on what is told to them: the text, the rules, the dashboard, a whole run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from prometheus_client import CollectorRegistry, start_http_server

from tests.doors import Door, ask, open_door, talk
from tests.support import RecordingStore, free_port
from trio_progress import Pipeline, metrics, open_tracker
from trio_progress.metrics.families import FAMILIES, PREFIX

pytestmark = pytest.mark.integration

PROMTOOL = shutil.which("promtool")
PROMETHEUS = shutil.which("prometheus")
CASES = Path(__file__).with_name("rules.test.yml")
ROOT = Path(__file__).parents[2]
ALERTS = re.findall(r"- alert: (\w+)\n", metrics.rules())
RESEARCH = Pipeline("research", {"search": 3, "analysis": 2})

PATIENCE = 60
"""Seconds until a real Prometheus must have seen what it is shown, on a machine that is busy."""

needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="there is no promtool (Debian: prometheus)")


def promtool(*arguments: str, given: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    assert PROMTOOL is not None
    return subprocess.run([PROMTOOL, *arguments], input=given, capture_output=True, check=False)


# promtool


@needs_promtool
async def test_promtool_has_nothing_to_say_about_the_metrics() -> None:
    async with open_tracker() as tracker:
        for pipeline in (RESEARCH, None, Pipeline('odd "name" \\ {x="y"} # é', ["x y", "\\"])):
            async with tracker.session("a", pipeline) as session:
                for spec in pipeline or ():
                    with session.phase(spec.name):
                        pass
        _, body = metrics.exposition(tracker)
    for given in (body, body.replace(b"# HELP trio_progress_states_total ", b"# HELP other_total ")):
        done = promtool("check", "metrics", given=given)
        said = (done.stdout + done.stderr).decode()
        if given is body:
            assert (done.returncode, said) == (0, "")
        else:
            assert "no help text" in said, "it looks"


@needs_promtool
async def test_promtool_has_nothing_to_say_about_what_the_doors_serve() -> None:
    async with open_door(admin_port=0) as door, door.tracker.session("r-1", RESEARCH) as session:
        session.advance_to("search", total=3).advance()
        assert door.server.admin_port is not None
        for port in (door.server.admin_port, door.port):
            answer = await ask(port, "GET", "/metrics")
            if port == door.port:
                assert answer.status == 404, "they have a port for themselves"
                continue
            assert answer.headers["content-type"].startswith("text/plain; version=")
            clean(answer.body)
            strict = await ask(port, "GET", "/metrics", {"Accept": "application/openmetrics-text; version=1.0.0"})
            assert strict.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
            assert strict.body.endswith(b"# EOF\n")
    async with open_door() as door:
        clean((await ask(door.port, "GET", "/metrics")).body)


def clean(body: bytes) -> None:
    assert b"trio_progress_sessions_begun_total" in body
    done = promtool("check", "metrics", given=body)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


@needs_promtool
def test_promtool_has_nothing_to_say_about_the_admin_port_of_the_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "trio_progress", "serve", "--port", "0", "--admin-port", "0"]
    command += ["--store", f"sqlite:{tmp_path / 'progress.db'}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT) as served:
        try:
            assert served.stdout is not None
            assert "Serving" in served.stdout.readline()
            told = re.search(r"metrics at (http://127\.0\.0\.1:\d+/metrics)", served.stdout.readline())
            assert told is not None
            with urllib.request.urlopen(told[1], timeout=60) as answer:
                clean(answer.read())
        finally:
            served.terminate()


@needs_promtool
def test_the_rules_fire_when_they_should_and_else_not(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(metrics.rules(), encoding="utf-8")
    shutil.copy(CASES, tmp_path)
    assert promtool("check", "rules", str(tmp_path / "rules.yml")).returncode == 0
    done = promtool("test", "rules", str(tmp_path / CASES.name))
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_every_rule_that_never_fires_is_found_by_a_case(tmp_path: Path) -> None:
    rules, count = re.subn(r"(- alert: \w+\n(?:\s+#.*\n)?\s+expr:)", r"\1 vector(0) > 1 and", metrics.rules())
    assert count == len(ALERTS)
    rules = rules.replace("vector(0) > 1 and >-\n", ">-\n          vector(0) > 1 and on ()")
    (tmp_path / "rules.yml").write_text(rules, encoding="utf-8")
    shutil.copy(CASES, tmp_path)
    assert promtool("check", "rules", str(tmp_path / "rules.yml")).returncode == 0
    done = promtool("test", "rules", str(tmp_path / CASES.name))
    assert done.returncode != 0
    assert set(re.findall(r"alertname: (\w+)", (done.stdout + done.stderr).decode())) == set(ALERTS)


@needs_promtool
def test_prometheus_understands_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    rules = []
    for number, (_, expression) in enumerate(shown()):
        rules.append(f"      - record: panel:{number}\n        expr: {json.dumps(expression)}\n")
    text = "groups:\n  - name: dashboard\n    rules:\n" + "".join(rules)
    (tmp_path / "panels.yml").write_text(text, encoding="utf-8")
    done = promtool("check", "rules", str(tmp_path / "panels.yml"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found".encode() in done.stdout


def shown(interval: str = "1m") -> list[tuple[str, str]]:
    """The dashboard's expressions with their panels' titles, with what Grafana puts in for its variables."""
    given = {"$__rate_interval": interval, "$job": ".*", "$instance": ".*", "$pipeline": ".*"}
    found = []
    for panel in json.loads(metrics.dashboard())["panels"]:
        for target in panel.get("targets", ()):
            expression = target["expr"]
            for name, value in given.items():
                expression = expression.replace(name, value)
            assert "$" not in expression
            found.append((panel["title"], expression))
    return found


# A real server


class Server:
    """A Prometheus that scrapes often, and answers queries."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    async def get(self, path: str, **query: str) -> Any:
        url = f"{self._url}{path}?{urllib.parse.urlencode(query)}"

        def ask() -> bytes:
            try:
                with urllib.request.urlopen(url, timeout=60) as answer:
                    body: bytes = answer.read()
                    return body
            except urllib.error.HTTPError as error:
                error.close()  # While it starts it says 503, and the exception holds the connection.
                raise

        return json.loads(await trio.to_thread.run_sync(ask))["data"]

    async def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        answer = await self.get("/api/v1/query", query=expression)
        return [(found["metric"], float(found["value"][1])) for found in answer["result"]]

    async def ready(self) -> None:
        while True:
            try:
                await self.get("/api/v1/status/runtimeinfo")
            except (OSError, ValueError):
                await trio.sleep(0.05)
            else:
                return


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    with trio.fail_after(PATIENCE):
        while not await holds():  # noqa: ASYNC110 - it happens in another process
            await trio.sleep(0.1)


@asynccontextmanager
async def open_prometheus(folder: Path, targets: dict[str, int]) -> AsyncIterator[Server]:
    assert PROMETHEUS is not None
    (folder / "rules.yml").write_text(metrics.rules(), encoding="utf-8")
    jobs = "".join(
        f"  - job_name: {job}\n    static_configs:\n      - targets: ['127.0.0.1:{port}']\n"
        for job, port in targets.items()
    )
    (folder / "prometheus.yml").write_text(
        "global:\n  scrape_interval: 500ms\n  scrape_timeout: 500ms\n  evaluation_interval: 500ms\n"
        f"rule_files: [rules.yml]\nscrape_configs:\n{jobs}",
        encoding="utf-8",
    )
    port = free_port()
    command = [
        PROMETHEUS,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(trio.run_process, command, check=False, cwd=folder, stderr=subprocess.DEVNULL))
        server = Server(port)
        with trio.fail_after(PATIENCE):
            await server.ready()
        yield server
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_client_server(registry: CollectorRegistry) -> AsyncIterator[int]:
    """prometheus_client's own server, in a thread, as users have it."""
    server, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
    try:
        yield server.server_port
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(server.shutdown)
        thread.join()
        server.server_close()


@pytest.mark.skipif(PROMETHEUS is None, reason="there is no prometheus (Debian: prometheus)")
async def test_a_prometheus_that_scrapes_a_run_knows_what_the_tracker_knows(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    store = RecordingStore()
    async with (
        open_door(tracker_settings={"store": store, "persist_interval": 0.1}) as door,
        open_client_server(registry) as threaded,
        open_prometheus(tmp_path, {"door": door.port, "threaded": threaded}) as prometheus,
    ):
        metrics.register(door.tracker, registry)
        await run(door, prometheus, store)


async def run(door: Door, prometheus: Server, store: RecordingStore) -> None:
    tracker = door.tracker

    async def told(expression: str, value: float) -> bool:
        return [found for _, found in await prometheus.query(expression)] == [value, value]

    async def answered(expression: str) -> bool:
        return bool(await prometheus.query(expression))

    await until(lambda: told("trio_progress_store_up", 1))
    async with trio.open_nursery() as nursery:

        async def follow() -> None:
            async with talk(door.port) as client:
                await client.say(type="subscribe", session="a", wait=True, max_hz=7)
                await client.until("end", within=2 * PATIENCE)

        nursery.start_soon(follow)
        async with tracker.session("a", RESEARCH) as session:
            await until(lambda: told('trio_progress_sessions{liveness="ok"}', 1))
            await until(lambda: told("trio_progress_subscribers", 1))
            for spec in RESEARCH:
                with session.phase(spec.name, total=20) as phase:
                    for _ in phase.track(range(20)):
                        await trio.sleep(0.03)
            store.mode = "down"
            session.increment("n")
            await until(lambda: told("trio_progress_store_up", 0))
            await until(lambda: alerting(prometheus, "TrioProgressStoreDown"))
            store.mode = "up"
    statistics = tracker.statistics()
    expected = {
        "states_total": statistics.states,
        "broadcasts_total": statistics.broadcasts,
        "broadcasts_conflated_total": statistics.conflated,
        "persists_total": statistics.persists,
        'persists_skipped_total{reason="failed"}': statistics.persists_failed,
        "persist_seconds_count": statistics.persist_seconds.count,
        "delivery_lag_seconds_count": statistics.delivery_lag.count,
        'sessions_ended_total{pipeline="research",status="completed"}': 1,
        'phase_seconds_count{pipeline="research",phase="search"}': 1,
    }
    for expression, value in expected.items():
        await until(partial(told, PREFIX + expression, value))
    for family in FAMILIES:
        suffix = "_count" if family.kind == "histogram" else ""
        await until(partial(answered, PREFIX + family.name + suffix))
    for _, expression in shown("5m"):
        await until(partial(answered, expression))
    groups = (await prometheus.get("/api/v1/rules"))["groups"]
    assert [rule["health"] for group in groups for rule in group["rules"]] == ["ok"] * len(ALERTS)
    metadata = await prometheus.get("/api/v1/metadata", metric="trio_progress_persist_seconds")
    assert metadata["trio_progress_persist_seconds"][0]["unit"] in ("", "seconds")
    await until(lambda: told("up", 1))


async def alerting(prometheus: Server, name: str) -> bool:
    alerts = (await prometheus.get("/api/v1/alerts"))["alerts"]
    return any(alert["labels"]["alertname"] == name and alert["state"] == "pending" for alert in alerts)
