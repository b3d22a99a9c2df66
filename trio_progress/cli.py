"""The command `trio-progress`. One function a command; each loads what it needs when it is called."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ._text import printable
from ._version import __version__

if TYPE_CHECKING:
    from .demo.answer import Answer
    from .session import Session
    from .state.snapshot import Snapshot

DEFAULT_QUESTION = "How does asyncio cancel a task?"

NOTHING_FOUND = 1
WRONG_USE = 2
"""The exit code for what cannot be done as it was asked; argparse uses the same."""

_EPILOG = """\
examples:
  trio-progress demo
      answer a question from the sources of your Python, and watch how it goes
  trio-progress demo "Where does pathlib expand the home directory?"
  trio-progress demo --corpus ~/notes "what did we decide about backups" > answer.txt
      the answer goes to standard output, the progress to standard error

`trio-progress COMMAND --help` tells more of each command.
"""

_DEMO = """\
Answers a question from a folder of text, with passages quoted at their file:line, and shows how it goes.

It is a small research engine and a real one: it classifies the question, plans queries, searches all files
concurrently, scores what it found, drops duplicates, follows up on the names that the best passages speak of,
composes an answer and checks each citation against its file. Nothing is sent anywhere and nothing is written.
"""

_DEMO_EPILOG = """\
exit codes: 0 answered; 1 nothing found; 2 wrong use, or nothing to search; 130 Ctrl-C; 143 SIGTERM
"""


def _parser() -> argparse.ArgumentParser:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="trio-progress",
        description="Progress of long, concurrent, multi-phase work, told truthfully and live.",
        epilog=_EPILOG,
        formatter_class=formatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    command = commands.add_parser(
        "demo",
        help="answer a question from local files, and watch the progress",
        description=_DEMO,
        epilog=_DEMO_EPILOG,
        formatter_class=formatter,
    )
    command.add_argument(
        "question", nargs="*", metavar="QUESTION", help=f"what you want to know; unless given: {DEFAULT_QUESTION!r}"
    )
    command.add_argument(
        "--corpus",
        metavar="DIR",
        help="the folder whose text files are searched; unless given: the standard library of this Python",
    )
    command.set_defaults(run=demo)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code.

    Args:
        argv: The arguments without the program's name; those of the process unless given.

    Raises:
        SystemExit: The arguments are wrong, or help was asked for.
    """
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return code


def demo(arguments: argparse.Namespace) -> int:
    """`trio-progress demo`: answers a question from local files, and shows how it goes."""
    import trio

    from .demo.answer import render
    from .demo.corpus import CorpusError, checked_folder, standard_library
    from .demo.questions import QuestionError, classify
    from .endings import leaves

    question = " ".join(arguments.question) if arguments.question else DEFAULT_QUESTION
    begun: list[Session] = []
    try:
        question = classify(question).text
        folder = checked_folder(standard_library() if arguments.corpus is None else arguments.corpus)
        outcome = trio.run(_research, question, folder, begun)
    except (CorpusError, QuestionError) as error:
        return _complain(str(error))
    except (KeyboardInterrupt, BaseExceptionGroup) as error:
        # From within nurseries a Ctrl-C arrives in a group.
        if not all(isinstance(leaf, KeyboardInterrupt) for leaf in leaves(error)):
            raise
        _say(_how_it_stood("Interrupted", begun))
        return 128 + signal.SIGINT
    if isinstance(outcome, int):
        _say(_how_it_stood(f"Stopped by {signal.Signals(outcome).name}", begun))
        return 128 + outcome
    code = _print(render(outcome, folder))
    return code if code or outcome.quotes or outcome.statements else NOTHING_FOUND


async def _research(question: str, folder: str, begun: list[Session]) -> Answer | int:
    """The answer, or the number of the signal that came before there was one."""
    from .demo.engine import PIPELINE, research
    from .terminal import open_display
    from .tracker import open_tracker

    answer: Answer | None = None
    async with open_tracker("memory:") as tracker:
        tracker.interrupt_on(signal.SIGTERM)
        async with open_display(tracker), tracker.session("demo", PIPELINE, title=question[:200]) as session:
            begun.append(session)
            answer = await research(session, question, folder)
    if answer is None:
        assert tracker.interrupted_by is not None
        return tracker.interrupted_by
    return answer


def _how_it_stood(what: str, begun: Sequence[Session]) -> str:
    """One line on a session that did not come to its end."""
    if not begun:
        return f"{what} before anything was begun."
    snapshot = begun[0].snapshot()
    found = snapshot.counters.get("sources_found", 0)
    return f"{what} {_place(snapshot)}: {snapshot.progress:.0%} done, {found:.0f} sources found so far."


def _place(snapshot: Snapshot) -> str:
    """Which phase a session had come to."""
    begun = [number for number, phase in enumerate(snapshot.phases, 1) if phase.attempt]
    if not begun:
        return "before its first phase"
    phase = snapshot.phases[begun[-1] - 1]
    when = "after" if phase.status == "completed" else "during"
    return f"{when} phase {begun[-1]} of {len(snapshot.phases)} ({phase.title})"


def _complain(message: str) -> int:
    _say(f"trio-progress: {message}")
    return WRONG_USE


def _say(message: str) -> None:
    print(printable(message), file=sys.stderr, flush=True)


def _print(text: str) -> int:
    """Writes text to standard output; the exit code, which is not 0 where nobody takes it."""
    try:
        # A character that the terminal's encoding lacks must not cost the rest of the text.
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # What is left in the buffer would be tried again, and fail loudly, when the interpreter exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return 128 + signal.SIGPIPE
        _say(f"trio-progress: the answer cannot be written: {error.strerror}")
        return 1
    return 0
