"""Passwords of URLs: taken out of whatever is said, however they are written, in time that is linear in the text."""

from __future__ import annotations

import logging
import time

import pytest

from trio_progress import connect, open_tracker
from trio_progress.cli import main, store_location
from trio_progress.cli.entry import without_store
from trio_progress.server.auth.origins import checked_origin
from trio_progress.stores.opening import backend_of
from trio_progress.telemetry.redaction import has_secret, redacted, redacted_url

PASSWORD = "hunter2"

WITH_PASSWORD = [
    "redis://:hunter2@localhost:6379/0",
    "rediss://user:hunter2@localhost:6379/0?prefix=tp",
    "redis://hunter2@localhost",
    "redis://user:a/hunter2@localhost",
    "redis://user:a?b=hunter2@localhost",
    "redis://user:a#hunter2@localhost",
    "redis://user:a@hunter2@localhost",
    "redis://user:hunter2@[::1]:6379/0",
    "redis-sentinel://:hunter2@h1:26379,h2:26379/0?service=mymaster",
    "redis://localhost/0?password=hunter2&prefix=tp",
    "redis://localhost/0?ssl_password=hunter2",
    "redis://localhost/0?password=a#hunter2",
    "redis://localhost/0?password=a&hunter2&b",
    "redis-sentinel://h1:26379/0?service=mymaster&sentinel_password=hunter2",
    "redis-sentinel://h1:26379/0?sentinel_auth=hunter2&service=mymaster",
    "https://user:hunter2@example.org/progress/",
]

WITHOUT = [
    "redis://localhost:6379/0?prefix=tp",
    "sqlite:/home/u@example/progress.db",
    "memory:",
    "",
    "ada@example.org wrote",
    "http://127.0.0.1:8765/#/r-42",
    "https://example.org/?since=abc",
]


@pytest.mark.parametrize("url", WITH_PASSWORD)
def test_a_password_is_taken_out_of_a_url_and_of_text_about_it(url: str) -> None:
    assert has_secret(url)
    for text in (redacted_url(url), redacted(url), redacted(f"serving {url} at 1, {url!r}; <{url}>\n{url}")):
        assert PASSWORD not in text
        assert "***" in text
    host = next(name for name in ("localhost", "[::1]", "h1:26379", "example.org") if name in url)
    assert host in redacted_url(url)


@pytest.mark.parametrize("url", WITHOUT)
def test_what_holds_no_secret_stays_as_it_is(url: str) -> None:
    assert redacted(url) == url
    assert " " in url or not has_secret(url)


@pytest.mark.parametrize("scheme", ["redis:", "redis:/", "rediss:", "redis-sentinel:", "redis//", "REDIS-SENTINEL:"])
def test_text_about_a_url_whose_slashes_were_forgotten_is_without_its_password(scheme: str) -> None:
    text = redacted(f"there is no {scheme}u:hunter2@localhost, nor '{scheme}hunter2@localhost'")
    assert text == f"there is no {scheme}***@localhost, nor '{scheme}***@localhost'"


def test_a_password_with_a_space_is_found_where_all_of_the_text_is_the_url() -> None:
    assert redacted_url("redis://:a hunter2@localhost") == "redis://***@localhost"


@pytest.mark.parametrize(
    "part",
    [
        "a",
        "://",
        "a://",
        "@",
        "?",
        "?a",
        "&password",
        "?password=",
        ";token",
        "a://@",
        " ",
        "a://b:c@d ",
        "redis:",
        "redis:@",
        "?password=a&b",
        "&a",
    ],
)
def test_redacting_is_linear(part: str) -> None:
    def seconds(count: int) -> float:
        text = part * count
        began = time.thread_time()
        redacted(text)
        return time.thread_time() - began

    # A square in it, of some ten ns a step, would be more than half a second.
    assert min(seconds(8_000) for _ in range(5)) <= 3.0 * min(seconds(4_000) for _ in range(5)) + 0.02


@pytest.mark.parametrize("url", WITH_PASSWORD)
def test_no_record_of_the_log_holds_a_password(url: str, caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("trio_progress")
    with caplog.at_level(logging.DEBUG, logger="trio_progress"):
        logger.warning("as an argument: %s, %r", url, OSError(f"no {url}"))
        logger.warning("as the message: " + url)  # noqa: G003 - which others may do
        logger.warning("as a field", extra={"reason": ConnectionError(url)})
        try:
            raise ValueError(f"{url} is down")
        except ValueError:
            logger.exception("as a traceback")
    formatter = logging.Formatter("%(message)s %(reason)s")
    assert len(caplog.records) == 4
    for record in caplog.records:
        assert PASSWORD not in formatter.format(record)


@pytest.mark.parametrize("given", [b"redis://:hunter2@localhost", ["redis://:hunter2@localhost"], "hunter2@localhost"])
async def test_an_error_about_a_url_does_not_repeat_it(given: object) -> None:
    raised: list[Exception] = []
    with pytest.raises((TypeError, ValueError)) as tracked:
        async with open_tracker(given):  # type: ignore[arg-type]
            raise AssertionError("there is no such store")
    raised.append(tracked.value)
    with pytest.raises((TypeError, ValueError)) as blocked:
        backend_of(given)  # type: ignore[arg-type]
    raised.append(blocked.value)
    with pytest.raises((TypeError, ValueError)) as connected:
        async with connect(f"http:/{given}" if isinstance(given, str) else given, "r-1"):  # type: ignore[arg-type]
            raise AssertionError("there is no such server")
    if not isinstance(given, str):
        raised.append(connected.value)
    for error in raised:
        assert PASSWORD not in str(error)


@pytest.mark.parametrize("url", ["http:/u:hunter2@h", "http://u:hunter2@h/", "u:hunter2@h", "ftp://u:hunter2@h/"])
async def test_an_error_about_a_servers_url_does_not_repeat_it(url: str) -> None:
    with pytest.raises(ValueError, match="url must") as caught:
        async with connect(url, "r-1"):
            raise AssertionError("there is no such server")
    assert PASSWORD not in str(caught.value)
    with pytest.raises(ValueError, match="an origin must") as refused:
        checked_origin("https://u:hunter2@h/path")
    assert PASSWORD not in str(refused.value)


def test_a_place_shows_its_url_without_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    place = store_location.StoreLocation("redis://:hunter2@localhost/0", named=True)
    assert PASSWORD not in f"{place} {place!r} {place.shown} {place.hint}"
    assert place.hint == "  # with TRIO_PROGRESS_STORE set to the URL of redis://***@localhost/0"
    assert store_location.StoreLocation("sqlite:a b.db", named=True).hint == " --store 'sqlite:a b.db'"
    monkeypatch.setenv("TRIO_PROGRESS_STORE", "sqlite:x.db")
    assert store_location.StoreLocation("sqlite:x.db", named=True).hint == ""


@pytest.mark.parametrize(
    "words",
    [
        ["redis://:hunter2@h"],
        ["ls", "redis://:hunter2@h"],
        ["show", "redis://:hunter2@h"],
        ["ls", "--status", "redis://:hunter2@h"],
        ["redis://:a hunter2@h"],
        ["ls", "redis://h?password=a#hunter2"],
    ],
)
def test_wrong_use_does_not_repeat_a_password(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(words)
    said = capsys.readouterr()
    assert "redis://" in said.err
    assert PASSWORD not in said.err + said.out


def test_the_option_with_a_password_can_be_taken_off_a_command_line() -> None:
    url = "redis://:hunter2@h"
    for option in (["--store", url], [f"--store={url}"], ["--sto", url], [f"--sto={url}"]):
        line = ["python", "-m", "trio_progress", "ls", *option, "--json"]
        assert without_store(line, url) == ["python", "-m", "trio_progress", "ls", "--json"]
    assert without_store(["python", "x", "--odd", url], url) is None
