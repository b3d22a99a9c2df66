"""README and the pages of docs/, as tests read them: their blocks of code, headings, links and words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
SITE = ROOT / ".mkdocs.yml"
PAGES = [README, *sorted(DOCS.rglob("*.md"))]

_BLOCK = re.compile(
    r"^(?:<!-- file: (?P<file>\S+) -->\n+)?(?P<fence>```+)(?P<language>\w*)\n(?P<text>.*?)^(?P=fence)$", re.M | re.S
)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_PICTURE = re.compile(r"!\[[^\]]*\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"")


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    text: str
    line: int
    file: str | None
    """The name of the file that it is, by the comment before it; None: it is none."""


def named(page: Path) -> str:
    """How tests call a page: `docs/tutorial.md`."""
    return page.relative_to(ROOT).as_posix()


def text_of(page: Path | str) -> str:
    """The text of a page, which may be given by its path below docs/."""
    return (DOCS / page if isinstance(page, str) else page).read_text(encoding="utf-8")


def blocks(page: Path | str) -> Iterator[Block]:
    """The fenced blocks of a page in their order."""
    text = text_of(page)
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("fence")) + 1
        yield Block(match["language"], match["text"], line, match["file"])


def files(page: str) -> dict[str, str]:
    """The files that a page of docs/ spells out, by their names: those behind a comment `<!-- file: NAME -->`."""
    return {block.file: block.text for block in blocks(page) if block.file is not None}


def prose(text: str) -> str:
    """A text without its fenced blocks, its comments, and what `python -m benchmarks page` has made."""
    for left_out in (r"^<!-- results: .*?<!-- end of results -->$", r"<!--.*?-->", r"^(```+)\w*\n.*?^\1$"):
        text = re.sub(left_out, "", text, flags=re.M | re.S)
    return text


def links(page: Path) -> list[str]:
    """What a page links to, on this side of the network."""
    found = _LINK.findall(re.sub(r"`[^`\n]*`", "", prose(text_of(page))))
    return [target for target in found if not target.startswith(("http:", "https:", "mailto:"))]


def pictures(page: Path) -> list[str]:
    """The pictures that a page shows."""
    return [given or attribute for given, attribute in _PICTURE.findall(prose(text_of(page)))]


def anchors(page: Path) -> set[str]:
    """The anchors of the headings of a page, as far as readers of Markdown agree on them."""
    found = set()
    for heading in re.findall(r"^#{1,6} (.+)$", prose(text_of(page)), re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        kept = re.sub(r"[^\w\s-]", "", plain).strip().lower()
        repository, site = re.sub(r"\s", "-", kept), re.sub(r"[-\s]+", "-", kept)
        if repository == site:
            found.add(site)
    return found


def navigation() -> list[str]:
    """The pages in the navigation of the built documentation, by their paths below docs/."""
    _, _, nav = SITE.read_text(encoding="utf-8").partition("\nnav:\n")
    return re.findall(r"^\s*- (?:[^#\n]*: )?(\S+\.md)$", nav, re.M)
