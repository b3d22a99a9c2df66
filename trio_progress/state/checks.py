"""What is let in: each check returns the value as it is kept, or raises and names what was given and allowed."""

from __future__ import annotations

import math
import re
import uuid
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ..protocol.labels import listed_labels
from . import quantities
from .limits import MAX_JSON_DEPTH, MAX_UNITS, Limits
from .quantities import integer, scalar, shown

number = quantities.number
whole = quantities.whole
seconds_or_never = quantities.seconds_or_never

_SESSION_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_LONGEST_INT: Final = len(str(-MAX_UNITS))
_encode = msgspec.json.Encoder().encode


def session_id(value: object) -> str:
    """A session's id: 1 to 128 of `A-Z a-z 0-9 . _ : -`; safe in a key, and no path by itself."""
    if type(value) is not str or not _SESSION_ID.fullmatch(value) or value in (".", ".."):
        raise ValueError(
            f"a session id must be 1 to 128 of A-Z a-z 0-9 . _ : - (and not '.' or '..'), not {value!r:.200}"
        )
    return value


def parent_id(value: object, of: str) -> str:
    """The id of the session that the session `of` is a part of."""
    parent = session_id(value)
    if parent == of:
        raise ValueError(f"session {of!r} cannot be its own parent: give the id of the session that it is a part of")
    return parent


def new_id() -> str:
    """A session id that nobody has."""
    return uuid.uuid4().hex


def well_formed(text: str) -> str:
    """The text without lone surrogates, which UTF-8 has no bytes for (odd file names bring them)."""
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def name(what: str, value: object, limits: Limits = Limits()) -> str:  # noqa: B008 - a frozen value
    """A name: not empty, no control characters, bounded."""
    if type(value) is not str:
        raise TypeError(f"{what} must be a str, not {value!r:.200}")
    if 0 < len(value) <= limits.text and value.isascii() and value.isprintable():
        return value
    if not value or len(value) > limits.text or _CONTROL.search(value) or well_formed(value) != value:
        raise ValueError(
            f"{what} must be 1 to {limits.text} characters (limit 'text'), none of control, not {value!r:.200}"
        )
    return value


def title(what: str, value: object, limits: Limits = Limits()) -> str:  # noqa: B008 - a frozen value
    """Text of one line that may be empty."""
    if type(value) is not str:
        raise TypeError(f"{what} must be a str, not {value!r:.200}")
    if len(value) > limits.text:
        raise ValueError(f"{what} must not be longer than {limits.text} characters (limit 'text'), not {len(value)}")
    return well_formed(value)


def message(what: str, value: object, limits: Limits) -> str | None:
    """A message for people, or None; too long a one is cut, for it often quotes what others wrote."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a str or None, not {value!r:.200}")
    if len(value) > limits.message:
        value = value[: limits.message - 1] + "…"
    return well_formed(str.__str__(value))


def labels(value: Mapping[str, str] | None, limits: Limits) -> dict[str, str]:
    """Labels: short texts by short names."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(f"labels must be a mapping of str to str, not {value!r:.200}")
    if len(value) > limits.labels:
        raise ValueError(f"a session has at most {limits.labels} labels (limit 'labels'), not {len(value)}")
    return {name("a label's name", key, limits): title(f"label {key!r}", text, limits) for key, text in value.items()}


def listed_by(labels_: Mapping[str, str] | None, parent: object, limits: Limits) -> Mapping[str, str]:
    """What a list asks for: labels, and the session that all are parts of, or None."""
    return listed_labels(labels(labels_, limits), None if parent is None else session_id(parent))


def data(what: str, value: object, limit: int, limit_name: str) -> Any:
    """JSON data, copied so that a later change of the caller's object changes nothing here."""
    kind = type(value)
    if value is None or kind is bool:
        return value
    if kind is int and -MAX_UNITS <= value <= MAX_UNITS and limit >= _LONGEST_INT:  # type: ignore[operator]
        return value
    if kind is str and len(value) * 6 <= limit:  # type: ignore[arg-type]
        return well_formed(value)  # type: ignore[arg-type]
    copied = _copy(what, value, 0)
    size = len(_encode(copied))
    if size > limit:
        raise ValueError(f"{what} must not be larger than {limit} bytes of JSON (limit {limit_name!r}), not {size}")
    return copied


def _copy(what: str, value: object, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return well_formed(str.__str__(value))
    if isinstance(value, int):
        if not -MAX_UNITS <= value <= MAX_UNITS:
            raise ValueError(
                f"{what}: whole numbers must stay within 2**53, to be read alike everywhere; send it as a str"
            )
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{what}: JSON has no {value!r}; send None or a str")
        return float(value)
    if depth >= MAX_JSON_DEPTH:
        raise ValueError(f"{what} must not nest deeper than {MAX_JSON_DEPTH}")
    if isinstance(value, Mapping):
        copied: dict[str, Any] = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{what}: keys must be str, not {key!r:.200}")
            copied[well_formed(str.__str__(key))] = _copy(what, item, depth + 1)
        return copied
    if isinstance(value, (list, tuple)):
        return [_copy(what, item, depth + 1) for item in value]
    plain = scalar(value)
    if plain is None:
        plain = integer(value)
    if plain is not None:
        return _copy(what, plain, depth)
    raise TypeError(
        f"{what} must be JSON data (None, bool, int, float, numpy's scalars, str, list, tuple or a mapping with "
        f"str keys), not {type(value).__name__}: {shown(value)}; send {_instead(value)}"
    )


def _instead(value: object) -> str:
    """What to send in place of a value that is no JSON data."""
    if hasattr(value, "tolist"):
        return "its `.tolist()`, or a part of it"
    if isinstance(value, (set, frozenset, range, deque)):
        return "a list of it"
    if hasattr(value, "isoformat"):
        return "its `.isoformat()`"
    return "a float or a str" if hasattr(value, "__float__") else "what of it is of use, as a str or a dict"


def checked_fields(fields: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """The fields that are to be set, each of which is one that can be."""
    return {
        name("a field's name", key, limits): data(f"field {key!r}", value, limits.value_bytes, "value_bytes")
        for key, value in fields.items()
    }


def merged_fields(old: dict[str, Any], new: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """The fields after setting `new`; a new dict, so that snapshots which hold the old one stay as they are."""
    merged = {**old, **new}
    if len(merged) > limits.fields:
        raise ValueError(f"at most {limits.fields} fields are kept (limit 'fields'), this would make {len(merged)}")
    return merged


def copied(value: Any) -> Any:
    """A copy of JSON data: whoever is given it may change it, and nothing that is kept changes."""
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [copied(item) for item in value]
    return value
