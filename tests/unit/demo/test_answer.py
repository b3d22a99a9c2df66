"""What is quoted, and whether it stands where it is said to."""

from __future__ import annotations

from pathlib import Path

import pytest

from trio_progress.demo.answer import (
    MAX_LINE,
    QUOTED_LINES,
    Answer,
    Quote,
    Statement,
    compose,
    render,
    sentences,
    stands,
)
from trio_progress.demo.questions import classify
from trio_progress.demo.ranking import Statistics
from trio_progress.demo.sources import Source
from trio_progress.demo.text import Passage, passages, split_lines

STATISTICS = Statistics(1000, 50_000, {"cancel": 30, "task": 60, "asyncio": 100})

TASKS = '''\
class Task:
    """A unit of work."""

    def cancel(self):
        """Request that this task cancel itself.

        This arranges for an error to be raised in it. Nothing else is promised here by anybody.
        """
        self.must_cancel = True
'''


def passage(text: str, number: int = 0, path: str = "tasks.py") -> Passage:
    return list(passages(path, split_lines(text)))[number]


def source(found: Passage, score: float = 0.9, path: str = "tasks.py", naming: float = 1.0) -> Source:
    worth = {"naming": naming, "followed": 0.0}
    return Source(path, found.line, found.end, found.scope, score, worth, [], f"{path}:{found.line}", "all", {})


def composed(*given: tuple[Source, Passage]) -> Answer:
    question = classify("How does a task cancel?")
    return compose(question, [one for one, _ in given], [text for _, text in given], STATISTICS, question.terms)


def test_sentences_are_told_with_their_lines_and_without_comment_signs() -> None:
    comments = "    # One ends here. Another\n    # goes on! (In brackets.)\n    x = 1  # no prose\n    # No end\n"
    found = passage(f"def f():\n{comments}")
    assert [(one.line, one.end, one.text) for one in sentences(found)] == [
        (2, 2, "One ends here."),
        (2, 3, "Another goes on!"),
        (3, 3, "(In brackets.)"),
    ]


def test_two_spaces_after_a_full_stop_are_no_part_of_a_sentence(tmp_path: Path) -> None:
    text = 'def f():\n    """Cancel it.  Then the task\n    ends.  All is well."""\n'
    assert [one.text for one in sentences(passage(text))] == ["Cancel it.", "Then the task ends.", "All is well."]
    (tmp_path / "tasks.py").write_text(text)
    assert stands(str(tmp_path), Statement("tasks.py", 2, 3, "Cancel it. Then the task ends."))
    assert not stands(str(tmp_path), Statement("tasks.py", 2, 3, "Cancel it. The task ends."))


def test_a_docstring_and_the_comment_below_it_are_told_apart() -> None:
    found = passage('def f():\n    """Says what."""\n    # Says why.\n    return 1\n')
    assert [one.text for one in sentences(found)] == ["Says what.", "Says why."]


def test_an_answer_begins_with_the_summary_of_what_is_asked_and_what_it_explains() -> None:
    cancel = passage(TASKS, 1)
    answer = composed((source(cancel), cancel))
    assert answer.statements[0] == Statement(
        "tasks.py",
        5,
        7,
        "Request that this task cancel itself. This arranges for an error to be raised in it.",
        "Task.cancel",
    )
    (quote,) = answer.quotes
    assert (quote.path, quote.line, quote.end, quote.scope) == ("tasks.py", 4, 9, "Task.cancel")
    assert quote.lines == TASKS.splitlines()[3:9]


def test_no_two_statements_share_a_line_and_no_two_quotes_a_definition() -> None:
    # Each short sentence is also offered together with the next, so that neighbours overlap.
    cancel = passage(TASKS.replace("This arranges", "To cancel a task arranges"), 1)
    twice = [(source(cancel), cancel), (source(cancel, 0.8), cancel)]
    other = passage("def other():\n    cancel task\n")
    answer = composed(*twice, (source(other, 0.7, "b.py"), other))
    assert [quote.path for quote in answer.quotes][:2] == ["tasks.py", "b.py"]
    lines = [line for one in answer.statements for line in range(one.line, one.end + 1)]
    assert len(lines) == len(set(lines))


def test_what_one_statement_says_is_not_said_again_in_nearly_the_same_words() -> None:
    texts = [passage(f"def f():\n    # The task will cancel itself {when}.\n") for when in ("at once", "soon")]
    answer = composed((source(texts[0], path="a.py"), texts[0]), (source(texts[1], path="b.py"), texts[1]))
    assert [one.path for one in answer.statements] == ["a.py"]


def test_the_summary_of_what_is_named_after_the_question_comes_first() -> None:
    texts = [passage(f'def {name}():\n    """Tells a {name} task how to cancel."""\n') for name in ("stop", "cancel")]
    answer = composed(
        (source(texts[0], path="a.py", naming=0.0), texts[0]), (source(texts[1], path="b.py", naming=1.0), texts[1])
    )
    assert answer.statements[0].path == "b.py"


def test_a_long_passage_is_quoted_where_it_says_the_most() -> None:
    middle = ["    cancel(task)  # the task", "    # cancel"]
    text = "\n".join(["def f():", *["    x = 1"] * 20, *middle, *["    y = 2"] * 10])
    (quote,) = composed((source(passage(text)), passage(text))).quotes
    assert len(quote.lines) == QUOTED_LINES
    assert quote.line <= 22
    assert quote.end >= 23


def test_sources_that_are_much_worse_than_the_best_are_not_quoted() -> None:
    cancel = passage(TASKS, 1)
    other = passage("def other():\n    cancel task\n")
    assert len(composed((source(cancel, 0.9), cancel), (source(other, 0.4, "b.py"), other)).quotes) == 1


def test_a_citation_stands_only_where_the_text_is(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(TASKS)
    cancel = passage(TASKS, 1)
    answer = composed((source(cancel), cancel))
    citations: list[Statement | Quote] = [*answer.statements, *answer.quotes]
    assert len(citations) >= 2
    assert all(stands(str(tmp_path), one) for one in citations)
    (tmp_path / "tasks.py").write_text("\n" + TASKS)
    assert not any(stands(str(tmp_path), one) for one in citations)
    (tmp_path / "tasks.py").unlink()
    assert not any(stands(str(tmp_path), one) for one in citations)


def test_a_very_long_line_is_quoted_by_its_beginning_and_stands(tmp_path: Path) -> None:
    text = "cancel task " * 100_000
    (tmp_path / "tasks.py").write_text(text)
    (quote,) = composed((source(passage(text)), passage(text))).quotes
    assert [len(line) for line in quote.lines] == [MAX_LINE]
    assert stands(str(tmp_path), quote)


def test_nothing_found_is_an_answer_too() -> None:
    answer = composed()
    assert (answer.statements, answer.quotes) == ([], [])
    assert render(answer, "/a/corpus") == "How does a task cancel?\n\nNothing in /a/corpus speaks of that.\n"


def test_a_printed_answer_names_each_place_and_numbers_each_line() -> None:
    cancel = passage(TASKS, 1)
    shown = render(composed((source(cancel), cancel)), "x").splitlines()
    assert "    -- tasks.py:5-7  (Task.cancel)" in shown
    assert "1. tasks.py:4-9  (Task.cancel)" in shown
    assert "   4 |     def cancel(self):" in shown
    assert "   6 |" in shown


@pytest.mark.parametrize("evil", ["\x1b[31m", "\x1b]0;owned\x07", "\u202e", "\r", "\x9b2J"])
def test_nothing_in_a_printed_answer_can_act_on_a_terminal(evil: str) -> None:
    answer = Answer(
        f"question{evil}",
        [Statement(f"path{evil}", 1, 1, f"text{evil}", f"scope{evil}")],
        [Quote(f"path{evil}\n", 1, [f"line{evil}"], f"scope{evil}", 1.0)],
    )
    shown = render(answer, "x")
    assert all(line.isprintable() for line in shown.split("\n"))
    assert len(shown.split("\n")) == 8
