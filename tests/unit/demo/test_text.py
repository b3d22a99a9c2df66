"""Words, terms and passages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_progress.demo.text import MAX_LINES, Passage, passages, split_lines, stem, terms, words


def cut(path: str, text: str) -> list[Passage]:
    return list(passages(path, split_lines(text)))


@pytest.mark.parametrize(
    "forms",
    [
        "cancel cancels cancelled Cancelling cancellation",
        "query queries",
        "run runs running",
        "iterate iterator iterators iterating iteration",
        "file files filed",
        "class classes",
        "error errors",
    ],
)
def test_forms_of_a_word_have_one_stem(forms: str) -> None:
    assert len({stem(form) for form in forms.split()}) == 1


@pytest.mark.parametrize(("one", "other"), [("task", "tuple"), ("state", "status"), ("import", "important")])
def test_different_words_have_different_stems(one: str, other: str) -> None:
    assert stem(one) != stem(other)


def test_a_compound_stands_for_itself_and_its_parts() -> None:
    assert terms("CancelledError") == ("cancellederror", "cancel", "err")
    assert terms("call_soon_threadsafe") == ("call_soon_threadsafe", "cal", "soon", "threadsaf")
    assert terms("HTTPServer")[0] == "httpserver"
    assert "lock" in terms("RLock")
    assert terms("__init__") == ("init",)
    assert terms("_") == ()


@given(st.text(st.characters(max_codepoint=255), max_size=200))
def test_a_text_that_has_a_term_has_its_letters(text: str) -> None:
    for word in words(text):
        for term in terms(word):
            assert term in text.lower()


def test_words_as_long_as_data_are_left_out() -> None:
    assert words("short " + "x" * 65 + " words") == ["short", "words"]


def test_lines_are_those_that_editors_number() -> None:
    assert split_lines("a\r\nb\rc\nd") == ["a", "b", "c", "d"]
    assert split_lines("a\x0c\x1cb\u2028c\n") == ["a\x0c\x1cb\u2028c"]
    assert split_lines("") == []
    assert split_lines("\n\nend") == ["", "", "end"]


MODULE = '''\
"""The module."""

import os

LIMIT = 3  # a limit


class Task:
    """A unit of work."""

    def cancel(self):
        """Ask it to stop.

        def not_a_definition(): because it stands in a docstring
        """
        self.stopped = True

    # Told apart from what comes before it.
    @property
    def done(
        self,
    ) -> bool:
        return self.stopped


def run(task):
    return task
'''


def test_python_falls_into_definitions_with_their_docstrings_comments_and_decorators() -> None:
    found = cut("m.py", MODULE)
    assert [(passage.scope, passage.lines[0].strip()) for passage in found] == [
        ("", '"""The module."""'),
        ("Task", "class Task:"),
        ("Task.cancel", "def cancel(self):"),
        ("Task.done", "# Told apart from what comes before it."),
        ("run", "def run(task):"),
    ]
    cancel = found[2]
    assert (cancel.line, cancel.end) == (11, 16)
    assert cancel.kinds == ["head", "prose", "prose", "prose", "prose", "code"]


def test_a_class_without_a_docstring_begins_with_its_first_method() -> None:
    (found,) = cut("m.py", "class Lock(Base):\n\n    def __init__(self):\n        pass\n")
    assert (found.scope, found.line, found.end) == ("Lock", 1, 4)


def test_a_comment_after_a_definition_belongs_to_the_next_one() -> None:
    one, other = cut("m.py", "def one():\n    pass\n\n# About the other.\n\ndef other():\n    pass\n")
    assert (one.scope, one.end) == ("one", 2)
    assert (other.scope, other.line) == ("other", 4)


def test_quotes_within_strings_and_comments_open_no_docstring() -> None:
    closed = 'a = \'"""\'\nb = "\'\'\'"\n# it\'s """ only\n'
    found = cut("m.py", f"{closed}def f():\n    c = '''open\n    def g(): no\n    '''\n    return c\n")
    assert [passage.scope for passage in found] == ["", "f"]
    assert found[1].kinds == ["head", "code", "prose", "prose", "code"]


def test_markdown_and_underlined_titles_begin_passages() -> None:
    assert [passage.scope for passage in cut("a.md", "intro\n# One #\ntext\n## Two\nmore\n")] == ["", "One", "Two"]
    found = cut("a.rst", "Title\n=====\ntext\n\nNext\n----\nmore\n")
    assert [(passage.scope, passage.line) for passage in found] == [("Title", 1), ("Next", 5)]


def test_code_in_other_languages_falls_into_definitions() -> None:
    found = cut("a.rs", "use std;\n// Adds.\npub fn add(a: u8) {\n}\n\nstruct Point {\n}\n")
    assert [passage.scope for passage in found] == ["", "add", "Point"]
    assert found[0].kinds == ["code", "prose"]


def test_a_passage_is_never_longer_than_its_bound() -> None:
    found = cut("a.txt", "line\n" * (3 * MAX_LINES + 1))
    assert [len(passage.lines) for passage in found] == [MAX_LINES] * 3 + [1]


def test_a_long_hostile_line_keeps_no_pattern_busy() -> None:
    # Each of these takes a careless pattern longer than the test run: time grows with the square of the length.
    for line in (
        "# " + " " * 300_000 + "x",
        "''' ''' \"" + '\\"' * 100_000,
        "export " * 50_000 + "x",
        "=" * 300_000 + "x",
    ):
        for name in ("a.py", "a.md", "a.rs", "a.txt"):
            assert [passage.lines for passage in cut(name, line)] == [[line]]


LINES = st.sampled_from(
    [
        "",
        "    ",
        "def f():",
        "class A:",
        "    def g(self):",
        '    """Doc.',
        '"""',
        "# c",
        "    # c",
        "x = 1",
        "@d",
        "Title",
        "===",
    ]
)


@given(st.sampled_from(["a.py", "a.md", "a.rst", "a.c", "a"]), st.lists(LINES, max_size=120))
def test_the_passages_of_a_file_cover_each_line_that_is_not_blank_once(path: str, lines: list[str]) -> None:
    covered: list[int] = []
    for passage in passages(path, lines):
        assert passage.lines == lines[passage.line - 1 : passage.end]
        assert len(passage.kinds) == len(passage.lines) <= MAX_LINES
        assert passage.lines[0].strip()
        assert passage.lines[-1].strip()
        covered += range(passage.line, passage.end + 1)
    assert covered == sorted(set(covered))
    assert {number for number, line in enumerate(lines, 1) if line.strip()} <= set(covered)
