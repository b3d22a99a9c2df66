"""The page in a real Chromium, against a real server: what people see, and what must never happen to them."""

from __future__ import annotations

import asyncio
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is missing: install the extra `test`")

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, WebError, expect

from tests.browser.page import CHROMIUM, PATIENCE, VIEWPORT, HostProcess, serving_to
from tests.support import free_port

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is missing: install the package chromium"),
]


@pytest.fixture
def host(shared_host: HostProcess) -> HostProcess:
    return shared_host


@pytest.fixture
def complaints() -> list[str]:
    """What the browser has complained of: exceptions, violated policies, errors on the console."""
    return []


@pytest.fixture
def new_page(browser: Browser, browser_context: BrowserContext, complaints: list[str]) -> Iterator[Callable[..., Page]]:
    """Pages, in a context of their own where they need another; at the end nothing may have been complained of."""
    contexts: list[BrowserContext] = []

    def heard(message: ConsoleMessage) -> None:
        # That a connection is refused while a server is down is Chromium's to say, and is not ours to avoid.
        if message.type in ("error", "warning") and "ERR_CONNECTION_REFUSED" not in message.text:
            complaints.append(message.text)

    def raised(error: WebError) -> None:
        complaints.append(str(error.error))

    def make(**options: object) -> Page:
        context = browser_context
        if options:
            context = browser.new_context(**{"viewport": VIEWPORT, **options})  # type: ignore[arg-type]
            context.set_default_timeout(PATIENCE)
        if context not in contexts:
            contexts.append(context)
            context.on("console", heard)
            context.on("weberror", raised)
        page = context.new_page()
        page.add_init_script(
            """addEventListener("securitypolicyviolation",
                (event) => console.error(`violation: ${event.violatedDirective} ${event.blockedURI}`))"""
        )
        return page

    yield make
    for context in contexts:
        for page in context.pages:
            page.close()
        context.remove_listener("console", heard)
        context.remove_listener("weberror", raised)
        if context is not browser_context:
            context.close()
    assert complaints == []


def visit(page: Page, address: str) -> None:
    """Opens an address and waits until the page is live."""
    page.goto(address)
    expect(page.locator("#link")).to_have_text("Live")


# What a session shows, live


def test_a_session_is_watched_live_to_its_end(host: HostProcess, new_page: Callable[..., Page]) -> None:
    host(
        """
        phases = {"search": 3, "analysis": 1}
        kept["s"] = await open_session("r-1", phases, title="Who invented the zip?", labels={"user": "ada"})
        kept["search"] = kept["s"].advance_to("search", total=40)
        """
    )
    page = new_page()
    visit(page, host("return await start_server()"))
    row = page.get_by_role("listitem").filter(has_text="Who invented the zip?")
    expect(row.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "0")
    host("kept['search'].advance(20)")
    expect(row.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "37")
    row.get_by_role("link").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Who invented the zip?")
    whole = page.get_by_role("progressbar", name="Progress")
    expect(whole).to_have_attribute("aria-valuenow", "37")
    expect(page.get_by_text("20 / 40")).to_be_visible()
    host(
        """
        kept["s"].increment("sources_found", 1234); kept["s"].set(model="bge-m3"); kept["s"].update(message="page 7")
        kept["s"].emit("source.found", {"url": "https://example.org/"})
        with kept["search"].phase("site-1", total=5, title="The first site") as site:
            site.advance(2)
        """
    )
    for said in ("1,234", "bge-m3", "page 7", "source.found", "https://example.org/", "The first site"):
        expect(page.locator("main")).to_contain_text(said)
    host(
        """
        kept["s"].advance_to("analysis"); kept["s"].set_result({"answer": "Gideon Sundback"})
        await end_session("r-1")
        """
    )
    expect(whole).to_have_attribute("aria-valuetext", re.compile("^100.%, Completed$"))
    expect(page.get_by_text("Gideon Sundback")).to_be_visible()
    expect(page).to_have_title("Who invented the zip?")
    expect(page.get_by_role("button", name="Cancel…")).to_be_hidden()


def test_a_demo_that_serves_is_watched_to_its_end(new_page: Callable[..., Page]) -> None:
    command = [sys.executable, "-m", "trio_progress", "demo", "--serve", "0", "--store", "memory:"]
    # A part of the standard library, which it would read whole.
    command += ["--corpus", str(Path(asyncio.__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        try:
            assert demo.stderr is not None
            address = re.search(r"http://\S+", demo.stderr.readline())
            assert address is not None
            page = new_page()
            visit(page, address[0])
            expect(page.get_by_role("heading", level=1)).to_have_text("How does asyncio cancel a task?")
            expect(page.get_by_text("Read the files")).to_be_visible()
            expect(page.get_by_text("source.found").first).to_be_visible()
            expect(page.locator(".hero-standing")).to_have_text("Completed")
            expect(page.get_by_role("progressbar", name="Progress")).to_have_attribute("aria-valuenow", "100")
            output, _ = demo.communicate(timeout=60)
            assert "Task.cancel" in output
            assert demo.returncode == 0
        finally:
            demo.kill()


def test_a_reload_shows_the_sources_found_so_far(host: HostProcess, new_page: Callable[..., Page]) -> None:
    host(
        """
        session = kept["s"] = await open_session("r-1")
        for n in range(250):
            session.emit("source.found", {"n": n})
        """
    )
    page = new_page()
    visit(page, host("return await start_server()") + "#/r-1")
    for _ in range(2):
        events = page.get_by_role("region", name="Events")
        expect(events.get_by_role("heading")).to_have_text("Events250")
        expect(events.get_by_role("listitem")).to_have_count(100)
        expect(events.get_by_role("listitem").first).to_contain_text("n 249")
        page.get_by_role("button", name="Show older events (150)").click()
        expect(events.get_by_role("listitem")).to_have_count(200)
        page.reload()
    host("kept['s'].emit('source.found', {'n': 'one more'})")
    expect(page.get_by_text("one more")).to_be_visible()


def test_a_session_that_goes_on_in_another_attempt_is_followed(
    host: HostProcess, new_page: Callable[..., Page]
) -> None:
    host("s = await open_session('r-1', {'a': 1, 'b': 1}); s.advance_to('a'); s.advance_to('b'); s.fail('no disk')")
    page = new_page()
    visit(page, host("return await start_server()") + "#/r-1")
    host("await end_session('r-1')")
    expect(page.get_by_text("no disk")).to_be_visible()
    expect(page.get_by_text("It can be resumed")).to_be_visible()
    host("kept['s'] = await open_session('r-1', {'a': 1, 'b': 1}, resume='always')")
    expect(page.get_by_text("attempt 2")).to_be_visible(timeout=60_000)
    expect(page.get_by_text("no disk")).to_be_hidden()
    host("kept['s'].advance_to('b'); await end_session('r-1')")
    expect(page.locator(".hero-standing")).to_have_text("Completed")


def test_of_a_run_that_begins_anew_the_events_are_its_own(host: HostProcess, new_page: Callable[..., Page]) -> None:
    """They are numbered from 1 again, as those of the run before were."""
    host(
        "session = await open_session('r-1', title='One'); session.emit('old', {'n': 1}); session.emit('old', {'n': 2})"
    )
    page = new_page()
    visit(page, host("return await start_server()") + "#/r-1")
    events = page.get_by_role("region", name="Events").get_by_role("listitem")
    expect(events).to_contain_text(["old", "old"])
    host(
        """
        await tracker.cancel("r-1")
        await tracker.wait_ended("r-1")
        session = await open_session("r-1", title="Another")
        for n in range(3):
            session.emit("new", {"n": n})
        """
    )
    expect(page.get_by_role("heading", level=1)).to_have_text("Another")
    expect(events).to_contain_text(["new", "new", "new"])


def test_what_stalls_has_no_speed_and_nothing_left(host: HostProcess, new_page: Callable[..., Page]) -> None:
    host(
        """
        from trio_progress import PhaseSpec
        session = await open_session("r-1", [PhaseSpec("a", total=1000, stall_after=2)])
        phase = session.advance_to("a", total=1000)
        async def work():
            for _ in range(25):
                phase.advance(4)
                await trio.sleep(0.1)
            await kept.setdefault("go on", trio.Event()).wait()
            phase.advance(4)
        nursery.start_soon(work)
        """
    )
    page = new_page()
    visit(page, host("return await start_server()") + "#/r-1")
    counted = page.locator(".phase-count")
    expect(counted).to_contain_text("/s")
    expect(page.locator(".hero-standing")).to_contain_text("Stalled for")
    expect(counted).to_have_text("100 / 1,000")
    host("kept['go on'].set()")
    expect(counted).to_contain_text("/s")


def test_a_result_is_copied_and_what_came_of_it_is_said_for_a_moment(
    host: HostProcess, new_page: Callable[..., Page]
) -> None:
    host("(await open_session('r-1')).set_result('Gideon Sundback')")
    page = new_page(permissions=["clipboard-read", "clipboard-write"])
    visit(page, host("return await start_server()") + "#/r-1")
    copy = page.get_by_role("region", name="Result").get_by_role("button")
    copy.click()
    expect(copy).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == "Gideon Sundback"
    expect(copy).to_have_text("Copy")
    refused = "navigator.clipboard.writeText = async () => { throw new DOMException('no', 'NotAllowedError'); }"
    page.evaluate(f"() => {{ {refused} }}")
    copy.click()
    expect(copy).to_have_text("Not copied")
    expect(copy).to_have_text("Copy")


def test_since_when_a_process_is_gone_goes_on_being_told(new_page: Callable[..., Page], tmp_path: Path) -> None:
    store = f"sqlite:{tmp_path / 'progress.db'}"
    with serving_to(store, lost_after=2) as server:
        worker = HostProcess(store, lost_after=2)
        worker("await open_session('r-1', title='Elsewhere')")
        page = new_page()
        visit(page, server("return await start_server()") + "#/r-1")
        expect(page.get_by_role("heading", level=1)).to_have_text("Elsewhere")
        worker.kill()
        callout = page.locator(".callout")
        expect(callout).to_contain_text("It can be resumed")
        since = callout.get_by_text("Its last heartbeat was")
        said = since.inner_text()
        expect(since).not_to_have_text(said)


def test_of_many_parts_those_that_run_are_seen_and_those_that_ended_can_be(
    host: HostProcess, new_page: Callable[..., Page]
) -> None:
    host(
        """
        whole = (await open_session("r-1", {"all": 1})).advance_to("all")
        for n in range(30):
            with whole.phase(f"part-{n}", total=9) as part:
                part.advance(3)
        kept["parts"] = [whole.phase(f"running-{n}", total=9).__enter__() for n in range(5)]
        """
    )
    page = new_page()
    visit(page, host("return await start_server()") + "#/r-1")
    parts = page.get_by_role("region", name="Phases").get_by_role("listitem").get_by_role("listitem")
    expect(parts).to_have_count(13)
    expect(parts.first).to_contain_text("part-22")
    expect(parts.last).to_contain_text("running-4")
    page.get_by_role("button", name="Show 22 earlier phases").click()
    expect(parts).to_have_count(35)
    host("kept['parts'][2].advance(5)")
    expect(parts.nth(32)).to_contain_text("5 / 9")
    page.get_by_role("button", name="35 parts of all").click()
    expect(parts.first).to_be_hidden()


def test_five_hundred_phases_fit_and_what_is_out_of_sight_costs_nothing(
    host: HostProcess, new_page: Callable[..., Page]
) -> None:
    host(
        """
        session = await open_session("r-1")
        kept["parts"] = [session.phase(f"part-{n}", total=10).__enter__() for n in range(500)]
        """
    )
    page = new_page()
    visit(page, host("return await start_server()") + "#/r-1")
    whole = page.get_by_role("progressbar", name="Progress")
    host("for part in kept['parts']: part.advance(5)")
    expect(whole).to_have_attribute("aria-valuenow", "50")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    bar = whole.locator(".bar")
    expect(bar).to_have_count(1)
    last = page.get_by_text("part-499", exact=True)
    drawn = "one => one.checkVisibility({contentVisibilityAuto: true})"
    assert not last.evaluate(drawn)
    page.keyboard.press("End")
    expect(last).to_be_in_viewport()
    assert last.evaluate(drawn)


def test_a_session_that_is_not_there_yet_is_said_to_be_so_and_comes(
    host: HostProcess, new_page: Callable[..., Page]
) -> None:
    page = new_page()
    visit(page, host("return await start_server()") + "#/r-later")
    expect(page.get_by_text("No session r-later yet")).to_be_visible()
    host("await open_session('r-later', title='Come at last')")
    expect(page.get_by_role("heading", name="Come at last")).to_be_visible()
    expect(page.get_by_text("No session")).to_be_hidden()


def test_cancelling_asks_once_more_and_gives_the_reason(host: HostProcess, new_page: Callable[..., Page]) -> None:
    host("await open_session('r-1', title='A long crawl')")
    page = new_page()
    visit(page, host("return await start_server()") + "#/r-1")
    page.get_by_role("button", name="Cancel…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("“A long crawl” will be asked to stop")
    dialog.get_by_role("button", name="Let it run").click()
    expect(dialog).to_be_hidden()
    assert host("return (await tracker.snapshot('r-1')).status") == "running"
    page.get_by_role("button", name="Cancel…").click()
    dialog.get_by_label("Reason").fill("a newer one runs")
    dialog.get_by_role("button", name="Cancel the session").click()
    expect(page.get_by_text("a newer one runs")).to_be_visible()
    expect(page.get_by_text("Cancelled", exact=True).first).to_be_visible()
    assert host("return (await tracker.snapshot('r-1')).error.message") == "a newer one runs"


def test_that_a_cancel_did_not_reach_the_server_is_said_in_words(
    host: HostProcess, new_page: Callable[..., Page]
) -> None:
    host("await open_session('r-1')")
    page = new_page()
    visit(page, host("return await start_server(drain_timeout=0.2)") + "#/r-1")
    page.get_by_role("button", name="Cancel…").click()
    host("await stop_server()")
    page.get_by_role("button", name="Cancel the session").click()
    expect(page.get_by_role("alert")).to_have_text(
        "The server cannot be reached. Try again when the connection is back."
    )


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
    visit(page, host(f"return await start_server({port})"))
    host("await stop_server()")
    # By now it waits for several seconds between two tries.
    expect(page.locator("#notice")).to_contain_text(re.compile(r"in ([5-9]|\d\d)s"))
    host(f"await open_session('r-1', title='Awake'); await start_server({port})")
    page.context.set_offline(True)
    page.context.set_offline(False)
    expect(page.locator("#link")).to_have_text("Live", timeout=3000)
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


# What people may try


PAYLOADS = [
    "<img src=x onerror=pwned()>",
    "<script>pwned()</script>",
    "<svg/onload=pwned()>",
    '"><svg onload=pwned()>',
    "'-pwned()-'",
    "javascript:pwned()",
    "{{constructor.constructor('pwned()')()}}",
    "${pwned()}",
    "</title><script>pwned()</script>",
    "</style><script>pwned()</script>",
    "<iframe srcdoc='<script>parent.pwned()</script>'>",
    "<a href=javascript:pwned()>click</a>",
    "<details open ontoggle=pwned()>",
    "<math><mtext><style><img src onerror=pwned()>",
    "--><img src=x onerror=pwned()>",
    "\u202e\u2028\ufeff<img src=x onerror=pwned()>",
    "&lt;img src=x onerror=pwned()&gt;",
    "__proto__",
    "constructor",
    "url(javascript:pwned())",
]


def test_two_hundred_hostile_strings_are_text(
    host: HostProcess, new_page: Callable[..., Page], rng: random.Random
) -> None:
    """Wherever a session can say something: what comes up on the page is text, and nothing runs."""
    strings = [f"{rng.choice(PAYLOADS)}{PAYLOADS[n % len(PAYLOADS)]} {n}" for n in range(200)]
    host(
        f"""
        strings = {strings!r}
        from itertools import cycle
        take = cycle(strings)
        for number in range(4):
            labels = {{f"l{{n}}": next(take) for n in range(3)}}
            session = await open_session(f"r-{{number}}", title=next(take), labels=labels)
            session.update(message=next(take))
            for _ in range(5):
                session.increment(next(take), 1); session.set(**{{next(take): next(take)}})
                session.emit("e", {{next(take): next(take)}}); session.emit(next(take).replace(" ", ""), next(take))
            with session.phase(next(take), title=next(take), unit=next(take), total=3) as phase:
                phase.advance(1); phase.set(**{{next(take): next(take)}}); phase.update(message=next(take))
                kept[number] = phase.phase(next(take), title=next(take)).__enter__()
                session.set_result({{next(take): next(take)}})
            session.fail(next(take), details={{next(take): next(take)}})
            if number % 2:
                await end_session(session.id)
        """
    )
    page = new_page()
    page.expose_function("pwned", lambda: executed.append(page.url))
    executed: list[str] = []
    url = host("return await start_server()")
    visit(page, url)
    expect(page.get_by_role("listitem")).to_have_count(4)
    seen = page.inner_text("body")
    for number in range(4):
        page.goto(f"{url}#/r-{number}")
        expect(page.locator(".under")).to_contain_text(f"r-{number}")
        expect(page.get_by_role("region", name="Events").get_by_role("listitem")).to_have_count(10)
        for twist in page.locator(".twist").all():
            if twist.get_attribute("aria-expanded") == "false":
                twist.click()
        seen += page.inner_text("body") + page.title()
    assert page.locator("main :is(script, iframe, img, math, details, object, embed)").count() == 0
    assert executed == []
    shown = sum(f" {n}" in seen for n in range(200))
    assert shown > 120, shown


def test_the_policy_is_strict_and_forbids_what_is_injected(
    host: HostProcess, new_page: Callable[..., Page], complaints: list[str]
) -> None:
    host("await open_session('r-1', title='Quiet')")
    page = new_page()
    url = host("return await start_server()")
    response = page.goto(url)
    assert response is not None
    policy = response.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy or "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert response.headers["x-content-type-options"] == "nosniff"
    expect(page.locator("#link")).to_have_text("Live")
    assert {request for request in loaded(page) if not request.startswith(url)} == set()
    assert complaints == [], "nothing of the page's own violates it"
    page.evaluate(
        """() => { const script = document.createElement("script");
            try { script.textContent = "globalThis.injected = true"; } catch {}
            document.body.append(script);
            document.body.setAttribute("onclick", "globalThis.injected = true"); document.body.click(); }"""
    )
    assert page.evaluate("globalThis.injected") is None
    assert any("violation" in complaint or "Content Security Policy" in complaint for complaint in complaints)
    complaints.clear()


def loaded(page: Page) -> list[str]:
    """The addresses of all that the page has loaded."""
    addresses: list[str] = page.evaluate("performance.getEntriesByType('resource').map((entry) => entry.name)")
    return addresses


# Finding, and going about


def test_sessions_are_found_by_words_labels_and_standing_and_the_address_keeps_it(
    host: HostProcess, new_page: Callable[..., Page]
) -> None:
    host(
        """
        for n in range(6):
            session = await open_session(f"r-{n}", title=f"Crawl {n}", labels={"user": ["ada", "grace"][n % 2]})
            if n == 5:
                session.fail("no")
            if n > 3:
                await end_session(f"r-{n}")
        """
    )
    page = new_page()
    url = host("return await start_server()")
    visit(page, url)
    rows = page.get_by_role("listitem")
    expect(rows).to_have_count(6)
    page.get_by_role("searchbox").fill("user=ada")
    expect(rows).to_have_count(3)
    page.get_by_role("searchbox").fill("user=ada crawl 2")
    expect(rows).to_have_count(1)
    page.get_by_role("searchbox").press("Escape")
    expect(rows).to_have_count(6)
    page.get_by_role("button", name="Failed").click()
    expect(rows).to_have_count(1)
    expect(page.get_by_role("button", name="Failed")).to_have_attribute("aria-pressed", "true")
    page.reload()
    expect(rows).to_have_count(1)
    page.get_by_role("button", name="All").click()
    page.get_by_role("button", name="user=grace").first.click()
    expect(rows).to_have_count(3)
    assert "user%3Dgrace" in page.url
    rows.first.get_by_role("link").click()
    page.get_by_role("link", name="Sessions", exact=True).click()
    expect(rows).to_have_count(3)


def test_the_labels_of_a_session_find_it_whatever_they_are(host: HostProcess, new_page: Callable[..., Page]) -> None:
    labels = {"spaces": "Data  Science", "quotes": 'say "hi"', "empty": "", "a name": "x", "is": "a=b", '"': '"'}
    host(f"await open_session('r-1', title='This'); await open_session('r-2', title='That', labels={labels!r})")
    page = new_page()
    url = host("return await start_server()")
    for name, value in labels.items():
        visit(page, f"{url}#/r-2")
        page.get_by_role("link", name=f"{name}={value}", exact=True).click()
        expect(page.get_by_role("listitem")).to_have_count(1)
        expect(page.get_by_role("link", name="That")).to_be_visible()


def test_older_sessions_that_cannot_be_had_are_said_to_be_so(host: HostProcess, new_page: Callable[..., Page]) -> None:
    host("for n in range(1003): await tracker.declare(f'r-{n}')")
    page = new_page()
    port = free_port()
    visit(page, host(f"return await start_server({port}, drain_timeout=0.2)"))
    older = page.get_by_role("button", name="Show older sessions")
    expect(older).to_be_visible()
    host("await stop_server()")
    older.click()
    again = page.get_by_role("button", name="Older sessions could not be loaded; try again")
    expect(again).to_be_visible()
    host(f"await start_server({port})")
    again.click()
    expect(page.get_by_role("listitem")).to_have_count(1003)
    expect(again).to_be_hidden()


def test_who_comes_back_to_the_list_is_where_they_left_it(host: HostProcess, new_page: Callable[..., Page]) -> None:
    host("for n in range(60): await open_session(f'r-{n}', title=f'Crawl {n}'); await trio.sleep(0.001)")
    page = new_page()
    visit(page, host("return await start_server()"))
    row = page.get_by_role("link", name="Crawl 7", exact=True)
    for back in (lambda: page.keyboard.press("Escape"), page.go_back):
        row.focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text("Crawl 7")
        back()
        expect(page.get_by_role("heading", level=1)).to_have_text("Sessions")
        expect(row).to_be_focused()
        expect(row).to_be_in_viewport()
    page.keyboard.press("k")
    expect(page.get_by_role("link", name="Crawl 8", exact=True)).to_be_focused()


def test_all_of_it_can_be_reached_by_keyboard(host: HostProcess, new_page: Callable[..., Page]) -> None:
    host(
        """
        for n in range(3):
            session = await open_session(f"r-{n}", title=f"Crawl {n}")
            await trio.sleep(0.01)
            with session.phase("a") as a, a.phase("b"):
                pass
        """
    )
    page = new_page()
    visit(page, host("return await start_server()"))
    expect(page.get_by_role("listitem")).to_have_count(3)
    focused = "document.activeElement.textContent"
    page.keyboard.press("/")
    page.keyboard.type("crawl")
    expect(page.get_by_role("searchbox")).to_have_value("crawl")
    page.keyboard.press("Escape")
    expect(page.get_by_role("searchbox")).to_have_value("")
    page.get_by_role("searchbox").blur()
    page.keyboard.press("j")
    assert page.evaluate(focused) == "Crawl 2", "the last begun is the first"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.evaluate(focused) == "Crawl 0", "the last is the last"
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Crawl 1")
    twist = page.get_by_role("button", name="1 parts of a")
    for _ in range(12):
        page.keyboard.press("Tab")
        if twist.evaluate("(element) => element === document.activeElement"):
            break
    page.keyboard.press("Enter")
    expect(twist).to_have_attribute("aria-expanded", "true")
    expect(page.get_by_text("b", exact=True)).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sessions")
    ring = page.evaluate(
        """() => { document.querySelector("#theme").focus();
            return getComputedStyle(document.activeElement).outlineStyle; }"""
    )
    assert ring == "solid"


def test_five_hundred_sessions_move_without_choking_the_page(host: HostProcess, new_page: Callable[..., Page]) -> None:
    """While all of them move and somebody scrolls, the page's own work leaves most of the time free."""
    host(
        """
        for n in range(500):
            session = await open_session(f"r-{n}", {"a": 1}, title=f"Session {n}", labels={"user": f"u{n % 7}"})
            kept[n] = session.advance_to("a", total=1000)
        async def move():
            while True:
                for phase in [kept[n] for n in range(500)]:
                    phase.advance()
                await trio.sleep(0.2)
        nursery.start_soon(move)
        """
    )
    page = new_page()
    visit(page, host("return await start_server()"))
    expect(page.get_by_role("listitem")).to_have_count(500)
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def worked() -> float:
        """Seconds of a processor, not of a clock: what else the machine does is not the page's."""
        metrics = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
        return float(metrics["ScriptDuration"] + metrics["LayoutDuration"] + metrics["RecalcStyleDuration"])

    page.evaluate(
        """() => {
            window.far = 0;
            window.near = 0;
            new MutationObserver((changes) => {
                const rows = new Set(changes.map(({ target }) => (target.parentElement ?? target).closest("li")));
                for (const row of rows) {
                    const { top, bottom } = row?.getBoundingClientRect() ?? { top: 0, bottom: 0 };
                    if (bottom < -2 * innerHeight || top > 3 * innerHeight) window.far += 1;
                    else window.near += 1;
                }
            }).observe(document.querySelector("main"), {
                subtree: true, attributes: true, characterData: true, childList: true,
            });
        }"""
    )
    before, began = worked(), page.evaluate("performance.now()")
    for _ in range(40):
        page.mouse.wheel(0, 700)
        page.wait_for_timeout(100)
    share = (worked() - before) / (page.evaluate("performance.now()") - began) * 1000
    assert page.evaluate("scrollY") > 10_000
    assert page.evaluate("near") > 100, "rows in sight move"
    assert page.evaluate("far") == 0, "rows that nobody sees cost nothing"
    assert share < 0.5, f"{share:.0%} of the time"


def test_a_session_that_the_server_has_no_more_is_said_and_no_clock_goes_on(
    new_page: Callable[..., Page], complaints: list[str]
) -> None:
    port = free_port()
    page = new_page()
    with serving_to() as first:
        first("kept['a'] = (await open_session('r-1', {'a': 1}, title='Secret')).advance_to('a', total=100)")
        first("kept['a'].advance(40)")
        visit(page, first(f"return await start_server({port})") + "#/r-1")
        expect(page.get_by_role("button", name="Cancel")).to_be_visible()
        first.kill()
    with serving_to() as second:
        second(f"return await start_server({port})")
        gone = page.get_by_text("This session no longer exists on the server")
        expect(gone).to_be_visible(timeout=60_000)
        expect(page.get_by_role("button", name="Cancel")).to_be_hidden()
        expect(page.locator("main")).to_contain_text("Unknown")
        second("(await open_session('r-1', {'a': 1}, title='Secret')).advance_to('a', total=100)")
        expect(gone).to_be_hidden()
        expect(page.locator("main")).to_contain_text("Running")
    # It may have asked while there was none, which Chromium says.
    complaints[:] = [said for said in complaints if "404" not in said]


def test_scripts_that_do_not_come_are_said(host: HostProcess, new_page: Callable[..., Page]) -> None:
    page = new_page()
    page.route("**/static/dashboard/app.js*", lambda route: route.fulfill(content_type="text/javascript", body=""))
    page.goto(host("return await start_server()"))
    expect(page.get_by_text("the page could not load its scripts")).to_be_visible(timeout=60_000)


def test_neither_a_row_that_moves_nor_a_result_that_stays_loses_what_the_reader_holds(
    host: HostProcess, new_page: Callable[..., Page]
) -> None:
    host(
        """
        for n in range(3):
            kept[n] = (await open_session(f"r-{n}", {"a": 1}, title=f"Crawl {n}")).advance_to("a", total=9)
        kept["s"] = await open_session("result", {"a": 1}, title="With a result")
        kept["s"].set_result({"answer": [1, 2, 3]})
        """
    )
    page = new_page()
    visit(page, host("return await start_server()"))
    row = page.get_by_role("link", name="Crawl 1", exact=True)
    row.focus()
    host("await end_session('r-1')")
    expect(page.get_by_role("region", name="Ended").get_by_role("link", name="Crawl 1", exact=True)).to_be_focused()
    page.get_by_role("link", name="With a result").click()
    copy = page.get_by_role("button", name="Copy")
    copy.focus()
    host("kept['s'].update(message='page 7'); kept['s'].set(n=1)")
    expect(page.locator("main")).to_contain_text("page 7")
    expect(copy).to_be_focused()


# Who may see


def test_pain_22_a_token_is_asked_for_and_kept_for_the_tab_only(
    host: HostProcess, new_page: Callable[..., Page]
) -> None:
    host("await open_session('r-1', title='Secret')")
    page = new_page()
    url = host("return await start_server(auth='correct-horse-battery-staple-and-so-on-and-on')")
    page.goto(url)
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Token required")
    expect(page.get_by_text("Secret")).to_have_count(0)
    dialog.get_by_label("Token").fill("wrong")
    dialog.get_by_role("button", name="Use token").click()
    expect(dialog).to_contain_text("rejected the token")
    dialog.get_by_label("Token").fill("correct-horse-battery-staple-and-so-on-and-on")
    dialog.get_by_role("button", name="Use token").click()
    expect(page.get_by_role("link", name="Secret")).to_be_visible()
    page.reload()
    expect(page.get_by_role("link", name="Secret")).to_be_visible()
    assert not any("horse" in address for address in [page.url, *loaded(page)])
    assert page.evaluate("JSON.stringify(localStorage)") == "{}"
    other = new_page()
    other.goto(url)
    expect(other.get_by_role("dialog")).to_contain_text("Token required")


def test_who_has_no_token_is_told_what_there_is_to_do(host: HostProcess, new_page: Callable[..., Page]) -> None:
    host("await open_session('r-1', title='Secret')")
    page = new_page()
    page.goto(host("return await start_server(auth='correct-horse-battery-staple-and-so-on-and-on')"))
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Not now").click()
    expect(page.get_by_role("main")).to_contain_text("Token required")
    page.get_by_role("main").get_by_role("button", name="Enter a token").click()
    dialog.get_by_label("Token").fill("correct-horse-battery-staple-and-so-on-and-on")
    dialog.get_by_role("button", name="Use token").click()
    expect(page.get_by_role("link", name="Secret")).to_be_visible()
    page.get_by_role("banner").get_by_role("button", name="Token").click()
    expect(dialog).to_contain_text("replaces the current token")
    expect(dialog).not_to_contain_text("did not take")


# On a phone, and with less motion


def test_a_phone_needs_no_scrolling_sideways(host: HostProcess, new_page: Callable[..., Page]) -> None:
    host(
        """
        session = await open_session("r-1", {"a": 1, "b": 2}, title="T" * 150, labels={"user": "u" * 90})
        session.set(key="k" * 400); session.emit("e" * 100, {"u": "v" * 300}); session.set_result({"r": "x" * 900})
        session.advance_to("a", total=10, unit="n" * 60)
        """
    )
    page = new_page(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    url = host("return await start_server()")
    for address in (url, f"{url}#/r-1"):
        visit(page, address)
        expect(page.get_by_text("TTT").first).to_be_visible()
        page.wait_for_timeout(300)
        wide = """() => [...document.querySelectorAll("main *")]
            .filter((one) => one.getBoundingClientRect().right > 361).map((one) => one.className)"""
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, (address, page.evaluate(wide))


def test_on_a_phone_the_filters_are_moved_and_not_the_page(host: HostProcess, new_page: Callable[..., Page]) -> None:
    host(
        """
        await tracker.declare("queued")
        for status in ("running", "completed", "failed", "cancelled"):
            session = await open_session(status, {"a": 1})
            if status == "failed":
                session.fail("no disk")
            if status == "cancelled":
                await tracker.cancel(status)
            elif status != "running":
                await host.end_session(status)
        """
    )
    page = new_page(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    visit(page, host("return await start_server()"))
    chips = page.get_by_role("group", name="Filter by status")
    expect(chips.get_by_role("button")).to_have_count(6)
    assert page.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [360, 360]
    chips.get_by_role("button", name="Stopped").tap()
    expect(page.get_by_role("listitem")).to_have_count(1)


def test_less_motion_means_none(host: HostProcess, new_page: Callable[..., Page]) -> None:
    host("(await open_session('r-1')).phase('a').__enter__()")
    page = new_page(reduced_motion="reduce")
    visit(page, host("return await start_server()") + "#/r-1")
    expect(page.get_by_text("a", exact=True)).to_be_visible()
    assert page.evaluate("document.getAnimations().length") == 0
