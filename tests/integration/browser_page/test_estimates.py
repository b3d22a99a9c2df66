"""What the page says of the time that is left, why, and when each phase ran, in a real Chromium."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is missing: install the extra `test`")

from playwright.sync_api import Page, expect

from tests.browser.page import CHROMIUM, HostProcess, visit

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is missing: install the package chromium"),
]

RUN = """
from trio_progress import Pipeline
phases = {"search": 2, "check": 1, "review": 1, "rank": 1, "report": 1}
usual = {"search": 1.0, "check": 60.0, "rank": 0.5, "report": 400.0}
session = kept["s"] = await nursery.start(
    host._hold, "r-1", Pipeline("research", phases, usual=usual), "A run", None, "never"
)
with session.phase("search", total=4, unit="pages") as search:
    search.advance(4)
    with search.phase("site", title="site.example.org"):
        pass
try:
    with session.phase("check"):
        raise RuntimeError
except RuntimeError:
    pass
session.skip_phase("review", "nothing to review")
kept["rank"] = session.phase("rank").__enter__()
"""


def shown(host: HostProcess, new_page: Callable[..., Page], **options: Any) -> Page:
    host(RUN)
    # In a context of its own: what the page keeps would go on to the next test.
    page = new_page(**{"locale": "en", **options})
    visit(page, host("return await start_server()") + "#/r-1")
    page.get_by_role("button", name="Timeline").click()
    return page


# The timeline


def test_the_timeline_shows_when_each_phase_ran_and_what_is_usual(
    host: HostProcess, new_page: Callable[..., Page]
) -> None:
    page = shown(host, new_page)
    rows = page.get_by_role("region", name="Timeline").get_by_role("listitem")
    expect(rows).to_have_count(6)
    said = [r"search, Completed, from 0s, took 0\.\ds, expected: 1s", r"site\.example\.org, Completed",
            r"check, Failed, .*expected: 1m 00s", "review, Skipped", "rank, Running, .*longer than usual",
            "report, Pending, expected: 6m 40s, as the pipeline says"]  # fmt: skip
    for row, words in zip(rows.all(), said, strict=True):
        expect(row).to_contain_text(re.compile(words))
    ran = "(row) => !row.querySelector('.tl-bar').hasAttribute('visibility')"
    usual = "(row) => !row.querySelector('.tl-usual').hasAttribute('visibility')"
    assert [row.evaluate(ran) for row in rows.all()] == [True, True, True, False, True, False]
    assert [row.evaluate(usual) for row in rows.all()] == [True, False, True, False, True, True]
    host("kept['rank'].__exit__(None, None, None); kept['s'].advance_to('report'); await end_session('r-1')")
    expect(rows.nth(5)).to_contain_text("report, Completed")


@pytest.mark.exhaustive
def test_the_timeline_is_gone_through_by_keys_and_folded_by_them(
    host: HostProcess, new_page: Callable[..., Page]
) -> None:
    page = shown(host, new_page)
    region = page.get_by_role("region", name="Timeline")
    rows = region.get_by_role("listitem")
    fold = region.get_by_role("button", name="Timeline")
    fold.focus()
    page.keyboard.press("Tab")
    expect(rows.nth(0)).to_be_focused()
    for key, number in (("ArrowDown", 1), ("End", 5), ("ArrowDown", 5), ("ArrowUp", 4), ("Home", 0)):
        page.keyboard.press(key)
        expect(rows.nth(number)).to_be_focused()
    page.keyboard.press("End")
    fold.focus()
    page.keyboard.press("Tab")
    expect(rows.nth(5)).to_be_focused()
    fold.focus()
    page.keyboard.press("Enter")
    expect(rows.first).to_be_hidden()
    expect(fold).to_have_attribute("aria-expanded", "false")


@pytest.mark.exhaustive
def test_the_timeline_stays_shown_until_it_is_hidden(host: HostProcess, new_page: Callable[..., Page]) -> None:
    page = shown(host, new_page, viewport={"width": 1280, "height": 860})
    region = page.get_by_role("region", name="Timeline")
    page.reload()
    expect(region.get_by_role("listitem")).to_have_count(6)
    region.get_by_role("button").click()
    page.reload()
    expect(region.get_by_role("button")).to_be_visible()
    expect(region.get_by_role("listitem")).to_have_count(0)


@pytest.mark.parametrize(
    "options",
    [
        {"viewport": {"width": 360, "height": 740}},
        pytest.param({"viewport": {"width": 1280, "height": 860}, "color_scheme": "dark"}, marks=pytest.mark.release),
        pytest.param({"forced_colors": "active"}, marks=pytest.mark.exhaustive),
    ],
    ids=["phone", "dark", "forced colours"],
)
def test_the_timeline_fits_and_is_seen(
    options: dict[str, Any], host: HostProcess, new_page: Callable[..., Page]
) -> None:
    page = shown(host, new_page, **options)
    row = page.get_by_role("region", name="Timeline").get_by_role("listitem").nth(2)
    expect(row).to_be_visible()
    page.get_by_role("button", name="How this is estimated").click()
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    painted = "getComputedStyle(row.querySelector('.tl-bar')).fill !== getComputedStyle(document.body).backgroundColor"
    assert row.evaluate(f"(row) => {painted}")
    assert row.evaluate("(row) => row.querySelector('.tl-bar').getBoundingClientRect().width >= 0.4")


# What is left


def test_the_estimate_explains_itself_behind_a_click(host: HostProcess, new_page: Callable[..., Page]) -> None:
    page = shown(host, new_page)
    table = page.get_by_role("table")
    expect(table).to_be_hidden()
    page.get_by_text("How this is estimated").focus()
    page.keyboard.press("Enter")
    expect(table.get_by_role("row", name=re.compile("report 6m 40s, as the pipeline says"))).to_be_visible()
    expect(table.get_by_role("row", name=re.compile("review"))).to_contain_text("skipped")
    expect(table.get_by_role("columnheader")).to_have_text(["Phase", "Expected", "So far"])


@pytest.mark.exhaustive
def test_a_session_of_which_nothing_is_expected_has_nothing_to_explain(
    host: HostProcess, new_page: Callable[..., Page]
) -> None:
    host("kept['s'] = await open_session('r-1'); kept['s'].phase('a').__enter__()")
    page = new_page(locale="en")
    visit(page, host("return await start_server()") + "#/r-1")
    page.get_by_role("button", name="Timeline").click()
    expect(page.get_by_role("region", name="Timeline").get_by_role("listitem")).to_have_count(1)
    expect(page.get_by_text("How this is estimated")).to_be_hidden()


def test_what_takes_longer_than_usual_is_said_to_and_has_no_figure(
    host: HostProcess, new_page: Callable[..., Page]
) -> None:
    host(
        """
        from trio_progress import Pipeline
        pipeline = Pipeline("research", {"rank": 1}, usual={"rank": 0.7})
        session = await nursery.start(host._hold, "r-1", pipeline, "A run", None, "never")
        session.phase("rank").__enter__()
        """
    )
    page = new_page()
    url = host("return await start_server()")
    visit(page, url + "#/r-1")
    longer = re.compile(r"^longer than usual \(\d+ s so far, usually 1\)$")
    expect(page.locator(".figures dd").first).to_have_text(longer)
    expect(page.locator(".phase-note")).to_have_text(longer)
    page.goto(url)
    row = page.get_by_role("listitem").filter(has_text="A run")
    expect(row).to_be_visible()
    expect(row).not_to_contain_text(re.compile(r"\d+s left"))
