"""`with phase.tqdm():`, in which the bars of libraries that use tqdm count on a phase, and draw nothing.

1. Five methods of tqdm's class are replaced while at least one such block is open, and put back when the last one is
   left. What somebody else has replaced meanwhile stays theirs; what they call beneath does what tqdm does.
2. A bar belongs to the block in which it was made: by its task, or by a task or a worker thread that was begun there. A
   thread without a context of Trio's counts where one block alone is open.
3. Of bars that are open in one thread only the first counts: what runs within it are parts of its units.
4. Totals add up where nobody has given the phase one. There is none while a bar runs that has none.
5. Nothing of this makes a library fail: what cannot be counted is not, and a forked process has tqdm as it was.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, final

from ..state.quantities import number

if TYPE_CHECKING:
    from .thread_ticker import NullTicker, ThreadTicker

_BAR: Final = "_trio_progress_bar"
_POSITIONAL: Final = 10
"""So many arguments of a bar may stand without their names; behind them comes `disable`."""

_current: ContextVar[_Block | None] = ContextVar("trio_progress_tqdm", default=None)
_lock: Final = threading.Lock()
_open: Final[list[_Block]] = []
_ours: Final[dict[str, object]] = {}
_theirs: Final[dict[str, object]] = {}


@final
class _Block:
    """One `with` block, and what its bars have come to."""

    def __init__(self, ticker: ThreadTicker | NullTicker, *, sums: bool) -> None:
        self.ticker: Final = ticker
        self.process: Final = os.getpid()
        self.thread: Final = threading.get_ident()
        self.left = False
        self._sums = sums
        self._lock = threading.Lock()
        self._totals: dict[_Bar, float | None] = {}
        self._outermost: dict[int, weakref.ref[Any]] = {}

    def take(self, bar: Any) -> _Bar:
        """A bar that was made now."""
        thread = threading.get_ident()
        with self._lock:
            around = self._outermost.get(thread, lambda: None)()
            inner = around is not None and not around.__dict__[_BAR].closed
            if not inner:
                self._outermost[thread] = weakref.ref(bar)
        return _Bar(self, counts=not inner)

    def retotal(self, bar: _Bar, total: float | None) -> None:
        """Takes what a bar says now that there is to do."""
        if not self._sums:
            return
        with self._lock:
            self._totals[bar] = total
            known = [one for one in self._totals.values() if one is not None]
            self._tell(total=sum(known) if len(known) == len(self._totals) else None)

    def advance(self, n: float) -> None:
        """Counts `n` more."""
        try:
            self.ticker.advance(n)
        except (ValueError, TypeError):
            pass  # What a library counts is its own affair.

    def _tell(self, total: float | None) -> None:
        try:
            self.ticker.update(total=total)
        except (ValueError, TypeError):
            pass


@final
class _Bar:
    """What a bar of tqdm has counted on the phase."""

    def __init__(self, block: _Block, *, counts: bool) -> None:
        self.closed = False
        self._block = block
        self._counts = counts
        self._before: float = 0
        self._counted: float = 0
        self._total: object = self  # As nothing was told yet.

    def follow(self, bar: Any) -> None:
        """Counts how far the bar is now. It may go back, and nothing is counted twice."""
        if not self._counts or self._block.left or self._block.process != os.getpid():
            return
        if bar.total != self._total:
            self._total = bar.total
            self._block.retotal(self, None if bar.total is None else self._before + bar.total)
        n = bar.n - self._counted
        if n > 0:
            self._counted = bar.n
            self._block.advance(n)

    def begin_again(self, bar: Any) -> None:
        """The bar counts from nothing again: what there was stays."""
        self._before += self._counted
        self._counted = 0
        self._total = self
        self.closed = False
        self.follow(bar)

    def close(self, bar: Any) -> None:
        """The bar is over. Of one that did not know how much there is to do it is known now."""
        if self.closed:
            return
        self.follow(bar)
        self.closed = True
        if self._counts and bar.total is None and not self._block.left and self._block.process == os.getpid():
            self._block.retotal(self, self._before + self._counted)


@contextmanager
def counting_bars(ticker: ThreadTicker | NullTicker, *, sums: bool) -> Iterator[None]:
    """The block.

    Args:
        ticker: What counts on the phase from any thread.
        sums: Whether the phase's total is what the bars' totals add up to.

    Raises:
        ModuleNotFoundError: tqdm is not installed.
    """
    from tqdm.std import tqdm

    block = _Block(ticker, sums=sums)
    before = _current.get()
    with _lock:
        if not _open:
            _replace(tqdm)
        _open.append(block)
    _current.set(block)
    try:
        yield
    finally:
        _current.set(before)
        block.left = True
        with _lock:
            _open.remove(block)
            if not _open:
                _put_back(tqdm)


def _block_of_here() -> _Block | None:
    block = _current.get()
    if block is None and len(_open) == 1 and _open[0].thread != threading.get_ident():
        block = _open[0]
    return None if block is None or block.left or block.process != os.getpid() else block


def _replace(tqdm: Any) -> None:
    for name, method in _methods(tqdm).items():
        _theirs[name] = tqdm.__dict__[name]
        _ours[name] = method
        setattr(tqdm, name, method)


def _put_back(tqdm: Any) -> None:
    for name, method in _ours.items():
        if tqdm.__dict__.get(name) is method:
            setattr(tqdm, name, _theirs[name])
    _ours.clear()
    _theirs.clear()


def _by_value(n: Any) -> Any:
    """A number as a plain one: numpy's narrow ones wrap where they are added to, and Decimals refuse floats."""
    if type(n) is int or type(n) is float:
        return n
    try:
        return number("n", n, least=None)
    except (ValueError, TypeError):
        return n  # What tqdm makes of it is for tqdm to say.


def _methods(tqdm: Any) -> dict[str, Callable[..., Any]]:
    """What tqdm's class has while a block is open, by name."""
    make, iterate, update, reset, close = (
        getattr(tqdm, name) for name in ("__init__", "__iter__", "update", "reset", "close")
    )

    def ours(bar: Any) -> _Bar | None:
        found: _Bar | None = bar.__dict__.get(_BAR)
        return found

    def making(bar: Any, *args: Any, **keywords: Any) -> None:
        block = _block_of_here()
        if block is None or len(args) > _POSITIONAL:
            make(bar, *args, **keywords)
            return
        # One that is disabled has all of its methods, and draws nothing, also in a notebook.
        make(bar, *args, **{**keywords, "disable": True})
        bar.__dict__[_BAR] = kept = block.take(bar)
        kept.follow(bar)

    def iterating(bar: Any) -> Iterator[Any]:
        kept = ours(bar)
        items: Iterator[Any] = iterate(bar)
        return items if kept is None else counted(bar, kept, bar.iterable)

    def counted(bar: Any, kept: _Bar, items: Any) -> Iterator[Any]:
        try:
            for item in items:
                yield item
                bar.n += 1
                kept.follow(bar)
        finally:
            kept.close(bar)

    def updating(bar: Any, n: float = 1) -> Any:
        kept = ours(bar)
        if kept is None:
            return update(bar, n)
        bar.n += _by_value(n)
        kept.follow(bar)
        return None

    def resetting(bar: Any, total: float | None = None) -> None:
        reset(bar, total)
        kept = ours(bar)
        if kept is not None:
            kept.begin_again(bar)

    def closing(bar: Any) -> None:
        close(bar)
        kept = ours(bar)
        if kept is not None:
            kept.close(bar)

    return {"__init__": making, "__iter__": iterating, "update": updating, "reset": resetting, "close": closing}
