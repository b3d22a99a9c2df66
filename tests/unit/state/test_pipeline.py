"""A pipeline is a value: it is compared and hashed by what was declared, frozen, and travels by pickle."""

from __future__ import annotations

import dataclasses
import pickle

import pytest

from trio_progress import PhaseSpec, Pipeline


def text_of(error: BaseException) -> str:
    return str(error)


def test_pipelines_are_equal_by_what_they_declare() -> None:
    one = Pipeline("import", {"fetch": 3, "load": 1}, error_text=text_of)
    same = Pipeline("import", [PhaseSpec("fetch", 3), "load"], error_text=text_of)
    assert one == same
    assert hash(one) == hash(same)
    others = [
        Pipeline("export", {"fetch": 3, "load": 1}, error_text=text_of),
        Pipeline("import", {"load": 1, "fetch": 3}, error_text=text_of),
        Pipeline("import", {"fetch": 3, "load": 1}),
    ]
    assert len({one, same, *others}) == 4


def test_a_pipeline_is_frozen_and_pickles() -> None:
    pipeline = Pipeline("import", [PhaseSpec("fetch", 3, aliases=("get",)), "load"], error_text=text_of)
    with pytest.raises(dataclasses.FrozenInstanceError):
        pipeline.name = "other"  # type: ignore[misc]
    again = pickle.loads(pickle.dumps(pipeline))
    assert again == pipeline
    assert again.resolve("get") == "fetch"
    assert [spec.name for spec in again] == ["fetch", "load"]
