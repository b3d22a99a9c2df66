"""Words and passages: how a file is taken apart to be searched.

1. A *word* is a run of up to 64 letters, digits and underscores. It stands for one or more *terms*: its stem, and,
   where it is a compound like `CancelledError` or `call_soon`, the stems of its parts as well.
2. A *stem* is the beginning of its word, lower-cased: only endings are cut off, nothing is rewritten. So a text
   that holds a term holds its letters, which lets a search pass over files quickly.
3. A *passage* is a few consecutive lines that belong together: a definition with its docstring, a paragraph.
   The passages of a file cover it without overlap. Lines are those that editors count: a form feed or a
   Unicode line separator ends none.
4. Each line is *head* (it defines or entitles something), *prose* (docstring, comment, running text) or *code*.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Literal, NamedTuple, TypeAlias

LineKind: TypeAlias = Literal["head", "prose", "code"]

_WORD = re.compile(r"\b\w{1,64}\b")  # A longer one is data.
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\dA-Z_]+|[^\W\d_]+|\d+")

# Longest first. Each is cut only where enough of the word is left to tell it from others.
_ENDINGS = (
    "ations", "ation", "ments", "ators", "ities",
    "ating", "ment", "ator", "ings", "ions", "ated", "ates", "ies", "ied", "ity",
    "ing", "ion", "ers", "ors", "ate", "ed", "es", "er", "or", "ly", "s", "e", "y",
)  # fmt: skip
_SHORTEST_STEM = 3

MIN_LINES = 24
"""Lines after which a passage ends at the next blank line."""
MAX_LINES = 48
"""Lines after which a passage ends anywhere."""

_PYTHON = frozenset({".py", ".pyi", ".pyw"})
_PROSE = frozenset({"", ".md", ".markdown", ".rst", ".txt", ".text", ".adoc", ".org", ".tex", ".html", ".htm", ".log"})
_MARKDOWN = frozenset({".md", ".markdown"})

_LONG_LINE = 500
"""Characters of a line that is searched for titles and quotes; a longer one is data, or made to keep a pattern busy."""

_PYTHON_HEAD = re.compile(r"\s*(?:async\s+def|def|class)\s+(\w+)")
_CODE_HEAD = re.compile(
    r"\s*(?:(?:export|default|public|private|protected|static|async|pub|abstract|final)\s+)*"
    r"(?:function|func|fn|class|struct|enum|interface|trait|impl|module|namespace|def|sub)\s+(\w+)"
)
_MARKDOWN_HEAD = re.compile(r" {0,3}#{1,6}\s+(?=\S)")
_UNDERLINE = re.compile(r"([=\-~^\"'*#+.])\1{2,}\s*$")
_COMMENT = re.compile(r"\s*(?:#|//|/\*|\*|--|;;|%)")
_PYTHON_TRIPLE = re.compile(r"""#.*|(\"\"\"|''')|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'""")


@lru_cache(maxsize=1 << 17)
def stem(word: str) -> str:
    """The stem of a single word: lower-cased, one common English ending cut off, a doubled last letter made single.

    "cancel", "cancels", "cancelled", "Cancelling" and "cancellation" all give "cancel".
    """
    low = word.lower()
    for ending in _ENDINGS:
        if low.endswith(ending) and len(low) - len(ending) >= _SHORTEST_STEM:
            if ending == "s" and low.endswith(("ss", "us", "is")):
                continue
            low = low[: -len(ending)]
            break
    if len(low) > _SHORTEST_STEM and low[-1] == low[-2] and low[-1].isalpha():
        low = low[:-1]
    return low


@lru_cache(maxsize=1 << 17)
def terms(word: str) -> tuple[str, ...]:
    """The terms that a word stands for: its own, then those of its parts where it is a compound.

    `call_soon` gives "call_soon", "cal" and "soon"; `CancelledError` "cancellederror", "cancel" and "err".
    A compound is kept whole and unstemmed: it is a name.
    """
    pieces = parts(word)
    if len(pieces) < 2:
        return (stem(pieces[0]),) if pieces else ()
    return (word.strip("_").lower(), *dict.fromkeys(map(stem, pieces)))


def parts(word: str) -> list[str]:
    """The parts of a compound, as they are written; of another word itself."""
    return _PART.findall(word)


def words(text: str) -> list[str]:
    """The words of a text, in order, as they are written."""
    return _WORD.findall(text)


def split_lines(text: str) -> list[str]:
    """The lines of a text as editors and compilers number them, without their ends."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if lines[-1] == "":
        lines.pop()
    return lines


class Passage(NamedTuple):
    """Consecutive lines of a file that belong together; `line` is the number of the first, from 1."""

    line: int
    lines: list[str]
    kinds: list[LineKind]
    scope: str
    """The definition or section that the passage is in: "Task.cancel", or a title; "" at the top level."""

    @property
    def end(self) -> int:
        """The number of the last line."""
        return self.line + len(self.lines) - 1


class _Line(NamedTuple):
    kind: LineKind
    scope: str
    begins: bool
    """Whether a passage should begin here."""
    breakable: bool
    """Whether a passage may end before the line, if it is long enough."""


def passages(path: str, lines: list[str]) -> Iterator[Passage]:
    """The passages of a file in order; they cover every line that is not blank. The path's ending tells the format."""
    suffix = PurePosixPath(path).suffix.lower()
    if suffix in _PYTHON:
        described = _python(lines)
    elif suffix in _PROSE:
        described = _prose(lines, markdown=suffix in _MARKDOWN)
    else:
        described = _code(lines)
    start = 0
    kinds: list[LineKind] = []
    scope = ""
    has_text = has_code = False
    for number, line in enumerate(described):
        length = number - start
        # A passage of titles alone goes on: a class without a docstring begins with its first method.
        if (line.begins and has_text) or length >= MAX_LINES or (length >= MIN_LINES and line.breakable):
            yield from _trimmed(start, lines[start:number], kinds, scope)
            start, kinds, has_text, has_code = number, [], False, False
        # Comments and decorators come before the definition that they belong to.
        if not kinds or (line.kind == "head" and not has_code):
            scope = line.scope
        kinds.append(line.kind)
        text = lines[number].strip()
        has_text = has_text or (line.kind != "head" and text != "")
        has_code = has_code or line.kind == "head" or (line.kind == "code" and text != "" and text[0] != "@")
    yield from _trimmed(start, lines[start:], kinds, scope)


def _trimmed(start: int, lines: list[str], kinds: list[LineKind], scope: str) -> Iterator[Passage]:
    """The passage without the blank lines around it; none where all are blank."""
    first, last = 0, len(lines)
    while first < last and not lines[first].strip():
        first += 1
    while last > first and not lines[last - 1].strip():
        last -= 1
    if first < last:
        yield Passage(start + first + 1, lines[first:last], kinds[first:last], scope)


def _python(lines: list[str]) -> Iterator[_Line]:
    """Python, line by line: ten times faster than parsing, and the text need not be valid."""
    inside: str | None = None
    scopes: list[tuple[int, str]] = []
    scope = ""
    led_in = False
    for line in lines:
        stripped = line.lstrip()
        if inside is not None:
            if inside in line:
                inside = None
            yield _Line("prose", scope, False, False)
            continue
        if not stripped:
            yield _Line("code", scope, False, not led_in)
            continue
        indent = len(line) - len(stripped)
        left = False
        while scopes and scopes[-1][0] >= indent and stripped[0] not in ")]}":
            scopes.pop()
            left = True
        if stripped[0] == "#":
            # A comment after the end of a definition is about the next one.
            scope = ".".join(name for _, name in scopes)
            led_in = led_in or left
            yield _Line("prose", scope, left, not led_in)
            continue
        head = _PYTHON_HEAD.match(line) if len(line) <= _LONG_LINE else None
        if head is not None:
            scopes.append((indent, head[1]))
        scope = ".".join(name for _, name in scopes)
        starts = left or head is not None or stripped[0] == "@"
        starts, led_in = starts and not led_in, stripped[0] == "@"
        kind: LineKind = "head" if head is not None else "code"
        if '"""' in line or "'''" in line:
            inside = _opened(line)
            if stripped.lstrip("rRuUbBfF").startswith(('"""', "'''")):
                kind = "prose"
        yield _Line(kind, scope, starts, False)


def _opened(line: str) -> str | None:
    """The triple quote that a line of Python opens and does not close."""
    opened: str | None = None
    position = 0
    while len(line) <= _LONG_LINE:
        if opened is not None:
            end = line.find(opened, position)
            if end < 0:
                return opened
            opened, position = None, end + 3
        match = _PYTHON_TRIPLE.search(line, position)
        if match is None:
            return None
        opened, position = match[1], match.end()
    return None


def _code(lines: list[str]) -> Iterator[_Line]:
    """Code of any language: definitions by their keyword, comments by how they begin."""
    scope = ""
    for line in lines:
        if not line.strip():
            yield _Line("code", scope, False, True)
        elif len(line) <= _LONG_LINE and (head := _CODE_HEAD.match(line)):
            scope = head[1]
            yield _Line("head", scope, True, False)
        else:
            yield _Line("prose" if _COMMENT.match(line) else "code", scope, False, False)


def _prose(lines: list[str], *, markdown: bool) -> Iterator[_Line]:
    """Running text: titles by `#` in Markdown, elsewhere by a line that underlines them."""
    scope = ""
    for line, below in pairwise([*lines, ""]):
        text = line.strip()
        kind: LineKind = "prose"
        if text and len(line) <= _LONG_LINE:
            if markdown and (head := _MARKDOWN_HEAD.match(line)):
                scope, kind = line[head.end() :].strip(" \t#"), "head"
            elif len(below) <= _LONG_LINE and _UNDERLINE.match(below) and not _UNDERLINE.match(line):
                scope, kind = text, "head"
        yield _Line(kind, scope, kind == "head", not text)
