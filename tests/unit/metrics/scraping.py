"""Work that is counted, and what a scrape of it tells."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.samples import Sample

from trio_progress import Pipeline, ProgressTracker
from trio_progress.metrics.families import PREFIX

RESEARCH = Pipeline("research", {"search": 3, "analysis": 2})


def samples(body: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return table(sample for family in parse_text(body.decode()) for sample in family.samples)


def table(found: Iterable[Sample]) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    values = {}
    for sample in found:
        key = (sample.name.removeprefix(PREFIX), frozenset(sample.labels.items()))
        assert key not in values
        values[key] = sample.value
    return values


async def work(tracker: ProgressTracker, session_id: str, pipeline: Pipeline | None) -> None:
    async with tracker.session(session_id, pipeline) as session:
        for spec in pipeline or ():
            with session.phase(spec.name) as phase:
                phase.advance()
