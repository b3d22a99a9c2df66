"""The research as a whole, over a few small files: what it answers, what it tells, and how it is gone on with.

It reads in worker threads, so these tests use the real clock; nothing in them waits for it.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Literal

import pytest
import trio

from trio_progress import CustomEvent, MemoryStore, Phase, Session, Snapshot, open_tracker
from trio_progress.demo import search, steps
from trio_progress.demo.answer import Answer, Quote, Statement, stands
from trio_progress.demo.corpus import CorpusError, read_lines
from trio_progress.demo.engine import PIPELINE, research
from trio_progress.demo.questions import QuestionError
from trio_progress.demo.research_context import ResearchContext
from trio_progress.demo.steps import STEPS

QUESTION = "How does the engine cancel a task?"

TASKS = '''\
class Task:
    """A unit of work of the engine."""

    def cancel(self):
        """Request that this task cancel itself.

        A CancelledError is raised in it at its next checkpoint.
        """
        self._must_cancel = True
'''

ERRORS = '''\
class CancelledError(Exception):
    """The task was cancelled."""
'''


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Read by all; who changes a file takes a copy."""
    folder = tmp_path_factory.mktemp("corpus")
    engine = folder / "engine"
    engine.mkdir()
    (engine / "tasks.py").write_text(TASKS)
    (engine / "copy.py").write_text(TASKS)
    (engine / "errors.py").write_text(ERRORS)
    (engine / "data.bin").write_bytes(b"\0cancel")
    for number in range(40):
        (engine / f"other{number:02}.txt").write_text(f"Something else, number {number}.\n\nA task of mine.\n")
    return str(folder)


@pytest.fixture(scope="module")
def undisturbed(corpus: str) -> tuple[Answer, Snapshot]:
    """What a run that nothing happens to answers and tells."""
    return trio.run(run, corpus)


async def run(
    folder: str,
    question: str = QUESTION,
    *,
    store: MemoryStore | None = None,
    resume: Literal["never", "always"] = "never",
    workers: int = 2,
) -> tuple[Answer, Snapshot]:
    async with open_tracker(MemoryStore() if store is None else store) as tracker:
        async with tracker.session("r", PIPELINE, resume=resume) as session:
            answer = await research(session, question, folder, workers=workers)
        return answer, session.snapshot()


async def test_a_question_is_answered_with_citations_that_stand(corpus: str) -> None:
    answer, snapshot = await run(corpus)
    assert answer.question == QUESTION
    assert answer.quotes[0].path in ("engine/tasks.py", "engine/copy.py")
    assert answer.quotes[0].scope == "Task.cancel"
    assert answer.statements[0].text.startswith("Request that this task cancel itself.")
    citations: list[Statement | Quote] = [*answer.statements, *answer.quotes]
    assert all(stands(corpus, citation) for citation in citations)
    assert (answer.checked, answer.refuted) == (len(citations), 0)
    assert snapshot.status == "completed"
    assert snapshot.result["quotes"][0]["scope"] == "Task.cancel"


async def test_the_eight_phases_are_told_with_their_weights_units_and_children(corpus: str) -> None:
    _, snapshot = await run(corpus)
    weights = {phase.name: round(phase.weight * 100) for phase in snapshot.phases}
    assert weights == {
        "classification": 8,
        "context_engineering": 12,
        "search": 38,
        "analysis": 16,
        "agentic_loop": 8,
        "synthesis": 12,
        "review": 4,
        "complete": 2,
    }
    assert list(weights) == list(STEPS)
    assert {phase.status for phase in snapshot.phases} == {"completed"}
    search = snapshot.phase("search")
    assert (search.done, search.total, search.unit) == (44, 44, "files")
    reading = snapshot.phase("search", "reading")
    assert sum(part.done for part in reading.phases) == 44
    assert {child.name for child in search.phases} >= {"reading", "rank-all", "rank-named", "rank-told"}
    assert snapshot.phase("agentic_loop", "round-1", "reading").phases


async def test_progress_only_rises_while_it_is_watched(corpus: str) -> None:
    seen: list[float] = []
    async with open_tracker(broadcast_interval=0.001) as tracker, trio.open_nursery() as nursery:

        async def watch(task_status: trio.TaskStatus[None]) -> None:
            await tracker.declare("r", PIPELINE)
            async with tracker.watch("r") as snapshots:
                task_status.started()
                seen.extend([snapshot.progress async for snapshot in snapshots])

        await nursery.start(watch)
        async with tracker.session("r", PIPELINE) as session:
            await research(session, QUESTION, corpus)
    assert seen == sorted(seen)
    assert len(seen) > 2
    assert seen[-1] == 1.0


async def test_what_is_found_skipped_and_repeated_is_counted_and_told(corpus: str) -> None:
    async with open_tracker() as tracker:
        async with tracker.session("r", PIPELINE) as session:
            await research(session, QUESTION, corpus)
        async with tracker.subscribe("r") as messages:
            events = [message async for message in messages if isinstance(message, CustomEvent)]
        snapshot = session.snapshot()
    assert snapshot.fields["skipped"] == {"binary": 1}
    assert snapshot.counters["duplicates_removed"] >= 2  # copy.py
    assert snapshot.counters["sources_found"] >= 3
    assert snapshot.counters["citations_checked"] == snapshot.phase("review").total
    names = {event.name for event in events}
    assert {"source.found", "source.scored", "lead.followed"} <= names
    found = [event.data["path"] for event in events if event.name == "source.found"]
    assert {"engine/tasks.py", "engine/copy.py", "engine/errors.py"} & set(found)


async def test_the_answer_does_not_depend_on_how_many_threads_read(
    corpus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Portions so small that the order in which they come back differs from run to run.
    monkeypatch.setattr("trio_progress.demo.corpus.SHARD_FILES", 1)
    one, alone = await run(corpus, workers=1)
    for _ in range(3):
        many, together = await run(corpus, workers=4)
        assert many == one
        assert together.counters == alone.counters


class StopError(Exception):
    """Breaks a run off."""


def count_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    called: list[str] = []
    for name, step in list(STEPS.items()):

        async def counted(
            context: ResearchContext, phase: Phase, notes: steps.Notes, name: str = name, step: steps.Step = step
        ) -> Any:
            called.append(name)
            return await step(context, phase, notes)

        monkeypatch.setitem(STEPS, name, counted)
    return called


@pytest.mark.parametrize("stopped", list(STEPS))
@pytest.mark.parametrize("when", ["before", "after"])
async def test_going_on_does_nothing_again_that_was_done_and_gives_the_same_answer(
    corpus: str, undisturbed: tuple[Answer, Snapshot], monkeypatch: pytest.MonkeyPatch, stopped: str, when: str
) -> None:
    whole, snapshot = undisturbed
    called = count_calls(monkeypatch)
    store = MemoryStore()
    step = STEPS[stopped]

    async def breaking(context: ResearchContext, phase: Phase, notes: steps.Notes) -> Any:
        if when == "after":
            await step(context, phase, notes)
        raise StopError

    with monkeypatch.context() as patched:
        patched.setitem(STEPS, stopped, breaking)
        with pytest.raises(StopError):
            await run(corpus, store=store)
    order = list(STEPS)
    place = order.index(stopped)
    assert called == order[: place + (when == "after")]
    called.clear()
    answer, resumed = await run(corpus, store=store, resume="always")
    assert called == order[place:]
    assert answer == whole
    assert resumed.status == "completed"
    assert resumed.attempt == 2
    assert resumed.counters == snapshot.counters
    assert resumed.result == snapshot.result


async def test_going_on_with_another_question_or_corpus_is_refused(
    corpus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()

    async def breaking(context: ResearchContext, phase: Phase, notes: steps.Notes) -> Any:
        await trio.lowlevel.checkpoint()
        raise StopError

    with monkeypatch.context() as patched:
        patched.setitem(STEPS, "review", breaking)
        with pytest.raises(StopError):
            await run(corpus, store=store)
    with pytest.raises(ValueError, match="ask the same"):
        await run(corpus, "What is a task?", store=store, resume="always")


async def test_a_cancelled_research_reads_no_further_than_the_file_that_is_open(
    corpus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def cancelling(root: str, path: str) -> Any:
        read.append(path)
        if len(read) == 5:
            trio.from_thread.run_sync(sessions[0].cancel)
        return read_lines(root, path)

    monkeypatch.setattr(search, "read_lines", cancelling)
    sessions: list[Session] = []
    async with open_tracker() as tracker:
        async with tracker.session("r", PIPELINE) as session:
            sessions.append(session)
            await research(session, QUESTION, corpus, workers=1)
    assert session.status == "cancelled"
    assert len(read) == 5
    snapshot = session.snapshot()
    assert snapshot.phase("search").status == "cancelled"
    assert snapshot.phase("analysis").status == "pending"


async def test_a_citation_whose_file_has_changed_meanwhile_is_taken_out(
    corpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = shutil.copytree(corpus, str(tmp_path / "copy"))
    step = STEPS["review"]

    async def late(context: ResearchContext, phase: Phase, notes: steps.Notes) -> Any:
        for name in ("tasks.py", "copy.py"):
            (Path(corpus) / "engine" / name).write_text("# changed\n" + TASKS)
        return await step(context, phase, notes)

    monkeypatch.setitem(STEPS, "review", late)
    answer, snapshot = await run(corpus)
    assert answer.refuted >= 2
    assert answer.checked == len(answer.statements) + len(answer.quotes)
    assert not any(quote.path.endswith(("tasks.py", "copy.py")) for quote in answer.quotes)
    assert "citations stand" in (snapshot.phase("review").message or "")


async def test_what_nothing_speaks_of_has_an_answer_without_quotes(corpus: str) -> None:
    answer, snapshot = await run(corpus, "zebra crossings")
    assert (answer.statements, answer.quotes) == ([], [])
    assert snapshot.status == "completed"


async def test_a_corpus_without_text_fails_the_session_with_the_reason_and_leaves_as_itself(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"\0")
    async with open_tracker() as tracker:
        with pytest.raises(CorpusError, match="1 binary"):
            async with tracker.session("r", PIPELINE) as session:
                await research(session, QUESTION, str(tmp_path))
    error = session.snapshot().error
    assert session.status == "failed"
    assert error is not None
    assert (error.type, "1 binary" in (error.message or "")) == ("CorpusError", True)


async def test_a_question_without_anything_to_search_for_leaves_as_itself(corpus: str) -> None:
    with pytest.raises(QuestionError):
        await run(corpus, "how is it?")
