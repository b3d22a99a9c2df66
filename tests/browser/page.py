"""What the tests in a real browser share: the other process, and Chromium."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

PATIENCE = 60_000
"""Milliseconds that anything on a page may take: it waits for no longer than it has to, and a machine may be busy."""

expect.set_options(timeout=PATIENCE)

VIEWPORT: ViewportSize = {"width": 1280, "height": 860}

LEAN = "--disable-features=WebUIOmniboxPopup,WebUIOmniboxAimPopup,HttpsUpgrades,OptimizationHints,PaintHolding"
"""Without two pages of Chromium's own for the address bar of each window, which cost more than ours; and, for it takes
the place of what Playwright turns off so, without what else would come between a test and its page."""

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ROOT = Path(__file__).resolve().parents[2]


class HostProcess:
    """`host.py` in a process of its own."""

    def __init__(self, store: str = "memory:", lost_after: float = 30.0) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("host.py"))],
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "PYTHONUTF8": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.begin(store, lost_after)

    def begin(self, store: str = "memory:", lost_after: float = 30.0) -> None:
        """Begins anew there: with another tracker, nothing kept and nothing served."""
        self._send([store, lost_after])

    @property
    def runs(self) -> bool:
        """Whether the process is still there."""
        return self._process.poll() is None

    def __call__(self, code: str) -> Any:
        """Runs code there, and returns what it returned."""
        return self._send(code)

    def _send(self, order: str | list[Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the process has died"
        answer = json.loads(line)
        assert "raised" not in answer, answer["raised"]
        return answer["returned"]

    def kill(self) -> None:
        """Ends it as a crash would."""
        self._process.kill()
        self.close()

    def close(self) -> None:
        """Lets it end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if self._process.poll() is None:
            self._process.stdin.close()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                raise
        self._process.wait()
        self._process.stdout.close()
        if not self._process.stdin.closed:
            self._process.stdin.close()


@contextmanager
def serving_to(store: str = "memory:", lost_after: float = 30.0) -> Iterator[HostProcess]:
    """A process with a tracker."""
    process = HostProcess(store, lost_after)
    try:
        yield process
    finally:
        process.close()


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window."""
    with sync_playwright() as playwright:
        # The sandbox needs a kernel that lets it be made, which containers do not.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", LEAN])
        try:
            yield browser
        finally:
            browser.close()


def visit(page: Page, address: str) -> None:
    """Opens an address and waits until the page is live."""
    page.goto(address)
    expect(page.locator("#link")).to_have_text("Live")


def loaded(page: Page) -> list[str]:
    """The addresses of all that the page has loaded."""
    addresses: list[str] = page.evaluate("performance.getEntriesByType('resource').map((entry) => entry.name)")
    return addresses


def axe_findings(page: Page) -> list[str]:
    """What axe-core finds on the page as it is, light and dark."""
    import axe_playwright_python

    if page.evaluate("typeof axe") == "undefined":
        page.evaluate(Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text(encoding="utf-8"))
    found: list[str] = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        violations = page.evaluate("axe.run().then(({ violations }) => violations)")
        found += [f"{scheme}: {one['id']}: {one['help']}: {one['nodes'][0]['html']}" for one in violations]
    return found
