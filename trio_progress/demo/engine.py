"""The research: its pipeline, and how it is run and gone on with.

After each step the session saves what all steps so far have left. Whoever goes on from there does not do again what
was done, and comes to the same answer.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from ..state.pipeline import PhaseSpec, Pipeline
from .answer import Answer
from .corpus import CorpusError
from .research_context import ResearchContext
from .steps import STEPS, Notes

if TYPE_CHECKING:
    from ..session.session import Session

PIPELINE: Final = Pipeline(
    "research",
    [
        PhaseSpec("classification", 8, title="Classify the question", unit="terms"),
        PhaseSpec("context_engineering", 12, title="Survey the corpus", unit="steps"),
        PhaseSpec("search", 38, title="Search", unit="files"),
        PhaseSpec("analysis", 16, title="Score the sources", unit="sources"),
        PhaseSpec("agentic_loop", 8, title="Follow up"),
        PhaseSpec("synthesis", 12, title="Compose the answer", unit="steps"),
        PhaseSpec("review", 4, title="Check the citations", unit="citations"),
        PhaseSpec("complete", 2, title="Hand in"),
    ],
    error_text=lambda error: str(error) if isinstance(error, CorpusError) else None,
)
"""The phases of a research and what each weighs."""


class ResumeError(ValueError):
    """A research cannot be gone on with, or its answer not be read."""


class _Saved(msgspec.Struct):
    """What a research saves after each step."""

    question: str
    corpus: str
    notes: Notes
    """What the steps so far have left."""
    counters: dict[str, float]
    """How the counters stood then."""


async def research(session: Session, question: str, folder: str, *, workers: int | None = None) -> Answer:
    """Answers a question from a folder of text, and tells the session how it goes.

    Where the session has saved what earlier steps have left (of a run that it goes on from), these are not
    done again. Cancelling it waits for the files that are just being read, no longer.

    Args:
        session: A session with `PIPELINE`.
        question: The question; see `questions.checked_question`.
        folder: The root of the corpus; see `corpus.checked_folder`.
        workers: How many threads read at once, at least 1; as many as there are processors, 2 to 4, unless given.

    Raises:
        CorpusError: There is nothing to read in the folder.
        QuestionError: The question has nothing that could be searched for.
        ResumeError: The session goes on from another question or another corpus, or from what is not a research.
    """
    context = ResearchContext(session, question, folder, workers or max(2, min(4, os.cpu_count() or 1)))
    fresh = _Saved(question, folder, {}, {})
    try:
        saved = fresh if session.saved is None else msgspec.convert(session.saved, _Saved)
    except msgspec.ValidationError as error:
        raise ResumeError(f"what session {session.id!r} has saved is not a research's: {error}") from None
    if (saved.question, saved.corpus) != (question, folder):
        raise ResumeError(f"this goes on from the question {saved.question!r} to {saved.corpus!r}: ask the same")
    notes = dict(saved.notes)
    _recount(session, saved.counters)
    for name, step in STEPS.items():
        if name in notes:
            continue
        with session.advance_to(name) as phase:
            notes[name] = msgspec.to_builtins(await step(context, phase, notes))
            # Before the phase is left, and without a checkpoint in between: a stored state in which the phase has
            # completed also holds what it has left.
            counters = session.snapshot().counters
            session.save(msgspec.to_builtins(_Saved(question, folder, notes, counters)))
    return handed_in(notes["complete"])


def handed_in(result: object) -> Answer:
    """The answer in the result of a research.

    Raises:
        ResumeError: It is none.
    """
    try:
        return msgspec.convert(result, Answer)
    except msgspec.ValidationError as error:
        raise ResumeError(f"the result is not a research's: {error}") from None


def _recount(session: Session, counters: Mapping[str, float]) -> None:
    """Sets the counters back to where they stood after the last step that is not done again."""
    for name, count in session.snapshot().counters.items():
        session.increment(name, counters.get(name, 0) - count)
