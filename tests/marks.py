"""How often a case of a test is run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest


def as_often(cases: Sequence[Any], *, exhaustive: Sequence[Any], every_day: Sequence[Any] = ()) -> list[Any]:
    """Parameters of a test: those of every day, those that are left to `--exhaustive`, and for a release the rest."""

    def marks(case: Any) -> Any:
        if case in every_day:
            return ()
        return pytest.mark.exhaustive if case in exhaustive else pytest.mark.release

    return [pytest.param(case, marks=marks(case)) for case in cases]
