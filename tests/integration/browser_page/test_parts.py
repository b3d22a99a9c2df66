"""A job with its parts: in the list below it, and from page to page."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("axe_playwright_python", reason="axe-core is missing: install the extra `test`")

from playwright.sync_api import Page, expect

from tests.browser.page import CHROMIUM, HostProcess, axe_findings, visit

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is missing: install the package chromium"),
]

JOB = """
    await tracker.declare("other")
    for n in range(3):
        await tracker.declare(f"shard-{n}", title=f"Shard {n}", parent="job")
        await trio.sleep(0.01)
    await tracker.declare("deep", title="A part of a part", parent="shard-1")
    await tracker.declare("stray", title="A stray", parent="gone")
    await open_session("job", title="The job")
    await tracker.cancel("shard-2")
    """

TWO_KEYS = """keys => {
    for (const key of keys) {
        document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
    }
}"""
"""Within one frame, as a key that is held or a quick reader may."""


def test_parts_stand_below_their_job_where_it_is_opened_and_keys_and_readers_know(
    host: HostProcess, new_page: Callable[..., Page]
) -> None:
    host(JOB)
    page = new_page()
    visit(page, host("return await start_server()"))
    rows = page.get_by_role("listitem")
    focused = page.locator(":focus")

    def row(title: str) -> dict[str, str | None]:
        """What a screen reader is told of where it stands."""
        found = rows.filter(has=page.get_by_role("link", name=title, exact=True))
        return {name: found.get_attribute(f"aria-{name}") for name in ("level", "posinset", "setsize")}

    expect(rows).to_have_count(3)
    expect(rows.filter(has_text="A stray")).to_contain_text("Part of gone")
    parts = page.get_by_role("button", name="3 parts of The job")
    expect(parts).to_have_attribute("aria-expanded", "false")
    parts.click()
    expect(parts).to_have_attribute("aria-expanded", "true")
    expect(parts).to_be_focused()
    expect(rows).to_have_count(6)
    expect(page.get_by_role("heading", name="In progress")).to_have_text("In progress3")
    assert row("Shard 2") == {"level": "2", "posinset": "3", "setsize": "3"}
    assert row("The job")["level"] is None
    # By the arrows: into what is open, back to the job, and shut.
    page.get_by_role("link", name="Shard 1", exact=True).focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("link", name="A part of a part")).to_be_visible()
    assert row("A part of a part") == {"level": "3", "posinset": "1", "setsize": "1"}
    page.evaluate(TWO_KEYS, ["ArrowLeft", "ArrowLeft"])
    expect(focused).to_have_text("The job")
    assert axe_findings(page) == []
    page.keyboard.press("ArrowLeft")
    expect(rows).to_have_count(3)
    page.evaluate(TWO_KEYS, ["ArrowRight", "ArrowDown"])
    expect(rows).to_have_count(6)
    expect(focused).to_have_text("Shard 0")
    # Whoever looks for parts finds them, by what they are of as well.
    page.get_by_role("searchbox").fill("deep")
    expect(rows).to_have_count(1)
    expect(rows.first).to_contain_text("Part of shard-1")
    page.get_by_role("searchbox").fill("job")
    expect(rows).to_have_count(4)
    # And what fails below is seen on the job that is closed.
    page.get_by_role("searchbox").press("Escape")
    host("(await open_session('shard-0')).fail('no disk'); await end_session('shard-0')")
    expect(page.get_by_role("button", name="3 parts, 1 failed of The job")).to_be_visible()


@pytest.mark.exhaustive
def test_a_part_leads_to_its_job_and_back_to_the_list_as_it_was(
    host: HostProcess, new_page: Callable[..., Page]
) -> None:
    host(JOB)
    page = new_page()
    visit(page, host("return await start_server()"))
    page.get_by_role("button", name="3 parts of The job").click()
    page.get_by_role("link", name="Shard 1", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Shard 1")
    page.keyboard.press("Escape")
    expect(page.get_by_role("link", name="Shard 1", exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Part of job").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("The job")
    # Who comes from a part that is not shown is at its job.
    page.goto(page.url.partition("#")[0] + "#/deep")
    expect(page.get_by_role("heading", level=1)).to_have_text("A part of a part")
    page.keyboard.press("Escape")
    expect(page.get_by_role("link", name="Shard 1", exact=True)).to_be_focused()


@pytest.mark.exhaustive
def test_a_phase_that_follows_a_session_leads_to_it_and_it_leads_back(
    host: HostProcess, new_page: Callable[..., Page]
) -> None:
    host(
        """
        for n in range(2):
            await tracker.declare(f"shard-{n}", title=f"Shard {n}", parent="job")
        kept["job"] = await open_session("job", {"parts": 1}, title="The job")
        async def work():
            with kept["job"].phase("parts", total=2) as parts:
                async with trio.open_nursery() as inner:
                    for n in range(2):
                        inner.start_soon(parts.follow, f"shard-{n}")
        nursery.start_soon(work)
        await open_session("shard-1", {"a": 1})
        """
    )
    page = new_page()
    visit(page, host("return await start_server()") + "#/job")
    leads = page.get_by_role("link", name="Session of Shard 1")
    expect(leads).to_be_visible()
    expect(page.get_by_role("link", name="Session of")).to_have_count(2)
    assert axe_findings(page) == []
    leads.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Shard 1")
    page.get_by_role("link", name="Part of job").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("The job")
    host("await end_session('shard-1')")
    expect(page.get_by_role("progressbar", name="Progress")).to_have_attribute("aria-valuenow", "50")


def test_parts_that_no_phase_follows_are_listed_on_the_page_of_their_job(
    host: HostProcess, new_page: Callable[..., Page]
) -> None:
    host(JOB)
    page = new_page()
    visit(page, host("return await start_server()") + "#/job")
    parts = page.get_by_role("region", name="Parts")
    expect(parts.get_by_role("listitem")).to_have_count(3)
    expect(parts).to_contain_text("0 of 3")
    assert axe_findings(page) == []
    host("await open_session('shard-0', {'a': 1}); await end_session('shard-0')")
    expect(parts).to_contain_text("1 of 3")
    parts.get_by_role("link", name="Session of Shard 1").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Shard 1")
    page.goto(page.url.partition("#")[0] + "#/other")
    expect(page.get_by_role("heading", level=1)).to_have_text("other")
    expect(parts).to_be_hidden()
