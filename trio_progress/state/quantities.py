"""Numbers as they are kept: whatever real number comes in, what is kept is a plain int or float of its value.

1. The kind of what comes in never reaches what is kept: numpy's narrow numbers wrap and round where they are added to.
2. A number is what says so by itself: `__index__`, `__float__`, or numpy's manners (`dtype`, `shape`, `item()`), so
   that nothing has to be imported. Text is none, and neither is what has dimensions; an array or tensor without is one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from operator import index
from typing import Any, Final, SupportsFloat, SupportsIndex, TypeAlias

MAX_UNITS: Final = 2**53
"""Counts stay below this: beyond it neither JSON readers nor floats tell neighbours apart."""

Number: TypeAlias = SupportsFloat | SupportsIndex
"""What can be counted with: any real number, by its value. What is no number is refused when it is given."""


def number(what: str, value: object, *, above: float | None = None, least: float | None = 0) -> int | float:
    """A finite number within what JSON readers keep exactly, as a plain int or float of that value."""
    if type(value) is not int and type(value) is not float:
        value = _plain_number(what, value)
    if not -MAX_UNITS < value < MAX_UNITS:  # NaN and the infinities fail as well
        raise ValueError(f"{what} must be finite and below 2**53 in size, not {shown(value)}")
    if above is not None and not value > above:
        raise ValueError(f"{what} must be above {above}, not {value!r}")
    if least is not None and value < least:
        raise ValueError(f"{what} must be at least {least}, not {value!r}")
    return value


def seconds_or_never(what: str, value: object) -> int | float:
    """Seconds above 0, or `math.inf` for never."""
    plain = _plain_number(what, value)
    return math.inf if plain == math.inf else number(what, plain, above=0)


def whole(what: str, value: object, *, least: int = 1) -> int:
    """A whole number of at least `least` that stores can keep, as a plain int.

    A bool is none: it was meant for something else.
    """
    plain = None if isinstance(value, bool) else integer(value)
    if plain is None or plain < least:
        raise ValueError(f"{what} must be a whole number of at least {least}, not {shown(value)}")
    if plain >= MAX_UNITS:
        raise ValueError(f"{what} must be below 2**53, not {shown(value)}")
    return plain


def _plain_number(what: str, value: object) -> int | float:
    """The number by its value: of numpy, Decimal, Fraction, bool, whatever calls itself a number."""
    known = _KNOWN.get(type(value))
    if known is not None:
        return known(value)
    plain: int | float | None = scalar(value)
    if plain is None:
        plain = integer(value)
    if plain is not None:
        return int(plain) if isinstance(plain, int) else plain
    # By its own method only: `float()` also reads numbers from text, as a str, bytes or a buffer has it. What has a
    # `dtype` and is no scalar by now is complex, a time or text, of which numpy would give a part.
    if hasattr(type(value), "__float__") and not hasattr(value, "dtype"):
        try:
            return float(value)  # type: ignore[arg-type]
        except (OverflowError, ValueError):  # A Fraction beyond all floats; a signalling NaN.
            raise ValueError(f"{what} must be finite and below 2**53 in size, not {shown(value)}") from None
        except Exception:
            raise TypeError(f"{what} must be a number, not {shown(value)}") from None
    raise TypeError(f"{what} must be a number, not {shown(value)}")


def integer(value: object) -> int | None:
    """The value of what can stand for a whole number by itself (`__index__`); else None."""
    if _is_array(value):
        return None
    try:
        return int(index(value))  # type: ignore[arg-type] # what cannot raises
    except Exception:
        return None


def _is_array(value: object) -> bool:
    """Whether it has dimensions, as arrays and tensors have; those of none hold one number, and are one."""
    try:
        return getattr(value, "shape", ()) != ()
    except Exception:
        return True


def scalar(value: object) -> bool | int | float | None:
    """What a scalar of numpy holds, or an array or tensor without dimensions, as a plain value; None for all else.

    Known by their manners (`dtype`, `shape`, `item()`), so that nothing has to be imported.
    """
    kind = getattr(value, "dtype", None)
    if kind is None or getattr(value, "shape", None) != ():
        return None
    try:
        item: object = value.item()  # type: ignore[attr-defined]
        if hasattr(item, "dtype") and getattr(kind, "kind", None) in ("f", "V"):
            item = float(item)  # type: ignore[arg-type] # long doubles, and bfloat16, are items of themselves
        if getattr(value, "mask", False):
            return None  # Its value is missing, whatever stands in its place.
    except Exception:
        return None
    if type(item) in _KNOWN_AS and _is_numpy_scalar(type(value)):
        _KNOWN[type(value)] = _KNOWN_AS[type(item)]
    if isinstance(item, bool):
        return item
    if isinstance(item, int):
        return int(item)
    return float(item) if isinstance(item, float) else None


_KNOWN: Final[dict[type, Callable[[Any], int | float]]] = {bool: int}
"""How numbers of some types become plain ones: bool, and those of numpy's scalars that were met.

A loop over an array counts with each of its items, and the questions above take longer than all the rest.
"""

_KNOWN_AS: Final[Mapping[type, Callable[[Any], int | float]]] = {bool: int, int: int, float: float}
"""By the type of an item."""


def _is_numpy_scalar(kind: type) -> bool:
    """Whether all of that type are scalars: not so of arrays, of which some have dimensions, or missing values."""
    return any(base.__module__ == "numpy" and base.__name__ == "generic" for base in kind.__mro__)


def shown(value: object) -> str:
    """The value for an error message: short, whatever it is."""
    try:
        return f"{value!r:.200}"
    except Exception:  # An int of thousands of digits is not written out; and the repr may be anybody's.
        return f"a value of type {type(value).__name__}"
