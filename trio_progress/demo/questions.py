"""A question taken apart, and the queries for it: pure functions.

A question's *terms* are the stems of its words, without those that every question has. Its *names* are the words
that code would use: `asyncio.Task`, `call_soon()`, `CancelledError`. Its *subjects* are the terms that files or
folders of the corpus are named after: they say where to look, and the other terms, its *aims*, what for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, TypeAlias

import msgspec

from .text import stem, terms, words

Kind: TypeAlias = Literal["definition", "procedure", "reason", "location", "comparison", "general"]

MAX_QUESTION = 500
"""Characters of a question."""
MAX_TERMS = 12
"""Terms of a question that are searched for."""
MAX_PAIRS = 3
"""Queries for two terms alone."""

_COMPARING = re.compile(
    r"\b(?:differences? between|(?:differs?|different) from|compared? (?:to|with)|versus|vs)\b", re.IGNORECASE
)
_KINDS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    ("comparison", _COMPARING),
    ("location", re.compile(r"^(?:where|which (?:file|module|function|class|method))\b")),
    ("reason", re.compile(r"^(?:why|what (?:for|is the reason))\b")),
    ("procedure", re.compile(r"^(?:how|in what way|what happens)\b")),
    ("definition", re.compile(r"^(?:what(?:'s| is| are| does)?|who|define|explain|describe|meaning of)\b")),
)

# Words of questions, not of answers. As they are written, not as stems: "does" is one, "do" in code is not.
_COMMON = frozenset(
    """
    a about after against all also am an and any are as at be because been before being between both but by can
    cannot could define describe did do does doing
    done during each either else every explain few for from get gets getting give given go goes happen happens had
    has have having help here how i if in instead into is it its itself just know let like long made make makes many
    may me mean meaning means might more most much must my need needs no nor not of off on once one only or other our
    out over own please possible rather same shall should show so some such take takes tell than that the their them
    then there these they this those through to too under up us use used uses using versus very vs want was way ways
    we were what when where whether which while who whom whose why will with within without work working works would
    you your python stdlib library module modules standard exactly actually really
    """.split()  # noqa: SIM905 - sixteen lines of quotes would not read better
)

_NAME = re.compile(r"`([^`]+)`|([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+|[A-Za-z_]\w*(?=\(\))|\w*_\w+|[A-Z]?[a-z]+[A-Z]\w*)")


class QuestionError(Exception):
    """There is nothing to search for; the message says why and what to do."""


class Question(msgspec.Struct):
    """A question, taken apart."""

    text: str
    kind: Kind
    terms: list[str]
    """Each once, in the question's order."""
    names: list[str]
    """Its words that are names in code, as they were written."""
    written: dict[str, str]
    """For each term the word that it came from, to be shown."""
    joined: dict[str, list[str]] = {}
    """Terms that stand side by side, by the one word that they make ("zipfile": "zip" and "file")."""


class Query(msgspec.Struct):
    """One search: terms with their weights, and the weights of the places in a passage."""

    name: str
    title: str
    terms: dict[str, float]
    weights: dict[str, float]
    """Of the head lines, the prose, the code and the path of a passage."""
    share: float
    """The weight of the query among others."""
    needed: int
    """How many of the terms a passage must have."""
    must: str | None = None
    """The term that it must have in any case."""


BY_ALL = {"head": 4.0, "prose": 2.0, "code": 1.0, "path": 2.0}
BY_NAME = {"head": 8.0, "prose": 1.0, "code": 0.5, "path": 3.0}
BY_PROSE = {"head": 3.0, "prose": 4.0, "code": 0.5, "path": 2.0}


def classify(text: str) -> Question:
    """Takes a question apart.

    Raises:
        QuestionError: It is empty, too long, or has nothing but words that every question has.
    """
    text = " ".join(text.split())
    if not text:
        raise QuestionError('the question is empty: ask something, as in "How does asyncio cancel a task?"')
    if len(text) > MAX_QUESTION:
        raise QuestionError(f"the question has {len(text)} characters: ask in at most {MAX_QUESTION}")
    names = list(dict.fromkeys((quoted or bare).removesuffix("()") for quoted, bare in _NAME.findall(text)))
    low = text.lower()
    kind: Kind = next((kind for kind, pattern in _KINDS if pattern.search(low)), "general")
    asked = _COMPARING.sub(" ", text) if kind == "comparison" else text
    in_names = {word for name in names for word in words(name)}
    written: dict[str, str] = {}
    joined: dict[str, list[str]] = {}
    before = ""
    for word in words(asked):
        if word.lower() in _COMMON and word not in in_names:
            before = ""
            continue
        for term in terms(word)[:1]:
            written.setdefault(term, word)
            if before:
                joined.setdefault(stem(before + word), [stem(before), term])
        before = word
    if not written:
        raise QuestionError(f'nothing in {text!r} can be searched for: name a thing, as in "What is a named tuple?"')
    kept = list(written)[:MAX_TERMS]
    return Question(
        text,
        kind,
        kept,
        names,
        {term: written[term] for term in kept},
        {word: pair for word, pair in joined.items() if word not in kept and set(pair) <= set(kept)},
    )


def subjects(question: Question, paths: Iterable[str]) -> list[str]:
    """The terms of a question that files or folders are named after, exactly except for their ending."""
    wanted = set(question.terms)
    found: set[str] = set()
    for path in paths:
        parts = path.split("/")
        parts[-1] = parts[-1].split(".", 1)[0]
        for part in parts:
            term = stem(part)
            if term in question.joined:
                found.update(question.joined[term])
            elif term in wanted and part.lower() == question.written[term].lower():
                found.add(term)
        if len(found) == len(wanted):
            break
    return [term for term in question.terms if term in found]


def plan(question: Question, subjects: list[str]) -> list[Query]:
    """The queries for a question: for all of it, its definitions, its explanations, and pairs of its terms."""
    every = dict.fromkeys(question.terms, 1.0)
    aims = [term for term in question.terms if term not in subjects] or list(every)

    def title(chosen: Iterable[str]) -> str:
        return " ".join(question.written[term] for term in chosen)

    half = (len(every) + 1) // 2
    by_prose = {"reason": 1.2, "definition": 1.0, "general": 1.0}.get(question.kind, 0.8)
    by_name = {"location": 1.4, "definition": 1.2, "procedure": 0.9}.get(question.kind, 0.8)
    queries = [
        Query("all", f"all of: {title(every)}", every, BY_ALL, 1.0, half),
        Query("named", f"named: {title(every)}", every, BY_NAME, by_name, half),
        Query("told", f"explained: {title(every)}", every, BY_PROSE, by_prose, half),
    ]
    if len(every) > 2:
        lead = subjects[:1] or question.terms[:1]
        others = [term for term in aims if term not in lead][:MAX_PAIRS]
        for number, other in enumerate(others, 1):
            pair = {lead[0]: 1.0, other: 1.0}
            queries.append(Query(f"pair-{number}", f"both: {title(pair)}", pair, BY_ALL, 0.3, 2))
    return queries


def follow_up(question: Question, name: str) -> Query:
    """The query for a name that the best sources mention."""
    own = terms(name)[0]
    lookup = dict.fromkeys(question.terms, 0.4) | {own: 1.5}
    return Query(f"follow-{own}", f"follow up: {name}", lookup, BY_NAME, 1.0, 1, own)
