"""Sessions as HTML, and the output of a notebook that is replaced as the work goes on."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from trio_progress import ProgressTracker, Snapshot, open_display, open_tracker
from trio_progress.terminal.html import MOST_PHASES, MOST_SESSIONS, session_html, sessions_html

HOSTILE = "<img src=x onerror=alert(1)>\" style='x' \u202eevil\x1b[31m&amp;"
ALLOWED = {"div", "span", "strong", "small", "em", "table", "tr", "td", "th"}


METHOD = "_repr_html_"
"""By which IPython asks a value for its HTML."""


def in_a_notebook(value: object) -> str:
    drawn: str = getattr(value, METHOD)()
    return drawn


class Elements(HTMLParser):
    """All elements, with their attributes; what is opened is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.said: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.said.append(data)

    @property
    def bars(self) -> list[dict[str, str | None]]:
        return [attributes for _, attributes in self.found if attributes.get("role") == "progressbar"]


def snapshot_of(work: Any, **given: Any) -> Snapshot:
    found: list[Snapshot] = []

    async def run() -> None:
        async with open_tracker() as tracker, tracker.session("r-1", **given) as session:
            work(session)
            found.append(session.snapshot())

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))
    return found[0]


def test_text_of_others_is_text_and_nothing_else() -> None:
    def work(session: Any) -> None:
        session.update(message=HOSTILE)
        session.increment(HOSTILE[:30])
        with session.phase(HOSTILE.replace("\x1b", ""), unit=HOSTILE[:20]) as phase:
            phase.update(message=HOSTILE, done=1)
            session.fail(HOSTILE)

    drawn = snapshot_of(work, title=HOSTILE)
    for html in (session_html(drawn, 0.0), sessions_html([drawn], 0.0), in_a_notebook(drawn)):
        elements = Elements(html)
        assert {tag for tag, _ in elements.found} <= ALLOWED
        for _, attributes in elements.found:
            assert set(attributes) <= {"style", "role", "aria-label", "aria-hidden", "aria-valuemin", "aria-valuemax",
                                       "aria-valuenow", "scope"}  # fmt: skip
            assert "url(" not in (attributes.get("style") or "")
        assert "<img src=x onerror=alert(1)>" in "".join(elements.said)
        assert not re.search("[\u202e\x1b]", html)


def test_bars_have_names_and_values_and_an_unknown_one_has_none() -> None:
    def open_one(session: Any) -> None:
        session.phase("known", total=4).__enter__().advance(3)
        session.phase("unknown").__enter__()

    elements = Elements(session_html(snapshot_of(open_one), 0.0))
    values = {bar["aria-label"]: bar.get("aria-valuenow") for bar in elements.bars}
    assert (values["known"], values["unknown"]) == ("75", None)
    text = "".join(elements.said)
    assert "running" in text
    assert "3/4" in text


def test_its_size_is_bounded_and_what_runs_is_shown() -> None:
    def work(session: Any) -> None:
        for number in range(3 * MOST_PHASES):
            session.phase(f"p-{number}").__enter__()
            if number != 170:
                session.phases[f"p-{number}"].update(message="x" * 4000)

    drawn = snapshot_of(work)
    html = session_html(drawn, 0.0)
    assert html.count("<tr ") == MOST_PHASES
    assert f"+ {2 * MOST_PHASES} more phases" in html
    assert len(html) < 2000 * MOST_PHASES
    many = sessions_html([drawn] * (MOST_SESSIONS + 7), 0.0)
    assert many.count("<tr ") == MOST_SESSIONS + 1
    assert "+ 7 more sessions" in many
    assert "No sessions" in sessions_html([], 0.0)
    assert "There are more sessions" in sessions_html([drawn], 0.0, more=True)


class Kernel:
    """What IPython does with what is displayed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, kernel: object = "one") -> None:
        self.sent: list[tuple[str, str, dict[str, str]]] = []
        shell = SimpleNamespace(kernel=kernel)
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
        published = SimpleNamespace(display=self.take("display"), update_display=self.take("update"))
        monkeypatch.setitem(sys.modules, "IPython.display", published)

    def take(self, how: str) -> Any:
        def sent(content: dict[str, str], *, raw: bool, display_id: str) -> None:
            assert raw
            self.sent.append((how, display_id, content))

        return sent


async def shown_by(tracker: ProgressTracker, advances: int) -> None:
    async with open_display(tracker), tracker.session("r-1", title="a <b>") as session:
        with session.phase("count", total=advances) as phase:
            for _ in phase.track(range(advances)):
                await trio.sleep(0.01)


async def test_in_a_kernel_the_display_is_one_output_that_is_replaced_at_a_pace(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kernel = Kernel(monkeypatch)
    async with open_tracker() as tracker:
        await shown_by(tracker, 300)
    assert [how for how, _, _ in kernel.sent] == ["display"] + ["update"] * (len(kernel.sent) - 1)
    assert len({name for _, name, _ in kernel.sent}) == 1
    assert 5 <= len(kernel.sent) <= 3.0 / 0.25 + 3
    last = kernel.sent[-1][2]
    assert "a &lt;b&gt;" in last["text/html"]
    assert "completed" in last["text/html"]
    assert "a <b> | 100 % | completed" in last["text/plain"]
    assert capsys.readouterr() == ("", "")


async def test_in_ipythons_own_terminal_it_is_the_terminals(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kernel = Kernel(monkeypatch, kernel=None)
    async with open_tracker() as tracker:
        await shown_by(tracker, 3)
    assert kernel.sent == []
    assert "100 %" in capsys.readouterr().err


async def test_a_kernel_that_takes_nothing_more_ends_the_display_and_not_the_work(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kernel = Kernel(monkeypatch)
    monkeypatch.setattr(sys.modules["IPython.display"], "update_display", None)
    async with open_tracker() as tracker:
        await shown_by(tracker, 300)
        assert (await tracker.snapshot("r-1")).status == "completed"
    assert len(kernel.sent) == 1
    assert "the display failed" in caplog.text


def test_an_empty_page_and_a_session_are_drawn_too() -> None:
    async def run() -> None:
        async with open_tracker() as tracker:
            assert "No sessions" in in_a_notebook(await tracker.sessions())
            async with tracker.session("r-1", title="one") as session:
                assert "one" in in_a_notebook(session)
            assert "completed" in in_a_notebook(await tracker.sessions())

    trio.run(run)
