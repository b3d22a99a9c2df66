"""All that the tasks of a run reach, written down so that equal texts mean equal states.

1. What is reached: the frames of the tasks with all locals and the values on their stacks, and the objects behind
   these; cancel scopes, with their deadlines; context variables; random streams; and what the user's own
   modules hold that changes, see `module_values`.
2. Tasks and objects are named by the order in which they are met, so it does not matter which object it is.
3. What objects of C types hold that cannot be pickled is not seen; their types are remembered.
"""

from __future__ import annotations

import functools
import gc
import itertools
import random
import sys
import types
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from hashlib import blake2b
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, final

import trio

from .module_values import may_change
from .scheduler import Scheduler
from .timeline import frames_of, is_own_file

if TYPE_CHECKING:
    from .module_values import ModuleValues

    Task = trio.lowlevel.Task
    Look = Callable[[Any, Any], list[Any]]
    Kind = type[Any]

_ATOMS: Final = (int, float, complex, str, bytes, bool, type(None), type(...), range)
_NAMED: Final = (
    *(types.ModuleType, types.CodeType, types.WrapperDescriptorType, types.MethodDescriptorType),
    *(types.GetSetDescriptorType, types.MemberDescriptorType, type),
)
"""What does not change: its name is enough."""

_PASSED_OVER: Final = (types.FrameType, types.TracebackType, trio.abc.Clock, trio.abc.Instrument, Scheduler)
_COROUTINES: Final = (types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType)
_FRAMES: Final = ("cr_frame", "gi_frame", "ag_frame")
_EMPTY: Final[tuple[Any, ...]] = ([], (), range(0), range(1 << 70), "", {}, {}.values(), {}.items(), set(), b"")
_ITERATORS: Final[tuple[type, ...]] = tuple(type(iter(empty)) for empty in _EMPTY)
_REFERRING: Final = (
    *(types.CellType, types.MethodType, types.MappingProxyType, weakref.ReferenceType, functools.partial),
    *(property, staticmethod, classmethod),
)
"""C types that hold nothing but the objects to which they refer."""

_AWAITED: Final = ("async_generator_asend", "async_generator_athrow", "coroutine_wrapper")
"""Likewise; Python has no names for them."""

_MADE_OF_C: Final = (object, BaseException, Exception, list, tuple, dict, set, frozenset, deque, bytearray)
"""Types that a class may derive from and be seen whole."""

_HEAP_TYPE: Final = 1 << 9
_UNSET: Final = "unset"


@final
class Walk:
    """One walk over all that the tasks reach.

    Args:
        scheduler: Of the run.
        kinds: The live tasks, oldest first, and which of them are alike.
        able: Those that can run.
        last: The one that has run last, where that matters.
        modules: Where values stand that no frame reaches.
        unseen: To this the types are added that it could not see into.
        alone: What tasks reach as it is seen from them; for all walks over one state.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        kinds: dict[Task, str],
        able: set[Task],
        last: Task | None,
        modules: ModuleValues,
        unseen: set[str],
        alone: dict[Task, bytes],
    ) -> None:
        self._scheduler = scheduler
        self._kinds = kinds
        self._able = able
        self._last = last
        self._modules = modules
        self._seen_alone = alone
        self._unseen = unseen
        self._kept: list[object] = []
        self._namespaces: set[int] = set()
        self.met: dict[int, int] = {}
        """The objects by their addresses, in the order in which they were met."""
        self.names: dict[Task, int] = {}
        """The tasks, likewise."""
        self.out: list[object] = []

    def digest(self) -> bytes:
        """All that was met, in few bytes."""
        return blake2b(repr(self.out).encode(errors="replace"), digest_size=12).digest()

    def tasks(self, first: Task | None) -> None:
        """All tasks: the first one, then always the one that was met first, else one by where it stands."""
        left = dict.fromkeys(self._kinds)
        while left:
            met = next((task for task in self.names if task in left), None)
            task = first or met or self._ordered(left)[0]
            first = None
            del left[task]
            self._task(task)

    def _ordered(self, tasks: Iterable[Task]) -> list[Task]:
        """By what they are, not by their age: equal states are written down alike."""
        standing = {task: self._standing(task) for task in tasks}
        ordered = sorted(standing, key=standing.__getitem__)
        if any(standing[one] == standing[other] for one, other in pairwise(ordered)):
            ordered.sort(key=lambda task: (standing[task], self._alone(task)))
        return ordered

    def _standing(self, task: Task) -> tuple[Any, ...]:
        frames = [(frame.f_code.co_name, frame.f_lasti) for frame in frames_of(task)]
        number = self.names.get(task, len(self._kinds))
        return number, self._kinds[task], task in self._able, task is self._last, frames

    def _alone(self, task: Task) -> bytes:
        """What the task reaches, as it is seen from it."""
        if task not in self._seen_alone:
            self._seen_alone[task] = b""  # Should it be met in a set meanwhile.
            walk = Walk(
                self._scheduler, self._kinds, self._able, self._last, self._modules, self._unseen, self._seen_alone
            )
            walk._task(task)
            self._seen_alone[task] = walk.digest()
        return self._seen_alone[task]

    def _named(self, task: Task) -> int | str:
        if task not in self._kinds:
            return "over" if getattr(task.coro, "cr_frame", None) is None else task.name
        return self.names.setdefault(task, len(self.names))

    def _task(self, task: Task) -> None:
        """Where it stands, what it reaches, and what cancels it."""
        self.out.append(("task", self._named(task), self._kinds[task], task in self._able))
        self.out.append(self._scheduler.drawn(task))
        for thing in (task.coro, task._next_send, task.custom_sleep_data, task.parent_nursery):
            self.thing(thing)
        root = trio.lowlevel.current_root_task()
        assert root is not None
        for variable, value in task.context.items():
            self.out.append(variable.name)
            if root.context.get(variable, _UNSET) is value and not may_change(value):
                self.out.append(("as outside",))  # A kernel's event loop: it leads to all that the process has.
            else:
                self.thing(value)
        status: Any = task._cancel_status
        while status is not None:
            self.out.append((status.effectively_cancelled, status._scope.shield))
            self.thing(status._scope)
            status = status._parent

    def thing(self, root: Any) -> None:
        """An object, and all behind it."""
        out, met = self.out, self.met
        todo: list[Any] = [root]
        while todo:
            thing = todo.pop()
            kind = type(thing)
            if kind in _ATOMS:
                out.append(thing)
                continue
            number = met.get(id(thing))
            if number is not None:
                out.append(("met", number))
                continue
            if kind is trio.lowlevel.Task:
                out.append(("task", self._named(thing)))
                continue
            look = _look(kind)  # type: ignore[arg-type]  # mypy takes a type's __hash__ for its instances'
            if look is not None:
                met[id(thing)] = len(met)
                self._kept.append(thing)  # So that no other object gets its address meanwhile.
                behind = look(self, thing)
                out.append((kind.__name__, len(behind)))  # The number makes the whole unambiguous.
                todo += reversed(behind)

    # What is behind an object, by its type

    def _text(self, thing: Any) -> list[object]:
        return [repr(thing)]

    def _name(self, thing: Any) -> list[object]:
        return [str(getattr(thing, "__qualname__", ""))]

    def _scope(self, thing: Any) -> list[object]:
        return [thing._cancel_called, thing._cancel_status is not None, thing.shield, thing.deadline]

    def _nursery(self, thing: Any) -> list[object]:
        state = [len(thing._children), thing._nested_child_running, thing._closed, thing._pending_starts]
        return [*state, thing.cancel_scope, getattr(thing, "_pending_excs", None)]

    def _coroutine(self, thing: Any) -> list[object]:
        frame = next((found for name in _FRAMES if (found := getattr(thing, name, None)) is not None), None)
        if frame is None:
            return [thing.__qualname__, -1]
        # Which locals there are, for a referent does not say which of them it is.
        local = frame.f_locals
        inside: list[object] = [thing.__qualname__, frame.f_lasti, ",".join(sorted(local))]
        inside += [
            other for other in gc.get_referents(thing) if type(other) is not types.CodeType and other is not local
        ]
        return [*inside, *self._values_beside(frame.f_code.co_filename, frame.f_globals)]

    def _values_beside(self, file: str | None, namespace: dict[str, Any]) -> list[object]:
        """What the module holds in which some code stands, once in a walk."""
        if id(namespace) in self._namespaces:
            return []
        self._namespaces.add(id(namespace))
        return self._modules.of(namespace) if is_own_file(file) else []

    def _function(self, thing: Any) -> list[object]:
        held = [*(thing.__closure__ or ()), *(thing.__defaults__ or ())]
        beside = self._values_beside(thing.__code__.co_filename, thing.__globals__)
        return [thing.__qualname__, *held, thing.__kwdefaults__, thing.__dict__, *beside]

    def _built_in(self, thing: Any) -> list[object]:
        return [thing.__qualname__, thing.__self__]  # `append = items.append`

    def _iterator(self, thing: Any) -> list[object]:
        reduced = thing.__reduce__()
        return [*reduced[1], *reduced[2:]]

    def _exception(self, thing: Any) -> list[object]:
        return [*thing.args, vars(thing), thing.__cause__]

    def _cancelled(self, thing: Any) -> list[object]:
        return [thing.source, thing.reason]  # Not by which task, of which it has the address.

    def _random(self, thing: Any) -> list[object]:
        return [hash(thing.getstate())]

    def _cached(self, thing: Any) -> list[object]:
        return [*thing.cache_info()]

    def _run_variable(self, thing: Any) -> list[object]:
        return [thing.get(None)]

    def _referents(self, thing: Any) -> list[object]:
        return [other for other in gc.get_referents(thing) if other is not type(thing)]

    def _opaque(self, thing: Any) -> list[object]:
        """An object of a C type: what it would be pickled as, else those to which it refers."""
        try:
            reduced = thing.__reduce_ex__(4)
        except Exception:  # Whatever it is, it was not made for this.
            kind = type(thing)
            self._unseen.add(f"{kind.__module__}.{kind.__name__}".removeprefix("builtins."))
            return self._referents(thing)
        return [reduced] if isinstance(reduced, str) else list(reduced[1:])

    def _set(self, thing: Any) -> list[object]:
        tasks = self._ordered(task for task in self._kinds if task in thing)
        others = [item for item in thing if type(item) not in _ATOMS and type(item) is not trio.lowlevel.Task]
        if len(others) > 1:
            self._unseen.add(f"a set of {type(others[0]).__name__}")
            others.clear()
        atoms = sorted(repr(item) for item in thing if type(item) in _ATOMS)
        return [len(thing), *atoms, *tasks, *others, *self._attributes(thing)]

    def _dict(self, thing: Any) -> list[object]:
        return [*(part for item in thing.items() for part in item), *self._attributes(thing)]

    def _sequence(self, thing: Any) -> list[object]:
        return [len(thing), *thing, *self._attributes(thing)]

    def _bytes(self, thing: Any) -> list[object]:
        return [bytes(thing)]

    def _attributes(self, thing: Any) -> list[object]:
        behind: list[object] = []
        for name in _slots(type(thing)):  # type: ignore[arg-type]  # as above
            behind += (name, getattr(thing, name, _UNSET))
        attributes = getattr(thing, "__dict__", None)
        if attributes:
            behind.append(attributes)
        module = sys.modules.get(type(thing).__module__)
        if module is not None:
            behind += self._values_beside(getattr(module, "__file__", None), vars(module))
        return behind

    def _partly(self, thing: Any) -> list[object]:
        """An object of a class that derives from a C type."""
        kind = type(thing)
        self._unseen.add(f"{kind.__module__}.{kind.__name__}")
        return self._attributes(thing)


_LOOKS: Final[tuple[tuple[type | tuple[type, ...], Look | None], ...]] = (
    (_PASSED_OVER, None),
    (_ATOMS, Walk._text),
    (_NAMED, Walk._name),
    (trio.CancelScope, Walk._scope),
    (trio.Nursery, Walk._nursery),
    (_COROUTINES, Walk._coroutine),
    (types.FunctionType, Walk._function),
    ((types.BuiltinFunctionType, types.MethodWrapperType), Walk._built_in),
    (_ITERATORS, Walk._iterator),
    (trio.Cancelled, Walk._cancelled),
    (BaseException, Walk._exception),
    (random.Random, Walk._random),
    (itertools.count, Walk._text),
    (functools._lru_cache_wrapper, Walk._cached),
    (trio.lowlevel.RunVar, Walk._run_variable),
    (_REFERRING, Walk._referents),
    ((set, frozenset), Walk._set),
    (dict, Walk._dict),
    ((list, tuple, deque), Walk._sequence),
    ((bytearray, memoryview), Walk._bytes),
)


@functools.cache
def _look(kind: Any) -> Look | None:
    """How an object of a type is looked into; None: not at all."""
    for kinds, look in _LOOKS:
        if issubclass(kind, kinds):
            return look
    if kind.__module__.startswith("trio._core"):  # Not ParkingLot and its like, which are in trio.lowlevel.
        return None
    if kind.__name__ in _AWAITED:
        return Walk._referents
    if not kind.__flags__ & _HEAP_TYPE:
        return Walk._opaque
    if any(base not in _MADE_OF_C for base in kind.__mro__ if not base.__flags__ & _HEAP_TYPE):
        return Walk._partly
    has_attributes = hasattr(kind, "__dict__") and "__dict__" in {name for base in kind.__mro__ for name in vars(base)}
    return Walk._attributes if has_attributes or _slots(kind) or kind.__basicsize__ <= 16 else Walk._opaque


@functools.cache
def _slots(kind: Any) -> tuple[str, ...]:
    """The names of the slots of a type, as `getattr()` takes them."""
    names: list[str] = []
    for base in kind.__mro__:
        slots = vars(base).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__weakref__", "__dict__"):
                private = name.startswith("__") and not name.endswith("__")
                names.append(f"_{base.__name__.lstrip('_')}{name}" if private else name)
    return tuple(names)
