"""The settings of trackers and servers as keywords: which there are, and what a wrong one is told."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, get_type_hints

import pytest
import trio

from trio_progress import Settings, TrackerOptions, open_progress, open_server, open_tracker
from trio_progress.server import ServerSettings, serve
from trio_progress.server.settings import ServerOptions


@pytest.mark.parametrize(("options", "settings"), [(TrackerOptions, Settings), (ServerOptions, ServerSettings)])
def test_the_typed_keywords_are_the_fields(options: Any, settings: Any) -> None:
    assert get_type_hints(options) == {
        one.name: hint
        for one in dataclasses.fields(settings)
        for name, hint in get_type_hints(settings).items()
        if name == one.name
    }
    assert options.__required_keys__ == frozenset()


misspelt: Any = open_tracker
misspelt_progress: Any = open_progress
misspelt_server: Any = open_server


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (
            lambda: misspelt(lost_aftr=60),
            r"^open_tracker\(\) has no setting 'lost_aftr': did you mean 'lost_after'",
        ),
        (lambda: misspelt(require_stor=False), "did you mean 'require_store'"),
        (lambda: misspelt(colour=3), r"there are .*persist_interval, .*limits"),
        (
            lambda: misspelt_progress("a", strickt=False),
            r"^open_progress\(\) .*'strickt': did you mean 'strict'",
        ),
        (lambda: misspelt_progress("a", sesion_id="a"), "did you mean 'session_id'"),
        (lambda: misspelt_server(None, orgins=()), r"^open_server\(\) has no .* 'orgins': did you mean 'origins'"),
    ],
)
def test_an_unknown_keyword_is_refused_at_the_call_and_names_the_near_miss(
    call: Callable[[], object], says: str
) -> None:
    with pytest.raises(TypeError, match=says):
        call()


async def test_so_is_one_of_serve() -> None:
    with pytest.raises(TypeError, match=r"^serve\(\) has no setting 'orgins': did you mean 'origins'"):
        await serve(None, orgins=())  # type: ignore[arg-type,call-arg]


def test_a_value_out_of_range_is_refused_at_the_call() -> None:
    with pytest.raises(ValueError, match="lost_after"):
        open_tracker(lost_after=1)
    with pytest.raises(ValueError, match="event_limit"):
        open_progress("a", event_limit=0)


async def test_open_progress_hands_the_settings_on(autojump_clock: trio.testing.MockClock) -> None:
    async with open_progress("import", display=False, strict=False) as session:
        with session.phase("x") as phase:
            phase.advance(-1)
        assert phase.done == 0
