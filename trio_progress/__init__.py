"""Progress of long, concurrent, multi-phase work, true and live.

A name is loaded with what it needs when it is asked for: the command line and `trio_progress.blocking` need a part of
this package, and their users wait for each start. The names are listed in `__init__.pyi`, for type checkers and for
this module.
"""

import logging as _logging
from importlib import import_module as _import_module


def _listed() -> dict[str, str]:
    """The module of each public name, from the lines `from .MODULE import NAME as NAME` of the list."""
    # By the loader, which also finds it where the package lies in an archive.
    text: bytes = __loader__.get_data(__file__ + "i")
    lines = [line.split() for line in text.decode().splitlines() if line.startswith("from ")]
    return {name: module for _, module, _, name, *_ in lines}


_MODULES = _listed()
_EXTRA = {"h11": "server", "trio_websocket": "server"}
"""The packages of an extra that its modules cannot be loaded without."""


def _offered() -> list[str]:
    """The names that can be loaded. Those of an extra that is not installed raise the error that names the extra."""
    missing = {extra for package, extra in _EXTRA.items() if not _installed(package)}
    return [name for name, module in _MODULES.items() if module.split(".")[1] not in missing]


def _installed(package: str) -> bool:
    from importlib.util import find_spec

    try:
        return find_spec(package) is not None
    except ValueError:
        return False


def __getattr__(name: str) -> object:
    if name == "__all__":  # For `from trio_progress import *` and help(), which load all of it.
        return [name for name in _offered() if not name.startswith("_")]
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(_import_module(_MODULES[name], __name__), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_offered()})


_logging.getLogger("trio_progress").addHandler(_logging.NullHandler())
