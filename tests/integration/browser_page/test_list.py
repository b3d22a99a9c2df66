"""The page's list, finding and going about in it, on a phone and with less motion."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is missing: install the extra `test`")

from playwright.sync_api import Page, expect

from tests.browser.page import CHROMIUM, HostProcess, serving_to, visit
from tests.support import free_port

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is missing: install the package chromium"),
]


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


@pytest.mark.exhaustive
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


@pytest.mark.exhaustive
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
    expect(page.get_by_role("listitem").last).to_have_attribute("aria-setsize", "1003")
    expect(again).to_be_hidden()


@pytest.mark.exhaustive
def test_who_comes_back_to_the_list_is_where_they_left_it(host: HostProcess, new_page: Callable[..., Page]) -> None:
    host("for n in range(60): await open_session(f'r-{n}', title=f'Crawl {n}'); await trio.sleep(0.001)")
    page = new_page()
    visit(page, host("return await start_server()"))
    row = page.get_by_role("link", name="Crawl 7", exact=True)
    expect(page.get_by_role("listitem").last).to_have_attribute("aria-setsize", "60")
    for back in (lambda: page.keyboard.press("Escape"), page.go_back):
        page.evaluate("document.activeElement.blur()")
        page.keyboard.press("k")
        for _ in range(7):
            page.keyboard.press("k")
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
    page.keyboard.press("ArrowDown")
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


@pytest.mark.exhaustive
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
        kept["move"] = move
        """
    )
    page = new_page()
    visit(page, host("return await start_server()"))
    rows = page.get_by_role("listitem")
    expect(rows.last).to_have_attribute("aria-setsize", "500")
    assert page.evaluate("document.querySelectorAll('*').length") < 1000
    host("nursery.start_soon(kept['move'])")
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
    # A browser that has no processor for a while says late what is in sight.
    assert page.evaluate("far") * 20 <= page.evaluate("near"), "rows that nobody sees cost nothing"
    assert share < 0.5, f"{share:.0%} of the time"


@pytest.mark.exhaustive
def test_of_many_sessions_those_in_sight_are_there_and_the_keyboard_reaches_all(
    host: HostProcess, new_page: Callable[..., Page]
) -> None:
    host("for n in range(400): await open_session(f'r-{n:03}', title=f'Crawl {n:03}'); await trio.sleep(0.001)")
    page = new_page()
    visit(page, host("return await start_server()"))
    rows = page.get_by_role("listitem")
    focused = page.locator("a:focus")

    def said(name: str) -> list[str | None]:
        row = rows.filter(has=page.get_by_role("link", name=name, exact=True))
        return [row.get_attribute(f"aria-{one}") for one in ("posinset", "setsize")]

    expect(rows.last).to_have_attribute("aria-setsize", "400")
    assert said("Crawl 399") == ["1", "400"]
    height = page.evaluate("document.documentElement.scrollHeight")
    # Where it goes far, its neighbours are there, and whence it came is no more.
    page.keyboard.press("j")
    page.keyboard.press("End")
    expect(focused).to_have_text("Crawl 000")
    expect(focused).to_be_in_viewport()
    page.keyboard.press("ArrowUp")
    expect(focused).to_have_text("Crawl 001")
    assert said("Crawl 001") == ["399", "400"]
    assert rows.count() < 50
    # All the way up the height stays, and so does the focus; from it Tab goes on.
    page.evaluate("scrollTo(0, 9000)")
    expect(page.get_by_role("link", name="Crawl 270", exact=True)).to_be_in_viewport()
    assert said("Crawl 270") == ["130", "400"]
    expect(focused).to_have_text("Crawl 001")
    assert page.evaluate("document.documentElement.scrollHeight") == height
    page.keyboard.press("Shift+Tab")
    expect(focused).to_have_text("Crawl 002")
    expect(focused).to_be_in_viewport()
    # What is read stays where it is while sessions come above it.
    page.evaluate("scrollTo(0, 9000)")
    seen = page.get_by_role("link", name="Crawl 270", exact=True)
    expect(seen).to_be_in_viewport()
    top = seen.bounding_box()["y"]  # type: ignore[index]
    host("for n in range(50): await open_session(f'new-{n}')")
    expect(rows.last).to_have_attribute("aria-setsize", "450")
    page.wait_for_timeout(100)
    assert abs(seen.bounding_box()["y"] - top) < 3  # type: ignore[index]
    # Paper has all of them.
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert rows.count() == 450
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    expect(page.locator(".gap")).not_to_have_count(0)


@pytest.mark.exhaustive
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


@pytest.mark.exhaustive
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
    copy = page.get_by_role("button", name="Copy", exact=True)
    copy.focus()
    host("kept['s'].update(message='page 7'); kept['s'].set(n=1)")
    expect(page.locator("main")).to_contain_text("page 7")
    expect(copy).to_be_focused()


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


@pytest.mark.exhaustive
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


@pytest.mark.exhaustive
def test_less_motion_means_none(host: HostProcess, new_page: Callable[..., Page]) -> None:
    host("(await open_session('r-1')).phase('a').__enter__()")
    page = new_page(reduced_motion="no-preference")
    visit(page, host("return await start_server()") + "#/r-1")
    expect(page.get_by_text("a", exact=True)).to_be_visible()
    page.wait_for_function("document.getAnimations().length > 0")
    page.emulate_media(reduced_motion="reduce")
    page.wait_for_function("document.getAnimations().length == 0")
