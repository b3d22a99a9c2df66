"""README and docs/: examples run, links lead somewhere, every page has its place, and no name is missing."""

from __future__ import annotations

import argparse
import re
import shlex
import tomllib
from dataclasses import MISSING, fields
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tests.documents import (
    DOCS,
    PAGES,
    README,
    ROOT,
    Block,
    anchors,
    blocks,
    links,
    named,
    navigation,
    pictures,
    prose,
    text_of,
)
from trio_progress.cli import exit_codes
from trio_progress.cli.parser import parser
from trio_progress.metrics import families
from trio_progress.server.settings import ServerSettings
from trio_progress.settings import Settings
from trio_progress.state.limits import Limits

EXAMPLES = [
    pytest.param(page, block, id=f"{named(page)}:{number}")
    for page in PAGES
    for number, block in enumerate((block for block in blocks(page) if block.language == "python"), 1)
]
REAL = ("from_thread", "to_thread", "open_server", "sqlite:", "subprocess", "multiprocessing")
"""What keeps the real clock: threads, sockets and processes. A virtual one would race ahead of them. A page at which
nobody looks (`serve=`) is none of them."""

LANGUAGES = {"python", "py", "sh", "text", "html", "jsx", "json", "nginx", "yaml", "toml", "console"}
WORDS = 1500
LINES_OF_README = 200
LONG = {DOCS / "reference", DOCS / "results.md"}


@pytest.mark.parametrize(("page", "example"), EXAMPLES)
def test_an_example_runs_and_prints_what_its_comments_say(
    page: Path,
    example: Block,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    if not any(word in example.text for word in REAL):
        clock = trio.testing.MockClock(autojump_threshold=0)
        monkeypatch.setattr(trio, "run", partial(trio.run, clock=clock))
    # As many lines down as in the page, so that a traceback names its line.
    text = example.text.replace("serve=8765", "serve=0")  # That port may be taken where the tests run.
    code = compile("\n" * example.line + text, str(page), "exec")
    exec(code, {"__name__": "__main__"})
    said = capsys.readouterr().out
    for expected in re.findall(r"print\(.*\)  # (.+)$", example.text, re.MULTILINE):
        assert expected in said


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 6


@cache
def _all_tests() -> str:
    return "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_a_block_says_what_it_is_and_a_part_of_python_is_a_file_that_a_test_runs(page: Path) -> None:
    for block in blocks(page):
        where = f"{named(page)}:{block.line}"
        assert block.language in LANGUAGES, f"{where}: say which language it is, one of {sorted(LANGUAGES)}"
        if block.language == "py":
            assert block.file is not None, f"{where}: make it whole and `python`, or name it by <!-- file: NAME -->"
            assert f'"{block.file}"' in _all_tests(), f"{where}: no test runs {block.file}"


def _parses(command: str) -> bool:
    typed = shlex.split(command.replace('"', "")) if command.count('"') % 2 else shlex.split(command)
    try:
        parser().parse_args(typed)
    except SystemExit as error:
        return error.code in (0, None)
    return True


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_a_command_of_ours_that_a_page_shows_is_one(page: Path) -> None:
    for block in blocks(page):
        if block.language not in ("sh", "console", "yaml"):
            continue
        for typed in re.findall(r"\btrio-progress ([a-z][^|&)>#\n;]*)", block.text.replace("\\\n", " ")):
            assert _parses(typed.strip()), f"{named(page)}:{block.line}: trio-progress {typed}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_a_link_leads_to_a_page_and_to_a_heading_of_it(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), f"{named(page)} links to {path}, which is not there"
        assert page == README or target.is_relative_to(DOCS), (
            f"{named(page)}: {link} is not in docs/, where a site ends"
        )
        if anchor:
            assert anchor in anchors(target), (
                f"{named(page)} links to {link}; the headings are {sorted(anchors(target))}"
            )


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_a_file_of_the_repository_that_a_page_names_is_there(page: Path) -> None:
    for path in re.findall(r"`((?:tests|benchmarks|trio_progress|docs|\.ci)/[\w./-]+)`", prose(text_of(page))):
        assert (ROOT / path).exists(), f"{named(page)} names {path}"


def test_a_picture_that_is_shown_is_there_and_none_is_there_that_is_not_shown() -> None:
    shown = {(page.parent / picture).resolve() for page in PAGES for picture in pictures(page)}
    assert len(shown) >= 7
    assert [path for path in shown if not path.is_file()] == []
    assert {path for folder in (DOCS / "pictures", ROOT / ".readme") for path in folder.iterdir()} == shown


def test_every_page_is_in_the_navigation_once() -> None:
    placed = navigation()
    there = [page.relative_to(DOCS).as_posix() for page in PAGES if page != README]
    assert sorted(set(there) - set(placed)) == [], "put these pages into `nav` of .mkdocs.yml"
    assert sorted(set(placed) - set(there)) == [], "`nav` of .mkdocs.yml names pages that are not there"
    assert len(placed) == len(set(placed))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_a_page_is_no_longer_than_one_reads_at_a_time(page: Path) -> None:
    if not LONG & {page, *page.parents}:
        words = len(prose(text_of(page)).split())
        assert words <= WORDS, f"{named(page)} has {words} words: make two pages of it"


def test_readme_is_short() -> None:
    assert len(text_of(README).splitlines()) <= LINES_OF_README


def test_the_figures_in_readme_are_those_of_the_page_of_results() -> None:
    _, _, shown = text_of(README).partition("\n## Results\n")
    results = text_of("results.md")
    for figure in re.findall(r"\d+(?:[.,]\d+)+", shown):
        assert figure in results, f"{figure} is not in docs/results.md"


def test_the_extras_in_readme_are_those_that_users_have() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for extra in set(extras) - {"bench", "test", "docs", "dev"}:
        assert f"| `{extra}` |" in text_of(README)


# The reference


def _referred() -> list[str]:
    return [
        name
        for page in sorted((DOCS / "reference").glob("*.md"))
        for name in re.findall(r"^::: (\S+)$", text_of(page), re.MULTILINE)
    ]


def _exported(module: str) -> set[str]:
    """The names that a module re-exports, as `X as X`."""
    source = (ROOT / "trio_progress" / module).read_text(encoding="utf-8")
    names = re.findall(r"import (\w+) as (\w+)$", source, re.MULTILINE)
    return {name for name, public in names if name == public and not name.startswith("_")}


def test_every_public_name_is_in_the_reference_once() -> None:
    public = {f"trio_progress.{name}" for name in _exported("__init__.pyi")}
    public |= {f"trio_progress.testing.{name}" for name in _exported("testing/__init__.py")}
    public |= {f"trio_progress.server.{name}" for name in _exported("server/__init__.py") - _exported("__init__.pyi")}
    of_metrics = ("register", "unregister", "exposition", "rules", "dashboard")
    public |= {f"trio_progress.metrics.{name}" for name in of_metrics}
    public |= {"trio_progress.blocking.Client", "trio_progress.asgi.app", "trio_progress.tracing.instrument"}
    found = _referred()
    assert sorted(public - set(found)) == []
    assert sorted(name for name in set(found) if found.count(name) > 1) == []


def test_every_setting_is_in_the_table_of_settings() -> None:
    text = text_of("reference/settings.md")
    for kind in (Settings, ServerSettings, Limits):
        for setting in fields(kind):
            assert f"| `{setting.name}` |" in text, f"{kind.__name__}: {setting.name}"


@pytest.mark.parametrize("kind", [Settings, Limits, ServerSettings])
def test_the_table_of_settings_tells_their_defaults(kind: Any) -> None:
    said = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", text_of("reference/settings.md"), re.MULTILINE))
    computed = {"limits", "hosts", "drain_timeout", "max_connections_per_address"}
    for setting in fields(kind):
        if setting.name in computed or setting.default is MISSING:
            continue
        default = setting.default
        shown = "none" if default is None or default == () else str(default).removesuffix(".0")
        assert said[setting.name].strip("`") == shown, setting.name


RELATIONS: list[tuple[Any, dict[str, Any], str]] = [
    (Settings, {"heartbeat_interval": 30.0}, "lost_after"),
    (Settings, {"broadcast_interval": 0}, "broadcast_interval"),
    (Settings, {"persist_interval": 0}, "persist_interval"),
    (Settings, {"retention": 0}, "retention"),
    (Settings, {"event_limit": 0}, "event_limit"),
]


@pytest.mark.parametrize(("kind", "given", "named"), RELATIONS, ids=[named for *_, named in RELATIONS])
def test_a_relation_that_the_table_of_settings_tells_is_held(kind: Any, given: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        kind(**given)
    longer = Settings(retention=9, unfinished_retention=3)
    assert longer.keep("lost") == longer.unfinished_retention == 9


def test_every_command_has_a_section_with_all_of_its_options() -> None:
    text = text_of("reference/commands.md")
    (commands,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    for name, command in commands.choices.items():
        _, heading, after = text.partition(f"\n## `{name}`\n")
        assert heading, name
        section = after.partition("\n## ")[0]
        for action in command._actions:
            for option in action.option_strings:
                assert option in ("-h", "--help", "--store") or f"`{option}" in section, f"{name} {option}"


def test_every_exit_code_is_in_the_table_of_exit_codes() -> None:
    text = text_of("reference/commands.md")
    for code in {exit_codes.NOTHING, exit_codes.USAGE, exit_codes.NOT_FOUND, exit_codes.STORE, exit_codes.ACTIVE} | set(
        exit_codes.ENDED.values()
    ):
        assert f"| {code} |" in text


def test_every_metric_is_in_the_table_of_metrics() -> None:
    text = text_of("reference/metrics.md")
    for family in families.FAMILIES:
        assert re.search(rf"^\| `{family.name}[`{{]", text, re.MULTILINE), family.name
