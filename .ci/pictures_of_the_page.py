"""Takes the pictures of the page in docs/: real runs, in a real browser.

Run it as `python .ci/pictures_of_the_page.py docs/pictures`. It needs Chromium and Playwright (the extra `test`); the
letters are those of the font Inter where that is installed.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from playwright.sync_api import Browser, expect

from tests.browser.page import HostProcess, chromium, serving_to

QUESTION: Final = "How does asyncio cancel a task?"
CORPUS: Final = "/usr/lib/python3.11"
DESK: Final = {"width": 1280, "height": 778}
PHONE: Final = {"width": 390, "height": 780}

OTHERS: Final = """
import random
from trio_progress import Pipeline
rng = random.Random(7)
runs = [
    ("embed-2031", "Embed the support tickets", {"team": "search", "user": "ada"}, 0.62, "shard 14 of 32"),
    ("import-0611", "Nightly import of the warehouse", {"team": "data"}, 0.18, "orders, page 212"),
    ("train-18", "Evaluate checkpoint 18,000", {"team": "ml", "user": "grace"}, 0.84, "held-out set"),
    ("crawl-77", "Crawl the product catalogue", {"team": "search"}, 0.41, "catalogue/shoes"),
]
async def run(name, title, labels, upto, message, ending):
    pipeline = Pipeline(name.split("-")[0], {"discover": 1, "fetch": 6, "index": 2, "publish": 1})
    try:
        async with tracker.session(name, pipeline, title=title, labels=labels) as session:
            with session.phase("discover", total=10) as phase:
                phase.advance(10)
            with session.phase("fetch", total=2400, unit="pages") as phase:
                session.update(message=message)
                for _ in range(int(upto * 40) if ending != "completed" else 40):
                    phase.advance(60)
                    await trio.sleep(0.05)
                if ending == "failed":
                    session.fail("the catalogue answers 503")
                    raise ConnectionError
                elif ending == "cancelled":
                    session.cancel("superseded by a newer run")
                while not ending:
                    phase.advance(rng.randint(0, 2))
                    await trio.sleep(0.25)
                await trio.sleep(0.1)
            session.skip_phase("index")
    except ConnectionError:
        pass
for one in runs:
    nursery.start_soon(run, *one, "")
for one in [("crawl-76", "Crawl the product catalogue", {"team": "search"}, 0.3, "boots", "failed"),
            ("embed-2030", "Embed the support tickets", {"team": "search", "user": "ada"}, 0.5, "", "cancelled"),
            ("import-0610", "Nightly import of the warehouse", {"team": "data"}, 1, "", "completed"),
            ("train-17", "Evaluate checkpoint 17,000", {"team": "ml", "user": "grace"}, 1, "", "completed")]:
    nursery.start_soon(run, *one)
for n, upto in (1, 0.9), (2, 0.35), (3, None):
    await tracker.declare(f"crawl-77-{n}", title=f"Shelf {n}", labels={"team": "search"}, parent="crawl-77")
    if upto is not None:
        nursery.start_soon(run, f"crawl-77-{n}", f"Shelf {n}", {"team": "search"}, upto, "", "")
waiting = Pipeline("crawl", ["discover", "fetch"])
await tracker.declare("crawl-78", waiting, title="Crawl the archive", labels={"team": "search"})
"""

DEMO: Final = f"""
from trio_progress.demo.corpus import checked_folder
from trio_progress.demo.engine import PIPELINE, research
async def demo():
    async with tracker.session("demo", PIPELINE, title={QUESTION!r}, labels={{"user": "ada"}}) as session:
        await research(session, {QUESTION!r}, checked_folder({CORPUS!r}), workers=1)
nursery.start_soon(demo)
"""


def take(browser: Browser, host: HostProcess, url: str, folder: Path) -> None:
    """All pictures, into the folder."""
    host(OTHERS)
    pages = {}
    for name, size, scheme, scale, address in (
        ("page-light", DESK, "light", 1, "#/demo"),
        ("page-dark", DESK, "dark", 1, "#/demo"),
        ("page-phone", PHONE, "dark", 2, "#/demo"),
        ("list-light", {**DESK, "height": 1220}, "light", 1, ""),
        ("list-dark", {**DESK, "height": 1220}, "dark", 1, ""),
    ):
        context = browser.new_context(
            viewport=size,  # type: ignore[arg-type]
            color_scheme=scheme,  # type: ignore[arg-type]
            device_scale_factor=scale,
        )
        pages[name] = context.new_page()
        pages[name].goto(url + address)
    for name in ("list-light", "list-dark"):
        pages[name].get_by_role("button", name="3 parts of").click()
        pages[name].mouse.move(0, 0)
        pages[name].evaluate("document.activeElement.blur()")
    time.sleep(2)
    host(DEMO)
    whole = pages["page-light"].get_by_role("progressbar", name="Progress")
    expect(whole).to_have_attribute("aria-valuenow", re.compile("^4[3-9]$"), timeout=60_000)
    pid = host("import os; return os.getpid()")
    # All show the same moment, however long each takes.
    os.kill(pid, signal.SIGSTOP)
    try:
        for name, page in pages.items():
            page.screenshot(path=folder / f"{name}.png", animations="disabled")
    finally:
        os.kill(pid, signal.SIGCONT)
    expect(whole).to_have_attribute("aria-valuenow", "100", timeout=60_000)


def main() -> None:
    """Takes them into the folder that is named."""
    with serving_to() as host, chromium() as browser:
        take(browser, host, host("return await start_server()"), Path(sys.argv[1]))
        host("nursery.cancel_scope.cancel()")


if __name__ == "__main__":
    main()
