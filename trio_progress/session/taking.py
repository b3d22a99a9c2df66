"""What takes sessions that wait to be run, for all tasks of a process that want one; see `stores.taking`.

1. The tasks stand in a row here. However many there are, the store is asked once, by the committer, for as many
   sessions as are wanted; and it is asked again when it rings this process, or after a pause.
2. A task that is cancelled leaves the row. What was chosen for it, by a call that was under way, is given back.
3. A store that does not answer is asked again by the committer, as for any write; who does not wait is told.
4. What cannot be opened here is passed over for a while, or it would always be the oldest.
"""

from __future__ import annotations

import logging
import random
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, final

import trio

from ..errors import SessionClosedError, SessionNotFoundError, StoreError
from ..state import checks
from ..storage.committer import Once
from ..stores.taking import Chosen, Release, Spent, Take, Taken, Wanted
from ..telemetry.logs import BURST, log_event

if TYPE_CHECKING:
    from ..storage.committer import Committer
    from ..stores.base import Outcome
    from ..telemetry.statistics import Tally

LOOK: Final = 2.0
"""Seconds, a quarter more or less, after which a process that waits looks again."""

PASSED_OVER_FOR: Final = 30.0
"""Seconds in which what cannot be opened here is not tried again."""

TOLD: Final = 1000
"""Sessions of which it is remembered that they were logged."""


@final
@dataclass(slots=True, eq=False)
class _Place:
    """A task's place in the row."""

    wanted: Wanted
    waits: bool
    answered: trio.Event = field(default_factory=trio.Event)
    asked: bool = False
    """Whether the store has been asked for it."""
    outcome: Chosen | Exception | None = None
    record: bytes | None = None
    """What is stored of the session that was chosen, where the store has told."""

    def answer(self, outcome: Chosen | Exception, record: bytes | None = None) -> None:
        self.outcome, self.record = outcome, record
        self.answered.set()


@final
class SessionTaker:
    """See above. A writer of the committer's; its task is started with the first that waits.

    Args:
        committer: Asks the store.
        nursery: Of the tracker.
        tally: Whose throttle what is logged goes through.
        rng: For the pauses.
    """

    def __init__(self, committer: Committer, nursery: trio.Nursery, tally: Tally, rng: random.Random) -> None:
        self._committer = committer
        self._nursery = nursery
        self._tally = tally
        self._rng = rng
        self._process = checks.new_id()
        self._row: dict[_Place, None] = {}
        self._asked: list[list[_Place]] = []
        """The places that the store is asked for now: those with equal wishes together, as in `Take.wanted`."""
        self._waits = False
        """Whether the store has this process among those that wait, as far as is known."""
        self._passed_over: dict[str, float] = {}
        self._told: deque[Spent] = deque(maxlen=TOLD)
        self._looks = False
        self._news = trio.Event()
        self._closed = False

    @property
    def waiting(self) -> tuple[object, ...]:
        """The tasks that wait for a session."""
        return tuple(self._row)

    async def take(self, wanted: Wanted, *, wait: bool) -> tuple[Chosen, bytes | None]:
        """A session that is reserved for this process, and its record where the store has told.

        Whoever does not claim it gives it back.

        Cancelled, it leaves nothing reserved.

        Args:
            wanted: Which.
            wait: Whether to wait for one.

        Raises:
            SessionNotFoundError: There is none, and `wait` is False.
            SessionClosedError: The tracker is being left.
            StoreError: The store did not answer, and `wait` is False.
        """
        if self._closed:
            raise SessionClosedError("the tracker is being left: no session is taken any more")
        place = _Place(wanted, wait)
        self._row[place] = None
        if not self._looks:
            self._looks = True
            self._nursery.start_soon(self._look, name="session taker")
        self._news.set()
        self._ask()
        try:
            await place.answered.wait()
        except BaseException:
            if isinstance(place.outcome, Chosen):
                self.give_back(place.outcome.id)
            raise
        finally:
            self._leave(place)
        if isinstance(place.outcome, Exception):
            raise place.outcome
        assert place.outcome is not None
        return place.outcome, place.record

    def _ask(self) -> None:
        self._committer.submit(self)

    def _leave(self, place: _Place) -> None:
        self._row.pop(place, None)
        if not self._row and self._waits and not self._asked:
            self._stop_waiting()

    def _stop_waiting(self) -> None:
        self._waits = False
        self._committer.submit(Once(Release(self._process, leaves=True)))

    def give_back(self, session_id: str) -> None:
        """Gives back what was chosen and has not been claimed, soon; should that fail, the reservation lapses."""
        self._committer.submit(Once(Release(self._process, (session_id,))))

    def pass_over(self, session_id: str) -> None:
        """Gives back what cannot be opened here, and does not take it again for a while."""
        self._passed_over[session_id] = trio.current_time() + PASSED_OVER_FOR
        self.give_back(session_id)

    def rung(self, process: str) -> None:
        """A process was asked to take; perhaps this one."""
        if process == self._process and self._row:
            self._ask()

    def listens(self) -> None:
        """From now on it is heard who is rung: whoever waits already may have been before."""
        if self._row:
            self._ask()

    def close(self) -> None:
        """The tracker is being left: who waits is told, and the store as well."""
        self._closed = True
        for place in list(self._row):
            place.answer(SessionClosedError("the tracker is being left: no session is taken any more"))
        self._row.clear()
        if self._waits and not self._asked:
            self._stop_waiting()
        self._news.set()

    # As a writer of the committer's

    def operation(self) -> Take | None:
        """What is wanted now, by all."""
        self._asked = []
        if not self._row:
            return None
        alike: dict[tuple[object, ...], list[_Place]] = {}
        for place in self._row:
            place.asked = True
            wanted = place.wanted
            kind = (tuple(wanted.pipelines), tuple(sorted(wanted.labels.items())), wanted.max_attempts)
            alike.setdefault(kind, []).append(place)
        self._asked = list(alike.values())
        now = trio.current_time()
        self._passed_over = {name: until for name, until in self._passed_over.items() if until > now}
        wanted_now = [replace(places[0].wanted, count=len(places)) for places in self._asked]
        return Take(self._process, wanted_now, frozenset(self._passed_over))

    def settled(self, outcome: Outcome) -> None:
        """Hands out what was chosen, in the order in which the tasks came."""
        asked, self._asked = self._asked, []
        if not isinstance(outcome, Taken):
            self._refuse(asked, StoreError(f"no session can be taken: the store answered {outcome!r:.200}"))
            return
        left = [[place for place in places if place in self._row] for places in asked]
        self._waits = len(outcome.sessions) < sum(map(len, asked))
        for chosen in outcome.sessions:
            if left[chosen.wanted]:
                place = left[chosen.wanted].pop(0)
                del self._row[place]
                place.answer(chosen, outcome.records.get(chosen.id))
            else:
                self.give_back(chosen.id)
        for place in [place for places in left for place in places if not place.waits]:
            del self._row[place]
            place.answer(SessionNotFoundError("", _none_waits(place.wanted)))
        if self._waits and not self._row:
            self._stop_waiting()
        for spent in outcome.spent:
            self._tell(spent)

    def failed(self, error: Exception) -> bool:
        """The store did not answer: who does not wait is told."""
        asked, self._asked = self._asked, []
        self._waits = bool(asked)  # It may have been entered.
        self._refuse([[place for place in places if not place.waits or self._closed] for places in asked], error)
        return bool(self._row)

    def _refuse(self, asked: list[list[_Place]], error: Exception) -> None:
        if not isinstance(error, StoreError):
            error = StoreError(f"the store did not answer: {error}")
        for place in [place for places in asked for place in places if place in self._row]:
            del self._row[place]
            place.answer(error)

    def _tell(self, spent: Spent) -> None:
        if spent in self._told:
            return
        self._told.append(spent)
        log_event(
            logging.WARNING,
            "session_left_waiting",
            "session %r was begun %d times and did not end: it is left as it is; see why, and go on with it by its id, "
            "declare it again or delete it",
            spent.id,
            spent.attempts,
            throttle=self._tally.throttle,
            most=BURST,
            session=spent.id,
        )

    # Looking again

    async def _look(self) -> None:
        """Asks again after a pause, as long as somebody waits; what is rung is asked for at once."""
        while not self._closed:
            if not self._row:
                self._news = trio.Event()
                await self._news.wait()
                continue
            await trio.sleep(LOOK * self._rng.uniform(0.75, 1.25))
            if self._row and not self._asked:
                self._ask()


def _none_waits(wanted: Wanted) -> str:
    several = "s" if len(wanted.pipelines or ()) > 1 else ""
    of = f" of the pipeline{several} {', '.join(map(repr, wanted.pipelines))}" if wanted.pipelines else ""
    labelled = f" with the labels {dict(wanted.labels)!r}" if wanted.labels else ""
    return (
        f"no session{of}{labelled} waits to be run: none is queued, interrupted or lost that was begun fewer than "
        f"{wanted.max_attempts} times; `wait=True` waits for one"
    )
