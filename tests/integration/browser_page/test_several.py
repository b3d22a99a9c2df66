"""What can be done on the page beside looking: with several sessions, by keyboard, and what is told beside it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is missing: install the extra `test`")
pytest.importorskip("axe_playwright_python", reason="axe-core is missing: install the extra `test`")

from playwright.sync_api import Page, expect

from tests.browser.page import CHROMIUM, HostProcess, axe_findings, visit

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is missing: install the package chromium"),
]

SESSIONS = """
for n in range(8):
    labels = {"user": ["ada", "grace"][n % 2], "team": "search"}
    await open_session(f"r-{n}", {"a": 1}, title=f"Crawl {n}", labels=labels)
    if n > 4:
        await end_session(f"r-{n}")
    await trio.sleep(0.001)
"""


@pytest.mark.exhaustive
def test_chips_filter_by_labels_and_of_two_values_of_one_either_will_do(
    host: HostProcess, new_page: Callable[..., Page]
) -> None:
    host(SESSIONS)
    page = new_page()
    visit(page, host("return await start_server()"))
    rows = page.get_by_role("listitem")
    chips = page.get_by_role("group", name="Filter by user")
    chips.get_by_role("button", name="ada 4").click()
    expect(rows).to_have_count(4)
    chips.get_by_role("button", name="grace 4").click()
    expect(rows).to_have_count(8)
    chips.get_by_role("button", name="ada 4").click()
    expect(rows).to_have_count(4)
    expect(page.get_by_role("searchbox")).to_have_value("user=grace")


def test_several_are_selected_then_cancelled_or_deleted_and_what_failed_is_told(
    host: HostProcess, new_page: Callable[..., Page], complaints: list[str]
) -> None:
    host(SESSIONS)
    page = new_page()
    url = host("return await start_server()")
    visit(page, url)
    boxes = page.get_by_role("checkbox")
    bar, dialog = page.get_by_role("region", name="Selected sessions"), page.get_by_role("dialog")
    expect(page.get_by_role("listitem")).to_have_count(8)
    # By the keyboard one after another, by the mouse a range; Escape chooses none.
    page.keyboard.press("j")
    page.keyboard.press("x")
    page.keyboard.press("j")
    page.keyboard.press("x")
    expect(bar.get_by_role("status")).to_have_text("2 selected")
    boxes.nth(4).click(modifiers=["Shift"])
    expect(bar.get_by_role("status")).to_have_text("5 selected")
    page.keyboard.press("Escape")
    expect(boxes).to_have_count(0)
    # Cancelling those that go on of all that are chosen.
    page.get_by_role("button", name="Select", exact=True).click()
    boxes.nth(0).click()
    boxes.nth(1).click()
    boxes.nth(6).click()
    expect(bar.get_by_role("button", name="Delete 1…")).to_be_enabled()
    bar.get_by_role("button", name="Cancel 2…").click()
    expect(dialog.get_by_role("listitem")).to_have_text(["Crawl 4", "Crawl 3"])
    dialog.get_by_label("Reason").fill("a newer one runs")
    dialog.get_by_role("button", name="Cancel 2 sessions").click()
    expect(page.get_by_role("region", name="Ended").get_by_role("link", name="Crawl 4")).to_be_visible()
    expect(dialog).to_be_hidden()
    assert host("return (await tracker.snapshot('r-4')).error.message") == "a newer one runs"
    assert host("return (await tracker.snapshot('r-6')).status") == "completed"
    # Deleting: one of them fails, and is tried again.
    bar.get_by_role("button", name="Select all 8").click()
    answer = '{"code": "unavailable", "message": "the store does not answer now"}'
    page.route("**/sessions/r-6", lambda route: route.fulfill(status=503, content_type="application/json", body=answer))
    bar.get_by_role("button", name="Delete 5…").click()
    expect(dialog).to_contain_text("cannot be undone")
    dialog.get_by_role("button", name="Delete 5 sessions").click()
    expect(dialog.get_by_role("alert")).to_have_text("“Crawl 6”: the store does not answer now")
    expect(page.locator(".row").last).to_have_attribute("aria-setsize", "1")
    page.unroute_all()
    dialog.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("region", name="Ended")).to_be_hidden()
    assert host("return len((await tracker.sessions()).sessions)") == 3
    complaints[:] = [said for said in complaints if "503" not in said]


@pytest.mark.exhaustive
def test_who_may_only_read_is_offered_no_selection(host: HostProcess, new_page: Callable[..., Page]) -> None:
    host("await open_session('r-1')")
    page = new_page()
    page.route(
        "**/config", lambda route: route.fulfill(json={"auth": "none", "authenticated": True, "verbs": ["read"]})
    )
    visit(page, host("return await start_server()"))
    expect(page.get_by_role("listitem")).to_have_count(1)
    page.keyboard.press("j")
    page.keyboard.press("x")
    expect(page.get_by_role("button", name="Select", exact=True)).to_be_hidden()
    expect(page.get_by_role("checkbox")).to_have_count(0)


@pytest.mark.exhaustive
def test_the_tab_says_how_far_it_is_and_a_click_asks_for_a_notification(
    host: HostProcess, new_page: Callable[..., Page]
) -> None:
    host("kept['a'] = (await open_session('r-1', {'a': 1}, title='A long crawl')).advance_to('a', total=10)")
    page = new_page(permissions=["clipboard-read", "clipboard-write"])
    page.add_init_script(
        """window.notes = []; window.asked = 0;
        window.Notification = class { constructor(title, { body }) { window.notes.push([title, body]); }
            static async requestPermission() { window.asked += 1; return window.answer ?? "granted"; } };"""
    )
    url = host("return await start_server()")
    visit(page, url)
    expect(page).to_have_title("1 running · Sessions · trio-progress")
    icon = page.locator("link[rel=icon]")
    empty = icon.get_attribute("href")
    assert empty is not None
    assert empty.startswith("data:image/svg+xml,")
    # Help is a key away, and so is the session.
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Next, previous session")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    row = page.get_by_role("link", name="A long crawl")
    expect(row).to_be_visible()
    page.keyboard.press("j")
    expect(row).to_be_focused()
    page.keyboard.press("Enter")
    host("kept['a'].advance(4)")
    expect(page).to_have_title("40\u202f% · A long crawl")
    expect(icon).not_to_have_attribute("href", empty)
    page.get_by_role("button", name="Copy link").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == f"{url}#/r-1"
    page.get_by_role("button", name="Copy curl").click()
    expect(page.get_by_role("button", name="Copied")).to_have_count(2)
    assert page.evaluate("navigator.clipboard.readText()") == f"curl '{url}sessions/r-1'"
    assert page.evaluate("asked") == 0
    page.evaluate("() => { window.answer = 'denied' }")
    notify = page.get_by_role("button", name="Notify me when it ends")
    notify.click()
    expect(page.get_by_text("This browser does not let the page notify you")).to_be_visible()
    page.evaluate("() => { window.answer = 'granted' }")
    notify.click()
    expect(page.get_by_role("button", name="You are notified when it ends")).to_have_attribute("aria-pressed", "true")
    # Also where the reader has gone elsewhere.
    page.keyboard.press("Escape")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sessions")
    host("await tracker.cancel('r-1')")
    expect(page.get_by_role("region", name="Ended")).to_be_visible()
    expect(page).to_have_title("Sessions · trio-progress")
    expect(icon).to_have_attribute("href", f"{url}static/favicon.svg")
    page.wait_for_timeout(100)
    [[title, body]] = page.evaluate("notes")
    assert (title, body[:16]) == ("A long crawl", "Cancelled after ")


def test_axe_core_finds_nothing(host: HostProcess, new_page: Callable[..., Page], exhaustive: bool) -> None:
    """On the list and a session, light and dark; with --exhaustive also with selected rows, at 200 % and in help."""
    host(SESSIONS + "\n(await open_session('s', {'a': 1})).advance_to('a', total=9)")
    page = new_page()
    url = host("return await start_server()")
    found: list[str] = []

    def look(name: str) -> None:
        found.extend(f"{name}, {one}" for one in axe_findings(page))

    visit(page, url)
    expect(page.get_by_role("listitem").last).to_be_attached()
    look("list")
    if exhaustive:
        page.keyboard.press("j")
        page.keyboard.press("x")
        look("selected")
        page.locator("#help-button").click()
        look("help")
        page.keyboard.press("Escape")
        page.set_viewport_size({"width": 640, "height": 430})
        look("200 %")
    page.goto(f"{url}#/s")
    expect(page.get_by_role("progressbar", name="Progress")).to_be_visible()
    look("session")
    assert found == []


@pytest.mark.exhaustive
def test_nothing_is_cut_off_at_two_hundred_per_cent_and_what_is_chosen_is_seen_in_high_contrast(
    host: HostProcess, new_page: Callable[..., Page]
) -> None:
    host(SESSIONS)
    page = new_page(viewport={"width": 640, "height": 430}, device_scale_factor=2, forced_colors="active")
    visit(page, host("return await start_server()"))
    expect(page.get_by_role("listitem").first).to_be_attached()
    page.keyboard.press("j")
    page.keyboard.press("x")
    expect(page.get_by_role("checkbox").first).to_be_checked()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    outline = "one => getComputedStyle(one).outlineStyle"
    assert page.locator("[data-chosen]").evaluate(outline) == "solid"
    assert page.get_by_role("button", name="All", exact=False).first.evaluate(outline) == "solid"
