"""The page when the server, the network or a WebSocket is not there."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is missing: install the extra `test`")

from playwright.sync_api import Page, expect

from tests.browser.page import CHROMIUM, HostProcess, loaded, serving_to, visit
from tests.support import free_port

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is missing: install the package chromium"),
]


# The connection


def test_pain_11_a_server_that_comes_back_shows_the_right_final_state_and_says_so(
    host: HostProcess, new_page: Callable[..., Page]
) -> None:
    host("kept['p'] = (await open_session('r-1', {'a': 1, 'b': 1}, title='On and on')).advance_to('a', total=100)")
    port = free_port()
    page = new_page()
    visit(page, host(f"return await start_server({port}, drain_timeout=0.2)") + "#/r-1")
    whole = page.get_by_role("progressbar", name="Progress")
    host("kept['p'].advance(50)")
    expect(whole).to_have_attribute("aria-valuenow", "25")
    host("await stop_server()")
    expect(page.locator("#link")).to_have_text("Connection lost")
    expect(page.locator("#notice")).to_contain_text("Connection lost")
    expect(page.locator("#notice")).to_contain_text("Try now")
    expect(whole).to_have_attribute("aria-valuenow", "25")
    host("kept['p'].advance(50); await end_session('r-1')")
    page.wait_for_timeout(1000)
    page.locator("#notice").get_by_role("button").click()
    host(f"await start_server({port})")
    expect(page.locator("#notice")).to_contain_text("Reconnected after")
    expect(whole).to_have_attribute("aria-valuetext", re.compile("^100.%, Completed$"))
    expect(page.locator("#link")).to_have_text("Live")
    expect(page.locator("#notice")).to_be_hidden(timeout=60_000)


@pytest.mark.exhaustive
def test_a_server_that_is_killed_is_found_again_by_the_page_alone(
    new_page: Callable[..., Page], tmp_path: Path
) -> None:
    """The session goes on in its own process; only the one that serves it is killed, and started anew."""
    store, port = f"sqlite:{tmp_path / 'progress.db'}", free_port()
    with serving_to(store) as worker:
        worker("kept['p'] = (await open_session('r-1', {'a': 1}, title='Elsewhere')).advance_to('a', total=10)")
        first = HostProcess(store)
        page = new_page()
        visit(page, first(f"return await start_server({port}, drain_timeout=0.2)") + "#/r-1")
        whole = page.get_by_role("progressbar", name="Progress")
        worker("kept['p'].advance(5)")
        expect(whole).to_have_attribute("aria-valuenow", "50")
        first.kill()
        expect(page.locator("#link")).to_have_text("Connection lost")
        worker("kept['p'].advance(3)")
        with serving_to(store) as second:
            second(f"await start_server({port})")
            expect(whole).to_have_attribute("aria-valuenow", "80")
            worker("await end_session('r-1')")
            expect(whole).to_have_attribute("aria-valuetext", re.compile("^100.%, Completed$"))


def test_a_network_that_is_back_is_not_waited_for(host: HostProcess, new_page: Callable[..., Page]) -> None:
    port = free_port()
    page = new_page()
    # What would be tried again in some seconds never is.
    page.add_init_script("const soon = setTimeout; setTimeout = (f, ms) => ms >= 4000 ? 0 : soon(f, ms)")
    visit(page, host(f"return await start_server({port})"))
    host("await stop_server()")
    # By now it waits for several seconds between two tries.
    expect(page.locator("#notice")).to_contain_text(re.compile(r"in ([5-9]|\d\d)s"))
    host(f"await open_session('r-1', title='Awake'); await start_server({port})")
    page.context.set_offline(True)
    page.context.set_offline(False)
    expect(page.locator("#link")).to_have_text("Live")
    expect(page.get_by_role("link", name="Awake")).to_be_visible()


def test_where_websockets_do_not_come_through_the_page_lives_on_server_sent_events(
    host: HostProcess, new_page: Callable[..., Page]
) -> None:
    host("kept['p'] = (await open_session('r-1', {'a': 1}, title='Behind a proxy')).advance_to('a', total=10)")
    page = new_page()
    page.add_init_script(
        """globalThis.WebSocket = class {
            constructor() { setTimeout(() => this.onclose?.({ code: 1006, reason: "" })); }
            close() {}
        }"""
    )
    page.goto(host("return await start_server()"))
    expect(page.locator("#link")).to_have_text("Live (SSE)")
    page.get_by_role("link", name="Behind a proxy").click()
    whole = page.get_by_role("progressbar", name="Progress")
    host("kept['p'].advance(4)")
    expect(whole).to_have_attribute("aria-valuenow", "40")
    host("await end_session('r-1')")
    expect(whole).to_have_attribute("aria-valuenow", "100")


def test_behind_a_proxy_the_page_lives_below_its_base_path(host: HostProcess, new_page: Callable[..., Page]) -> None:
    host("await open_session('r-1', title='Below')")
    page = new_page()
    origin = re.sub(r"(?<=\d)/.*", "", host("return await start_server(base_path='/progress')"))
    visit(page, f"{origin}/progress/")
    page.get_by_role("link", name="Below").click()
    expect(page.get_by_role("button", name="Cancel…")).to_be_visible()
    assert all(address.startswith(f"{origin}/progress/") for address in loaded(page))
