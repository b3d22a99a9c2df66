"""`<trio-progress>` in a page of another origin whose policy is as strict as can be, in a real Chromium."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is missing: install the extra `test`")

from playwright.sync_api import BrowserContext, ConsoleMessage, Locator, Page, expect

from tests.browser.page import CHROMIUM, HostProcess
from tests.support import free_port

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is missing: install the package chromium"),
]


@contextmanager
def foreign(body: str, server: str) -> Iterator[str]:
    """A site of its own with one page, which may load modules from `server`, connect to it, and nothing else."""
    policy = f"default-src 'none'; script-src {server}; connect-src {server} {server.replace('http', 'ws')}"

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = (
                f'<!doctype html><html lang="en"><script type="module" src="{server}static/trio-progress-element.js">'
            )
            self.send_response(200 if self.path == "/" else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Security-Policy", policy)
            self.end_headers()
            self.wfile.write(f"{page}</script><body>{body}</body></html>".encode())

        def log_message(self, *said: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as site:
        thread = threading.Thread(target=site.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://localhost:{site.server_address[1]}"
        finally:
            site.shutdown()
            thread.join()


@pytest.fixture
def host(shared_host: HostProcess) -> HostProcess:
    shared_host("kept['s'] = await open_session('r-1', {'search': 3, 'analysis': 1}, title='Who invented the zip?')")
    shared_host("kept['p'] = kept['s'].advance_to('search', total=40, unit='pages')")
    return shared_host


@pytest.fixture
def embed(browser_context: BrowserContext, host: HostProcess) -> Iterator[Callable[..., tuple[Page, list[str]]]]:
    """A foreign page with this body, where `URL` is the server's address; and what the browser complains of."""
    with_sites: list[Callable[[], object]] = []

    def make(body: str, *, allowed: bool = True) -> tuple[Page, list[str]]:
        port = free_port()
        server = f"http://127.0.0.1:{port}/"
        site = foreign(body.replace("URL", server), server)
        origin = site.__enter__()
        with_sites.append(lambda: site.__exit__(None, None, None))
        assert host(f"return await start_server({port}, origins={[origin] if allowed else []})") == server
        page = browser_context.new_page()
        with_sites.append(page.close)
        complaints: list[str] = []

        def heard(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                complaints.append(message.text)

        page.on("console", heard)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(origin)
        return page, complaints

    yield make
    for close in reversed(with_sites):
        close()


def part(element: Locator, name: str) -> Locator:
    return element.locator(f"[part={name}]")


def test_one_tag_shows_a_session_live_in_a_foreign_page_and_breaks_no_policy(
    embed: Callable[..., tuple[Page, list[str]]], host: HostProcess
) -> None:
    page, complaints = embed('<trio-progress session="r-1" url="URL" phases></trio-progress>')
    element = page.locator("trio-progress")
    bar = element.get_by_role("progressbar", name="Who invented the zip?")
    expect(bar).to_have_attribute("aria-valuenow", "0")
    host("kept['p'].advance(20)")
    expect(bar).to_have_attribute("aria-valuenow", "37")
    expect(part(element, "said")).to_have_text("search · 20 / 40 pages")
    expect(part(element, "phase")).to_have_count(2)
    assert bar.evaluate("(element) => element.firstChild.getBoundingClientRect().width > 0")
    assert element.evaluate("(element) => getComputedStyle(element.shadowRoot.querySelector('.bar')).height") == "6px"
    status = element.get_by_role("status")
    expect(status).to_have_text("Running: search")
    page.evaluate(
        """document.querySelector("trio-progress").addEventListener("end",
            (event) => { document.title = event.detail.end.status; })"""
    )
    host("await end_session('r-1')")
    expect(bar).to_have_attribute("aria-valuetext", re.compile("^100.%, Completed$"))
    expect(status).to_have_text("Completed")
    expect(page).to_have_title("completed")
    assert complaints == []


def test_a_page_that_may_not_watch_is_told_so_and_shows_nothing(
    embed: Callable[..., tuple[Page, list[str]]],
) -> None:
    page, complaints = embed('<trio-progress session="r-1" url="URL"></trio-progress>', allowed=False)
    page.wait_for_timeout(1500)
    assert "zip" not in page.content()
    assert page.locator("trio-progress").get_by_role("progressbar").count() == 0
    assert any("CORS" in complaint or "403" in complaint for complaint in complaints)


@pytest.mark.exhaustive
def test_words_height_and_colours_are_the_pages(embed: Callable[..., tuple[Page, list[str]]]) -> None:
    page, complaints = embed(
        """<trio-progress session="r-1" url="URL" heading="Recherche"
            words='{"running": "Läuft", "remaining": "noch {time}", "nonsense": 1}'></trio-progress>
        <trio-progress session="r-1" url="URL" compact></trio-progress>
        <trio-progress session="r-2" url="URL" words="not JSON"></trio-progress>
        <trio-progress session="no id" url="URL"></trio-progress>"""
    )
    first, compact, waiting, wrong = page.locator("trio-progress").all()
    expect(part(first, "heading")).to_have_text("Recherche")
    expect(first.get_by_role("progressbar")).to_have_attribute("aria-valuetext", re.compile("^0.%, Läuft$"))
    expect(part(compact, "heading")).to_be_hidden()
    expect(part(compact, "bar")).to_be_visible()
    expect(part(waiting, "said")).to_have_text("Not started yet")
    expect(part(wrong, "said")).to_have_text("Not available")
    page.evaluate(
        """() => { const { style } = document.querySelector("trio-progress");
            style.setProperty("--trio-progress-height", "12px");
            style.setProperty("--trio-progress-accent", "rgb(1, 2, 3)"); }"""
    )
    bar = first.locator(".bar").first
    assert bar.evaluate("(element) => getComputedStyle(element).height") == "12px"
    assert bar.evaluate("(element) => getComputedStyle(element.firstChild).backgroundColor") == "rgb(1, 2, 3)"
    assert sum("words must be JSON" in complaint for complaint in complaints) == 1
    assert sum("a session's id is" in complaint for complaint in complaints) == 1
    assert len(complaints) == 2


@pytest.mark.exhaustive
def test_attributes_may_change_and_the_tag_may_come_and_go(
    embed: Callable[..., tuple[Page, list[str]]], host: HostProcess
) -> None:
    host("await open_session('r-2', title='Another one')")
    page, complaints = embed('<trio-progress session="r-1" url="URL"></trio-progress>')
    heading = page.locator("trio-progress [part=heading]")
    expect(heading).to_have_text("Who invented the zip?")
    page.evaluate("document.querySelector('trio-progress').setAttribute('session', 'r-2')")
    expect(heading).to_have_text("Another one")
    page.evaluate("""document.querySelector("trio-progress").setAttribute("words", '{"running": "Läuft"}')""")
    expect(page.locator("trio-progress [part=said]")).to_have_text("Läuft")
    page.evaluate("globalThis.kept = document.querySelector('trio-progress'); kept.remove()")
    for _ in range(300):
        if host("return tracker.statistics().subscribers") == 0:
            break
        page.wait_for_timeout(100)
    assert host("return tracker.statistics().subscribers") == 0
    page.evaluate("document.body.append(kept)")
    expect(heading).to_have_text("Another one")
    expect(page.locator("trio-progress [role=status]")).to_have_text("Läuft")
    page.evaluate("kept.removeAttribute('session')")
    for emptied in ("[part=heading]", "[part=said]", "[part=figure]", "[role=status]"):
        expect(page.locator(f"trio-progress {emptied}")).to_have_text("")
    page.evaluate("kept.setAttribute('session', 'r-1')")
    expect(heading).to_have_text("Who invented the zip?")
    assert complaints == []


@pytest.mark.exhaustive
def test_a_token_that_the_page_gave_before_the_module_had_come_can_be_replaced_later(
    embed: Callable[..., tuple[Page, list[str]]],
) -> None:
    page, complaints = embed('<trio-progress session="r-1" url="URL"></trio-progress>')
    expect(page.locator("trio-progress [part=heading]")).to_have_text("Who invented the zip?")
    page.evaluate(
        """() => {
            // In a document of its own it is not known what it will be, as in the page until the module is there.
            const early = document.implementation.createHTMLDocument().createElement("trio-progress");
            const before = document.querySelector("trio-progress");
            for (const { name, value } of before.attributes) early.setAttribute(name, value);
            globalThis.asked = [];
            early.token = () => { globalThis.asked.push("early"); return null; };
            before.replaceWith(early);
        }"""
    )
    expect(page.locator("trio-progress [part=heading]")).to_have_text("Who invented the zip?")
    page.evaluate(
        """() => {
            document.querySelector("trio-progress").token = () => { globalThis.asked.push("later"); return null; };
        }"""
    )
    for _ in range(300):
        if page.evaluate("globalThis.asked.length") == 2:
            break
        page.wait_for_timeout(100)
    assert page.evaluate("globalThis.asked") == ["early", "later"]
    expect(page.locator("trio-progress [part=heading]")).to_have_text("Who invented the zip?")
    assert complaints == []


def test_elements_with_one_token_function_share_a_connection_wherever_they_are_moved(
    embed: Callable[..., tuple[Page, list[str]]],
) -> None:
    page, complaints = embed('<main data-url="URL"></main>')
    sockets: list[str] = []
    page.on("websocket", lambda socket: sockets.append(socket.url))
    page.evaluate(
        """() => {
            globalThis.asked = 0;
            const token = () => { globalThis.asked += 1; return null; };
            for (let n = 0; n < 3; n++) {
                const element = document.createElement("trio-progress");
                element.token = token;
                element.setAttribute("session", "r-1");
                element.setAttribute("url", document.querySelector("main").dataset.url);
                document.querySelector("main").append(element);
            }
        }"""
    )
    headings = page.locator("main trio-progress [part=heading]")
    expect(headings).to_have_text(["Who invented the zip?"] * 3)
    page.evaluate("document.body.append(...document.querySelectorAll('main trio-progress'))")
    expect(page.locator("body > trio-progress [part=heading]")).to_have_text(["Who invented the zip?"] * 3)
    assert (page.evaluate("globalThis.asked"), len(sockets)) == (1, 1)
    assert complaints == []


@pytest.mark.exhaustive
def test_from_right_to_left_bars_fill_from_the_right(
    embed: Callable[..., tuple[Page, list[str]]], host: HostProcess
) -> None:
    page, _ = embed('<div dir="rtl"><trio-progress session="r-1" url="URL"></trio-progress></div>')
    bar = page.locator("trio-progress [part=bar]")
    expect(bar).to_have_attribute("aria-valuenow", re.compile(r"\d+"))
    shift = "(bar) => new DOMMatrix(getComputedStyle(bar.firstChild).transform).m41"
    assert bar.evaluate(shift) > 0
    page.evaluate("document.querySelector('div').dir = 'ltr'")
    page.wait_for_timeout(400)
    assert bar.evaluate(shift) < 0


def test_hostile_titles_are_text_there_as_well(embed: Callable[..., tuple[Page, list[str]]], host: HostProcess) -> None:
    hostile = "<img src=x onerror=document.title=1><script>document.title=2</script>"
    host(f"s = kept['r-2'] = await open_session('r-2', title={hostile!r}); s.update(message={hostile!r})")
    host(f"kept['q'] = kept['r-2'].phase({hostile!r}).__enter__()")
    page, _ = embed(
        """<trio-progress session="r-2" url="URL" phases></trio-progress>
        <trio-progress session="r-2" url="URL" heading="<b>"></trio-progress>"""
    )
    expect(page.locator("trio-progress [part=heading]").first).to_have_text(hostile)
    expect(page.locator("trio-progress [part=phase]")).to_contain_text(hostile)
    assert page.locator("trio-progress :is(img, script, b)").count() == 0
    assert page.title() == ""


@pytest.mark.exhaustive
def test_less_motion_means_none(embed: Callable[..., tuple[Page, list[str]]]) -> None:
    page, _ = embed('<trio-progress session="r-1" url="URL"></trio-progress>')
    duration = "(element) => getComputedStyle(element.firstChild).transitionDuration"
    page.emulate_media(reduced_motion="no-preference")
    assert page.get_by_role("progressbar").evaluate(duration) != "0s"
    page.emulate_media(reduced_motion="reduce")
    assert page.get_by_role("progressbar").evaluate(duration) == "0s"
