"""What `open_tracker()` and its like give: an `async with`, which says what to do where it is used otherwise."""

from __future__ import annotations

import sys
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Generic, NoReturn, TypeVar, final

import trio

T_co = TypeVar("T_co", covariant=True)


@final
class Opening(AbstractAsyncContextManager[T_co, bool | None], Generic[T_co]):
    """A context manager that waits to be entered.

    Args:
        call: How it was made, as users write it: `open_tracker()`.
        name: What the block calls its value: `tracker`.
        manager: What it does.
    """

    __slots__ = ("_call", "_manager", "_name")

    def __init__(self, call: str, name: str, manager: AbstractAsyncContextManager[T_co, bool | None]) -> None:
        self._call = call
        self._name = name
        self._manager = manager

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> T_co:
        require_trio(self._call)
        return await self._manager.__aenter__()

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._manager.__aexit__(kind, error, traceback)  # noqa: ASYNC102 - it shields itself

    def __repr__(self) -> str:
        return f"<{self._call}, to be entered by `{self._usage}`>"

    @property
    def _usage(self) -> str:
        return f"async with {self._call} as {self._name}"

    if not TYPE_CHECKING:  # Type checkers know without these that there is no such use.

        def __enter__(self) -> NoReturn:
            raise TypeError(f"use `{self._usage}`, not `with`: entering and leaving it waits")

        def __exit__(self, *_: object) -> None:
            raise AssertionError("never entered")

        def __await__(self) -> NoReturn:
            raise TypeError(f"use `{self._usage}`, not `await`: it has to be left as well")

        def __aiter__(self) -> NoReturn:
            raise TypeError(f"use `{self._usage}`, and iterate in its block")

        def __getattr__(self, name: str) -> NoReturn:
            if name.startswith("_"):
                raise AttributeError(name)
            raise AttributeError(
                f"{self._call} has not been entered, so there is no {name!r} yet: use `{self._usage}:`, and "
                f"`{self._name}.{name}` in its block"
            )


@final
class BodyError:
    """Keeps what comes out of a block's body, so that it leaves as itself and not in a nursery's group.

    `with kept:` around the `yield`, within the nursery; `kept.reraise()` after the nursery. In between the tasks
    that the body used can be ended in order.
    """

    __slots__ = ("error",)

    def __init__(self) -> None:
        self.error: BaseException | None = None

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self.error = error
        return error is not None

    def reraise(self) -> None:
        """Raises the body's exception, if it had one."""
        error, self.error = self.error, None
        if error is not None:
            raise error


def require_trio(call: str) -> None:
    """Says what to do where there is no Trio task.

    Args:
        call: What needs one, as users write it.

    Raises:
        RuntimeError: This is no task of Trio's.
    """
    if trio.lowlevel.in_trio_task():
        return
    if _asyncio_runs():
        if "ipykernel" in sys.modules:
            raise RuntimeError(
                f"{call} needs Trio, and cells of a notebook await on asyncio: run `%autoawait trio` in a cell of its "
                "own before this one, or begin by trio.run(main)"
            )
        raise RuntimeError(
            f"{call} needs Trio, and what runs here is asyncio. Where you can, begin by trio.run(main). Else run the "
            "work that is followed in a thread: await asyncio.to_thread(trio.run, work); and read, declare and cancel "
            "sessions by trio_progress.blocking.Client, with asyncio.to_thread()"
        )
    raise RuntimeError(f"{call} needs a running Trio task, and there is none here: call it within trio.run(main)")


def _asyncio_runs() -> bool:
    asyncio = sys.modules.get("asyncio")  # Who runs it has imported it.
    if asyncio is None:
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
