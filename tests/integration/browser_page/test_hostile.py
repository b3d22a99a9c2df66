"""What people may try with the page, and who may see what."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is missing: install the extra `test`")

from playwright.sync_api import Page, expect

from tests.browser.page import CHROMIUM, HostProcess, loaded, visit

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is missing: install the package chromium"),
]


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


@pytest.mark.exhaustive
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
