"""The state of a run as a digest: two schedules that have led to one state go on alike, whatever was before.

1. The state is what the live tasks can reach: their frames with all locals and the values on their stacks, and the
   objects behind these; who can run and who ran last; cancel scopes, with their deadlines seen from now; random
   streams; and the values at module level of the modules whose functions are running, where these change them.
2. Tasks and objects are named by the order in which they are met, the tasks by age: by age is how the default order
   chooses. So it does not matter which object it is, nor how many tasks are over already.
3. What objects of C types hold cannot be seen; their types are remembered, and told with the result.
"""

from __future__ import annotations

import dis
import gc
import random
import sys
import types
from collections import deque
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, final

import trio

from .scheduler import Scheduler
from .timeline import is_own_code

if TYPE_CHECKING:
    from collections.abc import Iterable

_ATOMS: Final = (int, float, complex, str, bytes, bool, type(None), type(...), range)
_NAMED: Final = (
    types.ModuleType,
    types.BuiltinFunctionType,
    types.CodeType,
    types.MethodWrapperType,
    types.WrapperDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
    type,
)
"""What does not change: its name is enough."""

_PASSED_OVER: Final = (types.FrameType, types.TracebackType, trio.abc.Clock, trio.abc.Instrument, Scheduler)
_COROUTINES: Final = (types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType)
_EMPTY: Final[tuple[Any, ...]] = ([], (), range(0), range(1 << 70), "", {}, {}.values(), {}.items(), set(), b"")
_ITERATORS: Final[tuple[type, ...]] = tuple(type(iter(empty)) for empty in _EMPTY)
_CONTAINERS: Final = (list, tuple, dict, set, frozenset, deque, bytearray)
_UNCHANGED: Final = ("trio", "outcome", "sniffio", "builtins", "attr", "attrs")


@final
class States:
    """Makes digests of states, and remembers what it could not see."""

    def __init__(self) -> None:
        self.unseen: set[str] = set()
        """Types of objects into which it could not see."""
        self.modules: set[str] = set()
        """Whose values at module level are part of the state."""
        self._stored: dict[str, tuple[str, ...]] = {}

    def digest(
        self, scheduler: Scheduler, able: Iterable[trio.lowlevel.Task], last: trio.lowlevel.Task | None
    ) -> bytes:
        """The state between two steps."""
        visit = _Visit(self, scheduler.live())
        runnable = set(able)
        visit.out.append((visit.tasks.get(last) if last in runnable else None, round(scheduler.left, 9)))
        visit.out.append((scheduler.draws(), hash(random.getstate())))
        for task in visit.tasks:
            visit.task(task, task in runnable)
        for thing in scheduler.shared_values():
            visit.thing(thing)
        return blake2b(repr(visit.out).encode(errors="replace"), digest_size=12).digest()

    def sentence(self) -> str:
        """What the state is made of, and what it could not see."""
        modules = f" and what {', '.join(sorted(self.modules))} change at module level" if self.modules else ""
        blind = f"it could not see into {', '.join(sorted(self.unseen))}" if self.unseen else "it saw into all of these"
        return (
            f"the state is what the tasks' frames reach, `shared()`{modules}; {blind}, and it does not know what other "
            "modules hold"
        )

    def changed_globals(self, namespace: dict[str, Any]) -> tuple[str, ...]:
        """The names at the level of a module that its functions assign, and those of mutable values."""
        name = str(namespace.get("__name__"))
        if name not in self._stored:
            assigned: set[str] = set()
            todo = [code for value in list(namespace.values()) for code in _codes(value, name)]
            while todo:
                code = todo.pop()
                assigned |= {
                    i.argval for i in dis.get_instructions(code) if i.opname in ("STORE_GLOBAL", "DELETE_GLOBAL")
                }
                todo += [const for const in code.co_consts if isinstance(const, types.CodeType)]
            self._stored[name] = tuple(
                key
                for key, value in namespace.items()
                if not key.startswith("__") and (key in assigned or _can_change(value))
            )
        return self._stored[name]


@final
class _Visit:
    """One walk over all that the tasks reach."""

    def __init__(self, states: States, live: list[trio.lowlevel.Task]) -> None:
        self._states = states
        self._now = trio.lowlevel.current_clock().current_time() if trio.lowlevel.in_trio_run() else 0.0
        self._met: dict[int, int] = {}
        self._kept: list[object] = []
        self._namespaces: set[int] = set()
        self.tasks = {task: rank for rank, task in enumerate(live)}
        self.out: list[object] = []

    def task(self, task: trio.lowlevel.Task, runnable: bool) -> None:
        """A task: where it stands, what it reaches, and what cancels it."""
        self.out.append(("task", runnable))
        self.thing(task.coro)
        self.thing(task._next_send)
        status: Any = task._cancel_status
        while status is not None:
            self.out.append((status.effectively_cancelled, status._scope.shield))
            status = status._parent

    def thing(self, root: object) -> None:
        """An object, and all behind it."""
        todo = [root]
        while todo:
            thing = todo.pop()
            if isinstance(thing, _ATOMS):
                self.out.append(thing if type(thing) in _ATOMS else (type(thing).__name__, repr(thing)))
            elif isinstance(thing, trio.lowlevel.Task):
                self.out.append(("task", self.tasks.get(thing)))
            elif id(thing) in self._met:
                self.out.append(("met", self._met[id(thing)]))
            elif isinstance(thing, _NAMED):
                self.out.append(getattr(thing, "__qualname__", type(thing).__name__))
            elif not isinstance(thing, _PASSED_OVER):
                self._met[id(thing)] = len(self._met)
                self._kept.append(thing)  # So that no other object gets its address meanwhile.
                self.out.append(type(thing).__name__)
                todo += reversed(self._behind(thing))

    def _behind(self, thing: Any) -> list[object]:
        kind = type(thing)
        if kind is trio.CancelScope:
            deadline = round(thing.deadline - self._now, 9) if thing.deadline < 1e9 else None
            self.out.append((thing._cancel_called, thing._cancel_status is not None, thing.shield, deadline))
            return []
        if kind is trio.Nursery:
            self.out.append((len(thing._children), len(thing._pending_excs), thing._nested_child_running))
            return [thing.cancel_scope]
        if isinstance(thing, _COROUTINES):
            return self._coroutine(thing)
        if kind is types.FunctionType:
            self.out.append(thing.__qualname__)
            return [*(thing.__closure__ or ()), *(thing.__defaults__ or ())]
        if isinstance(thing, _ITERATORS):
            reduced = thing.__reduce__()
            return [*reduced[1], *reduced[2:]]
        if isinstance(thing, BaseException):
            return list(thing.args)
        if isinstance(thing, random.Random):
            self.out.append(hash(thing.getstate()))
            return []
        return self._plain(thing)

    def _coroutine(self, thing: Any) -> list[object]:
        frame = getattr(thing, "cr_frame", None) or getattr(thing, "gi_frame", None) or getattr(thing, "ag_frame", None)
        self.out.append((thing.__qualname__, frame.f_lasti if frame else -1))
        if frame is None:
            return []
        inside = [other for other in gc.get_referents(thing) if not isinstance(other, (types.CodeType, str))]
        namespace = frame.f_globals
        if is_own_code(frame.f_code) and id(namespace) not in self._namespaces:
            self._namespaces.add(id(namespace))
            names = self._states.changed_globals(namespace)
            if names:
                self._states.modules.add(str(namespace.get("__name__")))
            inside += [value for name in names for value in (name, namespace.get(name))]
        return inside

    def _plain(self, thing: Any) -> list[object]:
        behind: list[object] = []
        if isinstance(thing, (set, frozenset)):
            atoms = sorted(repr(item) for item in thing if isinstance(item, _ATOMS))
            tasks = sorted(self.tasks.get(item, -1) for item in thing if isinstance(item, trio.lowlevel.Task))
            others = [item for item in thing if not isinstance(item, (*_ATOMS, trio.lowlevel.Task))]
            self.out.append((atoms, tasks, len(others)))
            if len(others) > 1:
                self._states.unseen.add(f"a set of {type(others[0]).__name__}")
            behind += others[:1]
        elif isinstance(thing, dict):
            behind += [part for item in thing.items() for part in item]
        elif isinstance(thing, (list, tuple, deque)):
            behind += thing
        elif isinstance(thing, (bytearray, memoryview)):
            self.out.append(bytes(thing))
        module = str(getattr(type(thing), "__module__", ""))
        attributes = getattr(thing, "__dict__", None)
        if module.startswith("trio._core") and type(thing).__name__ not in _VISITED_IN_TRIO:
            return []
        if isinstance(attributes, dict):
            behind += [part for item in attributes.items() for part in item]
        for base in type(thing).__mro__:
            slots = base.__dict__.get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                if name not in ("__weakref__", "__dict__"):
                    mangled = f"_{base.__name__.lstrip('_')}{name}" if name.startswith("__") else name
                    behind.append(getattr(thing, mangled, None))
        if not behind and not isinstance(thing, _CONTAINERS) and not isinstance(attributes, dict):
            behind = [other for other in gc.get_referents(thing) if other is not type(thing)]
            if not gc.is_tracked(thing) and type(thing) is not object:
                self._states.unseen.add(f"{module}.{type(thing).__name__}".removeprefix("builtins."))
        return behind


_VISITED_IN_TRIO: Final = ("ParkingLot", "Value", "Error", "RunVar")


def _codes(value: object, module: str) -> Iterable[types.CodeType]:
    if isinstance(value, types.FunctionType) and value.__module__ == module:
        yield value.__code__
    elif isinstance(value, type) and value.__module__ == module:
        for attribute in vars(value).values():
            function = getattr(attribute, "__func__", getattr(attribute, "fget", attribute))
            if isinstance(function, types.FunctionType):
                yield function.__code__


def _can_change(value: object) -> bool:
    """Whether a value at module level is one that may be changed without being assigned."""
    if isinstance(value, (*_ATOMS, *_NAMED, types.FunctionType, frozenset, tuple)):
        return False
    module = sys.modules.get(type(value).__module__)
    if isinstance(value, (list, dict, set, deque, bytearray)):
        return True
    return module is not None and module.__name__.partition(".")[0] not in (*_UNCHANGED, *sys.stdlib_module_names)
