"""Pages in a real Chromium, and the tracker that they show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, WebError

    from tests.browser.page import HostProcess


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
    from tests.browser.page import PATIENCE, VIEWPORT

    contexts: list[BrowserContext] = []
    kept = [*browser_context.pages]

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
            if page not in kept:
                page.close()
        context.remove_listener("console", heard)
        context.remove_listener("weberror", raised)
        if context is not browser_context:
            context.close()
    assert complaints == []
