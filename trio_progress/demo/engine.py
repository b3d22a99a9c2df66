"""The research: its pipeline, and how it is run and resumed.

After each step the session saves the results of all steps so far. A run that is resumed repeats none of them, and
comes to the same answer.
"""

from __future__ import annotations

import os
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
    """A run cannot be resumed, or its answer not be read."""


class _Saved(msgspec.Struct):
    """What a run saves after each step."""

    question: str
    corpus: str
    notes: Notes
    counters: dict[str, float]
    """The session's counters at that moment."""


async def research(session: Session, question: str, folder: str, *, workers: int | None = None) -> Answer:
    """Answers a question from a folder of text, and reports its progress to the session.

    Steps whose results the session has saved are not repeated. A cancel waits for the files that are being read.

    Args:
        session: A session with `PIPELINE`.
        question: The question; see `questions.classify`.
        folder: The root of the corpus; see `corpus.checked_folder`.
        workers: Threads that read at once, at least 1; by default one for each processor, 2 to 4.

    Raises:
        CorpusError: There is nothing to read in the folder.
        QuestionError: The question has nothing that could be searched for.
        ResumeError: The session has saved another question or corpus, or what is not a run of the demo.
    """
    context = ResearchContext(session, question, folder, workers or max(2, min(4, os.cpu_count() or 1)))
    new = _Saved(question, folder, {}, {})
    try:
        saved = new if session.saved is None else msgspec.convert(session.saved, _Saved)
    except msgspec.ValidationError as error:
        raise ResumeError(f"what session {session.id!r} has saved is not a run of the demo: {error}") from None
    if (saved.question, saved.corpus) != (question, folder):
        raise ResumeError(f"the session resumes the question {saved.question!r} to {saved.corpus!r}: ask the same")
    notes = dict(saved.notes)
    for counter, count in session.snapshot().counters.items():  # Back to where the last step that is saved left them.
        session.increment(counter, saved.counters.get(counter, 0) - count)
    for name, step in STEPS.items():
        if name in notes:
            continue
        with session.advance_to(name) as phase:
            notes[name] = msgspec.to_builtins(await step(context, phase, notes))
            # Before the phase is left, without a checkpoint between: a stored state in which the phase has completed
            # also holds its result.
            counters = session.snapshot().counters
            session.save(msgspec.to_builtins(_Saved(question, folder, notes, counters)))
    return handed_in(notes["complete"])


def handed_in(result: object) -> Answer:
    """The answer in the result of a run; a `ResumeError` says that the result holds none."""
    try:
        return msgspec.convert(result, Answer)
    except msgspec.ValidationError as error:
        raise ResumeError(f"the result is not an answer of the demo: {error}") from None
