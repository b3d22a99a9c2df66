"""What is asked, and which queries are put."""

from __future__ import annotations

import pytest

from trio_progress.demo.questions import MAX_TERMS, QuestionError, classify, follow_up, plan, subjects


@pytest.mark.parametrize(
    ("text", "kind", "terms"),
    [
        ("How does asyncio cancel a task?", "procedure", ["asyncio", "cancel", "task"]),
        ("What is a context manager?", "definition", ["context", "manag"]),
        ("Why are thread pools joined at exit?", "reason", ["thread", "pool", "join", "exit"]),
        ("Where does pathlib expand the home directory?", "location", ["pathlib", "expand", "hom", "director"]),
        ("What is the difference between a Lock and an RLock?", "comparison", ["lock", "rlock"]),
        ("How do dataclasses compare instances?", "procedure", ["dataclas", "compar", "instanc"]),
        ("lru_cache eviction", "general", ["lru_cache", "evict"]),
        ("the task, a Task: tasks", "general", ["task"]),
    ],
)
def test_a_question_is_classified_and_its_terms_are_found(text: str, kind: str, terms: list[str]) -> None:
    question = classify(text)
    assert question.kind == kind
    assert question.terms == terms
    assert list(question.written) == terms


def test_names_of_code_are_found_and_count_even_where_they_are_common_words() -> None:
    question = classify("What does `with` do for call_soon() and asyncio.Task and CancelledError?")
    assert question.names == ["with", "call_soon", "asyncio.Task", "CancelledError"]
    assert question.terms == ["with", "call_soon", "asyncio", "task", "cancellederror"]


def test_terms_side_by_side_are_also_looked_for_as_one_word() -> None:
    question = classify("How are named tuples created, and zip files?")
    assert question.joined["namedtupl"] == ["nam", "tupl"]
    assert question.joined["zipfil"] == ["zip", "fil"]
    # A common word between them parts them.
    assert not classify("a lock and a file").joined


@pytest.mark.parametrize("text", ["", "  \n\t ", "how is it?", "?!", "\x1b\x07"])
def test_a_question_without_anything_to_search_for_is_refused(text: str) -> None:
    with pytest.raises(QuestionError):
        classify(text)


def test_a_question_may_be_as_long_as_said_and_no_longer() -> None:
    words = " ".join(f"w{number}x" for number in range(60))
    assert len(classify(words).terms) == MAX_TERMS
    with pytest.raises(QuestionError, match="501 characters"):
        classify("x" * 501)


def test_subjects_are_the_terms_that_files_and_folders_are_named_after() -> None:
    paths = ["asyncio/tasks.py", "zipfile/__init__.py", "json/decoder.py"]
    assert subjects(classify("How does asyncio cancel a task?"), paths) == ["asyncio"]
    assert subjects(classify("How are zip files read?"), paths) == ["zip", "fil"]
    # A file of the same stem but another word is none: tasks.py is not about "task" alone.
    assert subjects(classify("What is a task?"), paths) == []


def test_the_plan_asks_for_all_and_for_pairs_with_the_subject() -> None:
    question = classify("How does asyncio cancel a task?")
    queries = plan(question, ["asyncio"])
    assert [query.name for query in queries] == ["all", "named", "told", "pair-1", "pair-2"]
    assert [query.needed for query in queries] == [2, 2, 2, 2, 2]
    assert [list(query.terms) for query in queries[3:]] == [["asyncio", "cancel"], ["asyncio", "task"]]
    assert queries[0].title == "all of: asyncio cancel task"


def test_the_plan_stresses_what_the_kind_of_question_is_after() -> None:
    shares = {
        kind: {query.name: query.share for query in plan(classify(text), [])}
        for kind, text in {"location": "where is json parsed", "reason": "why is json parsed"}.items()
    }
    assert shares["location"]["named"] > shares["location"]["told"]
    assert shares["reason"]["told"] > shares["reason"]["named"]


def test_following_up_looks_for_the_name_above_all() -> None:
    query = follow_up(classify("How does asyncio cancel a task?"), "CancelledError")
    assert query.must == "cancellederror"
    assert max(query.terms, key=lambda term: query.terms[term]) == "cancellederror"
    assert set(query.terms) == {"asyncio", "cancel", "task", "cancellederror"}
