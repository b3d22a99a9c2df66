"""The dashboard and the rules that come along speak of the metrics that there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from trio_progress import metrics
from trio_progress.metrics.families import FAMILIES, PREFIX


def named(text: str) -> set[str]:
    return set(re.findall(rf"\b{PREFIX}\w+", text))


def known() -> Iterator[str]:
    for family in FAMILIES:
        name = PREFIX + family.name
        yield from (f"{name}_bucket", f"{name}_count", f"{name}_sum") if family.kind == "histogram" else (name,)


def expressions() -> list[str]:
    board = json.loads(metrics.dashboard())
    return [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]


def test_the_dashboard_and_the_rules_speak_of_metrics_that_there_are() -> None:
    assert named(" ".join(expressions())) <= set(known())
    assert len(expressions()) > 15
    assert named(metrics.rules()) <= set(known())
    for alert in ("StoreDown", "PersistLag", "SessionsStalled", "SessionsLost", "EventsDropped", "SubscribersDropped"):
        assert f"alert: TrioProgress{alert}\n" in metrics.rules()


def test_the_dashboard_shows_every_metric_on_panels_that_do_not_overlap() -> None:
    shown = {re.sub(r"_(bucket|count|sum)$", "", name) for name in named(" ".join(expressions()))}
    assert {PREFIX + family.name for family in FAMILIES} == shown
    taken: set[tuple[int, int]] = set()
    panels = json.loads(metrics.dashboard())["panels"]
    for panel in panels:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert all(x < 24 for x, _ in cells)
        taken |= cells
    assert len({panel["id"] for panel in panels}) == len(panels)
