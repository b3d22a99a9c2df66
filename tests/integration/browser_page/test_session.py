"""The page in a real Chromium, against a real server: what it shows of a session, live."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is missing: install the extra `test`")

from playwright.sync_api import Page, expect

from tests.browser.page import CHROMIUM, HostProcess, serving_to, visit

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is missing: install the package chromium"),
]


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


@pytest.mark.exhaustive
def test_a_demo_that_serves_is_watched_to_its_end(new_page: Callable[..., Page]) -> None:
    command = [sys.executable, "-m", "trio_progress", "demo", "--serve", "0", "--store", "memory:"]
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


@pytest.mark.exhaustive
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


@pytest.mark.exhaustive
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


@pytest.mark.exhaustive
def test_what_stalls_has_no_speed_and_nothing_left(host: HostProcess, new_page: Callable[..., Page]) -> None:
    host(
        """
        from trio_progress import PhaseSpec
        session = await open_session("r-1", [PhaseSpec("a", total=1000, stall_after=2)])
        phase = session.advance_to("a", total=1000)
        async def work():
            await kept.setdefault("begin", trio.Event()).wait()
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
    host("kept['begin'].set()")  # Only now, or a busy machine shows the page when it has stalled already.
    counted = page.locator(".phase-count")
    expect(counted).to_contain_text("/s")
    expect(page.locator(".hero-standing")).to_contain_text("Stalled for")
    expect(counted).to_have_text("100 / 1,000")
    host("kept['go on'].set()")
    expect(counted).to_contain_text("/s")


@pytest.mark.exhaustive
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


@pytest.mark.exhaustive
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


def test_what_stalls_does_not_move_and_text_from_right_to_left_keeps_its_order(
    host: HostProcess, new_page: Callable[..., Page]
) -> None:
    url = host(
        """
        from trio_progress import open_server, open_tracker

        async def stall(task_status):
            async with open_tracker(stall_after=0.05) as tracker, open_server(tracker, port=0) as server:
                async with tracker.session("r-1", title="(\u05d0) \u05d9\u05d9\u05d1\u05d5\u05d0!") as session:
                    with session.phase("a", total=3, unit="\u05d3\u05e4\u05d9\u05dd") as phase:
                        phase.advance()
                        task_status.started(server.url)
                        await trio.sleep_forever()

        return await nursery.start(stall)
        """
    )
    page = new_page()
    visit(page, f"{url}#/r-1")
    expect(page.locator(".hero-standing")).to_contain_text("Stalled for")
    still = "(glyph) => getComputedStyle(glyph).animationPlayState"
    assert page.locator(".phase .glyph").evaluate(still) == "paused"

    left_of = """(element, index) => {
        const [text, range] = [element.firstChild, document.createRange()];
        range.setStart(text, index < 0 ? text.length + index : index);
        range.setEnd(text, range.startOffset + 1);
        return range.getBoundingClientRect().left;
    }"""
    title = page.get_by_role("heading", level=1)
    assert title.evaluate(left_of, -1) < title.evaluate(left_of, 1), "what ends it stands at its left"
    counted = page.locator(".phase-count > span")
    expect(counted).to_have_text("1 / 3 \u05d3\u05e4\u05d9\u05dd")
    assert counted.evaluate(left_of, 0) > counted.evaluate(left_of, 4), "1 of 3 is not 3 of 1"
    sides = "(element) => element.getBoundingClientRect().left"
    assert title.evaluate(left_of, -1) == pytest.approx(page.locator(".under").evaluate(sides), abs=3)


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


@pytest.mark.exhaustive
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


@pytest.mark.exhaustive
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


@pytest.mark.exhaustive
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
