"""What the runs of pipelines have taught, as Redis keeps it: learnt from at the end of a run, replaced, forgotten."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from redis.exceptions import ResponseError

from ...state.history import KEPT_FOR, PIPELINES_KEPT, Lesson, encode_history, learned
from ..base import Done, Outcome, SetHistory
from .answers import UnansweredError
from .reads import history_in
from .scripts import LEARN, Steps

if TYPE_CHECKING:
    from ...state.history import PipelineHistory
    from ..decoding import CorruptEntries
    from .keys import Keys

KEPT_MS: Final = int(KEPT_FOR * 1000)

LEARN_TRIES: Final = 3
"""How often the end of a run is learnt from, where others learn from theirs at the same moment."""


def learn_lesson(keys: Keys, corrupt: CorruptEntries, pipeline: str | None, lesson: Lesson) -> Steps[None]:
    """Makes the next history of a pipeline of the one that there is; where others do so too, it may be lost."""
    if pipeline is not None:
        with suppress(UnansweredError):  # The node that has it does not answer: that is none of the session's business.
            yield from _learn(keys.of(pipeline), corrupt, pipeline, lesson)


def _learn(keys: Keys, corrupt: CorruptEntries, pipeline: str, lesson: Lesson) -> Steps[None]:
    key = keys.history(pipeline)
    for _ in range(LEARN_TRIES):
        found, took = yield [("GET", key), ("HGETALL", keys.durations(pipeline))]
        before = found if isinstance(found, bytes) else b""
        history = learned(history_in(pipeline, before or took, corrupt), lesson)
        arguments = [before, encode_history(history), KEPT_MS, pipeline, repr(history.at)]
        arguments += [repr(history.at - KEPT_FOR), PIPELINES_KEPT]
        (reply,) = yield [(LEARN, 2, key, keys.histories, *arguments)]
        if isinstance(reply, list) and len(reply) == 2 and reply[0] == b"done":
            if isinstance(reply[1], list) and reply[1]:
                yield [("DEL", keys.history(name.decode())) for name in reply[1] if isinstance(name, bytes)]
            return
        if not isinstance(reply, list):
            return


def history_of(
    keys: Keys, corrupt: CorruptEntries, pipeline: str | None, took: object
) -> Steps[PipelineHistory | None]:
    """What earlier runs of a pipeline have taught.

    Args:
        keys: Of the partition of a session that was claimed.
        corrupt: Is told what cannot be read.
        pipeline: Its name.
        took: What was found of it there.
    """
    if pipeline is not None and (others := keys.of(pipeline)) is not keys:
        try:
            found, took = yield [("GET", others.history(pipeline)), ("HGETALL", others.durations(pipeline))]
        except UnansweredError:  # The session is claimed all the same.
            return None
        took = found if isinstance(found, bytes) else took
    return history_in(pipeline, took, corrupt)


def set_history(keys: Keys, write: SetHistory) -> Steps[Outcome]:
    """Replaces a history, or forgets it."""
    key, histories = keys.history(write.id), keys.histories
    if write.history is None:
        replies = yield [("DEL", key, keys.durations(write.id)), ("ZREM", histories, write.id)]
    else:
        replies = yield [
            ("SET", key, encode_history(write.history), "PX", KEPT_MS),
            ("ZADD", histories, repr(write.history.at), write.id),
        ]
    for reply in replies:
        if isinstance(reply, ResponseError):
            raise reply
    return Done(found=write.history is not None or replies[0] > 0)
