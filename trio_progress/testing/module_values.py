"""What the user's own modules hold that changes: the part of a state that no frame reaches.

1. All modules of the user's count that the functions which are running can name: their own, and those whose modules,
   functions and classes stand in it, and so on. Libraries do not.
2. Of a module those names count that a function assigns, there or from another of these modules, and those of values
   that can change; of its classes likewise the attributes.
"""

from __future__ import annotations

import dis
import functools
import itertools
import random
import sys
import types
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

import trio

from .timeline import is_own_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_CHANGE: Final = (
    *(list, dict, set, deque, bytearray),
    *(itertools.count, random.Random, functools._lru_cache_wrapper, trio.lowlevel.RunVar),
)
_UNCHANGED: Final = (
    *("trio._core", "trio._util", "outcome", "sniffio", "attr", "attrs", "pytest", "_pytest", "pluggy"),
    "hypothesis",  # A strategy leads to all that other tests of the process have left in its caches.
)


class Place(NamedTuple):
    """Where a value stands that may change."""

    holder: Mapping[str, Any]
    name: str


@final
class ModuleValues:
    """Finds out, once for each module, where values stand that may change."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        """The modules in which there are any."""
        self._places: dict[int, list[Place]] = {}

    def of(self, namespace: dict[str, Any]) -> list[object]:
        """All that a function of this module can change at module level: each name, and its value."""
        places = self._places.get(id(namespace))
        if places is None:
            places = self._places[id(namespace)] = self._find(namespace)
        return [part for place in places for part in (place.name, place.holder.get(place.name))]

    def _find(self, namespace: dict[str, Any]) -> list[Place]:
        modules = _reached(namespace)
        codes = {id(module): list(_all_codes(module)) for module in modules}
        attributes = {name for found in codes.values() for name in _stored(found, "STORE_ATTR", "DELETE_ATTR")}
        places: list[Place] = []
        for module in modules:
            names = _stored(codes[id(module)], "STORE_GLOBAL", "DELETE_GLOBAL")
            assigned = names | attributes
            names |= {name for name, value in module.items() if _counts(name, value, assigned)}
            found = [Place(module, name) for name in sorted(names)]
            for kind in _classes(module):
                held = vars(kind)
                found += [Place(held, name) for name, value in held.items() if _counts(name, value, attributes)]
            if found:
                self.names.add(str(module.get("__name__")))
            places += found
        return places


def _reached(namespace: dict[str, Any]) -> list[dict[str, Any]]:
    """The module, and all of the user's that can be named from there."""
    found: dict[int, dict[str, Any]] = {}
    todo = [namespace]
    while todo:
        module = todo.pop()
        if id(module) in found:
            continue
        found[id(module)] = module
        for value in list(module.values()):
            other = value
            if isinstance(value, (types.FunctionType, type)):
                other = sys.modules.get(value.__module__)
            if isinstance(other, types.ModuleType) and is_own_file(getattr(other, "__file__", None)):
                todo.append(vars(other))
    return list(found.values())


def _classes(module: dict[str, Any]) -> Iterator[type]:
    name = module.get("__name__")
    seen: set[type] = set()
    for value in list(module.values()):
        if isinstance(value, type) and value.__module__ == name and value not in seen:
            seen.add(value)
            yield value


def _all_codes(module: dict[str, Any]) -> Iterator[types.CodeType]:
    """All code of the module, also that within functions."""
    name = module.get("__name__")
    functions = [value for value in list(module.values()) if getattr(value, "__module__", None) == name]
    functions += [value for kind in _classes(module) for value in vars(kind).values()]
    todo: list[types.CodeType] = []
    for value in functions:
        function = getattr(value, "__func__", getattr(value, "fget", value))
        while (inner := getattr(function, "__wrapped__", None)) is not None:
            function = inner
        if isinstance(function, types.FunctionType):
            todo.append(function.__code__)
    while todo:
        code = todo.pop()
        yield code
        todo += [const for const in code.co_consts if isinstance(const, types.CodeType)]


def _stored(codes: Iterable[types.CodeType], *operations: str) -> set[str]:
    return {i.argval for code in codes for i in dis.get_instructions(code) if i.opname in operations}


def _counts(name: str, value: object, assigned: set[str]) -> bool:
    """Whether a value may be another one later, or may itself be changed."""
    if name.startswith("__") or isinstance(value, (types.ModuleType, property, staticmethod, classmethod)):
        return False
    if isinstance(value, (types.FunctionType, type)):
        return name in assigned
    return name in assigned or may_change(value)


def may_change(value: object) -> bool:
    """Whether a value may itself be changed by what the user runs: a container may, what is Python's own may not."""
    if isinstance(value, _CHANGE):
        return True
    module = type(value).__module__
    return not module.startswith(_UNCHANGED) and module.partition(".")[0] not in sys.stdlib_module_names
