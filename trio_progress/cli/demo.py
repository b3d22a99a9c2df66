"""`demo`: a small research engine, whose session is stored, watched from other processes, and resumed."""

from __future__ import annotations

import argparse
import signal
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from . import exit_codes, output, parser, serve, store_location
from .exit_codes import CommandError

if TYPE_CHECKING:
    from ..demo.answer import Answer
    from ..protocol.snapshot import Snapshot
    from ..session.session import Session
    from .store_location import StoreLocation

DEFAULT_QUESTION: Final = "How does asyncio cancel a task?"

RETENTION: Final = 7 * 86400.0
"""Seconds that a session of the demo is kept after its last state."""

LOST_AFTER: Final = 30.0

FLUSH: Final = 2.0
"""Seconds that a run waits for the store before it begins; it begins then even if the store is slow."""

_DEMO: Final = """\
Answers a question from a folder of text, with passages quoted at their file:line, and shows how it goes.

It is a small research engine and a real one: it classifies the question, plans queries, searches all files
concurrently, scores what it found, drops duplicates, follows up on the names that the best passages speak of,
composes an answer and checks each citation against its file. Nothing is sent anywhere.

Its progress is kept in your store for a week, for `ls`, `show` and `watch`, and for --resume, which goes on where it
stopped, whatever has stopped it, and repeats nothing that was done. `trio-progress rm --label app=demo` removes all of
its sessions.
"""

_EPILOG: Final = f"""\
examples:
  trio-progress demo "Where does pathlib expand the home directory?"
  trio-progress demo --corpus ~/notes "what did we decide about backups" > answer.txt
      the answer goes to standard output, the progress to standard error
  trio-progress demo --resume demo-3f9a2c
  trio-progress demo --store memory: "how does zipfile find the end of an archive"
      keeps nothing

exit codes: 0 answered; 1 nothing found; 2 wrong use, or nothing to search; 3 no such session to resume;
  4 the store cannot be used; 5 the session to resume is open; {exit_codes.ENDED["cancelled"]} cancelled; 130 Ctrl-C; \
143 SIGTERM
"""


def add(commands: parser.Commands) -> None:
    """Adds `demo`."""
    summary = "answer a question from local files, and watch the progress"
    command = parser.command(commands, "demo", demo, summary=summary, description=_DEMO, epilog=_EPILOG)
    command.add_argument(
        "question", nargs="*", metavar="QUESTION", help=f"what you want to know (default: {DEFAULT_QUESTION!r})"
    )
    corpus = command.add_argument(
        "--corpus",
        metavar="DIR",
        help="the folder whose text files are searched (default: the standard library of this Python)",
    )
    parser.complete(corpus, parser.folders)
    parser.session_argument(command, "--resume", help="resume this session of the demo, with its own question")
    command.add_argument(
        "--serve",
        metavar="PORT",
        nargs="?",
        type=serve.port,
        const=serve.PORT,
        help=f"serve its page on this port of this machine while it runs (default {serve.PORT})",
    )
    command.add_argument(
        "--lost-after",
        metavar="SECONDS",
        type=parser.seconds,
        default=LOST_AFTER,
        help=f"time without a heartbeat until it counts as lost (default {LOST_AFTER:g})",
    )
    parser.store_option(command)


@dataclass(slots=True)
class _Run:
    """What one run of the demo is asked, and what has become of it."""

    url: str = field(repr=False)
    """Of the store; may hold a password."""
    hint: str
    """What has our other commands use the same store."""
    id: str
    question: str
    folder: str
    resume: bool
    session: Session | None = None
    answer: Answer | None = None
    signal: int | None = None
    """The number of the signal that has stopped it politely."""

    @property
    def stored(self) -> bool:
        """Whether its session outlives it."""
        return self.url != "memory:"


def demo(arguments: argparse.Namespace) -> int:
    """`trio-progress demo`: answers a question from local files, and shows how it goes."""
    from ..demo.answer import render
    from ..demo.corpus import CorpusError
    from ..demo.engine import ResumeError
    from ..demo.questions import QuestionError
    from ..errors import SessionActiveError

    try:
        run = _resumed(arguments) if arguments.resume is not None else _begun(arguments)
        if run.answer is None:
            try:
                output.run(_research, run, arguments.lost_after, arguments.serve)
            except KeyboardInterrupt:
                run.signal = signal.SIGINT
    except (CorpusError, QuestionError, ResumeError) as error:
        raise CommandError(exit_codes.USAGE, str(error)) from None
    except SessionActiveError as error:
        raise CommandError(
            exit_codes.ACTIVE,
            f"session {error.session_id!r} is open; if its process was killed, it can be resumed once it "
            "counts as lost, some seconds after its last heartbeat",
        ) from None
    if run.answer is None:
        return _unanswered(run)
    output.print_answer(render(run.answer, run.folder))
    return exit_codes.OK if run.answer.quotes or run.answer.statements else exit_codes.NOTHING


def _begun(arguments: argparse.Namespace) -> _Run:
    """A new run; a `QuestionError` or a `CorpusError` says what is wrong with the arguments."""
    import secrets

    from ..demo.corpus import checked_folder, standard_library
    from ..demo.questions import classify

    question = classify(" ".join(arguments.question) if arguments.question else DEFAULT_QUESTION).text
    folder = checked_folder(standard_library() if arguments.corpus is None else arguments.corpus)
    where = store_location.locate(arguments)
    return _Run(_usable(where), where.hint, f"demo-{secrets.token_hex(3)}", question, folder, False)


def _usable(where: StoreLocation) -> str:
    """The store's URL; where the user's own store cannot be used, the run is not stored."""
    if where.named:
        return where.url
    from ..errors import StoreError
    from ..stores.opening import open_backend

    try:
        url = where.made()
        open_backend(url).close()
    except (StoreError, CommandError) as error:
        output.print_error(f"{error}; this run is kept nowhere")
        return "memory:"
    return url


def _resumed(arguments: argparse.Namespace) -> _Run:
    """The run of a session that is resumed; one that has completed comes with its answer."""
    from ..demo.corpus import checked_folder
    from ..demo.engine import PIPELINE, handed_in
    from ..errors import SessionNotFoundError

    if arguments.question or arguments.corpus is not None:
        raise CommandError(
            exit_codes.USAGE, "--resume goes on with the session's own question and corpus: give neither"
        )
    session_id = arguments.resume
    with store_location.client(arguments) as client:
        if client is None:
            raise SessionNotFoundError(session_id)
        snapshot = client.snapshot(session_id)
    question, corpus = snapshot.fields.get("question"), snapshot.fields.get("corpus")
    if snapshot.pipeline != PIPELINE.name or not isinstance(question, str) or not isinstance(corpus, str):
        raise CommandError(
            exit_codes.USAGE, f"session {session_id!r} is not one of the demo's: it cannot be resumed here"
        )
    where = store_location.locate(arguments)
    run = _Run(where.url, where.hint, session_id, question, corpus, True)
    if snapshot.status == "completed":
        output.print_notice(f"Session {session_id} has completed: this is its answer.")
        run.answer = handed_in(snapshot.result)
    else:
        run.folder = checked_folder(corpus)
    return run


async def _research(run: _Run, lost_after: float, port: int | None) -> None:
    """Does the run, with its page on `port` where there is one, and leaves in `run` what has become of it."""
    import trio

    from ..demo.engine import PIPELINE, research
    from ..terminal import open_display

    async with AsyncExitStack() as stack:
        beat = min(lost_after / 3, 10.0)
        tracker = await store_location.enter_tracker(
            stack, run.url, lost_after=lost_after, heartbeat_interval=beat, retention=RETENTION
        )
        tracker.interrupt_on(signal.SIGTERM)
        try:
            if port is not None:
                opened = await serve.enter_server(stack, serve.server(), tracker, port, {})
                output.print_notice(f"Its page: {opened.url}#/{run.id}")
            await stack.enter_async_context(open_display(tracker))
            resume: Literal["always", "never"] = "always" if run.resume else "never"
            labels = {"app": "demo"}
            scope = tracker.session(run.id, PIPELINE, title=run.question[:200], labels=labels, resume=resume)
            async with scope as session:
                run.session = session
                session.set(question=run.question, corpus=run.folder)
                with trio.move_on_after(FLUSH):
                    # From here on it can be found, and resumed, whatever happens.
                    await session.flush()
                if run.resume:
                    output.print_notice(f"Going on with session {run.id}.")
                elif run.stored:
                    output.print_notice(f"Session {run.id}; from elsewhere: trio-progress watch {run.id}{run.hint}")
                run.answer = await research(session, run.question, run.folder)
        finally:
            run.signal = tracker.interrupted_by


def _unanswered(run: _Run) -> int:
    """Reports how far a run came that was stopped; returns the exit code."""
    if run.signal is None:
        assert run.session is not None
        error = run.session.snapshot().error
        reason = None if error is None else error.message
        _report(run, "Cancelled" if reason is None else f"Cancelled ({reason})")
        return exit_codes.ENDED["cancelled"]
    _report(run, "Interrupted" if run.signal == signal.SIGINT else f"Stopped by {signal.Signals(run.signal).name}")
    return exit_codes.SIGNAL + run.signal


def _report(run: _Run, what: str) -> None:
    if run.session is None:
        output.print_notice(f"{what} before anything was begun.")
        return
    snapshot = run.session.snapshot()
    found = snapshot.counters.get("sources_found", 0)
    output.print_notice(f"{what} {_place(snapshot)}: {snapshot.progress:.0%} done, {found:.0f} sources found so far.")
    if run.stored:
        output.print_notice(f"Go on with: trio-progress demo --resume {run.id}{run.hint}")


def _place(snapshot: Snapshot) -> str:
    """The phase in which a session stands."""
    begun = [number for number, phase in enumerate(snapshot.phases, 1) if phase.attempt]
    if not begun:
        return "before its first phase"
    phase = snapshot.phases[begun[-1] - 1]
    when = "after" if phase.status == "completed" else "during"
    return f"{when} phase {begun[-1]} of {len(snapshot.phases)} ({phase.title})"
