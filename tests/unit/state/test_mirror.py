"""What a phase that follows a session shows of it, and what is left of a phase of which nothing else is left."""

from __future__ import annotations

import pytest

from trio_progress.protocol.snapshot import Followed
from trio_progress.state.fraction import followed_left
from trio_progress.state.mirror import Mirror, message_of
from trio_progress.state.phase import PhaseNode


def mirror(eta: float | None = 10.0, *, moving: bool = True) -> Mirror:
    return Mirror(Followed(id="s", status="running"), 0.5, eta=eta, at=100.0, moving=moving)


def test_what_is_left_counts_down_while_the_work_goes_on_and_never_to_nothing() -> None:
    assert mirror().left(100.0) == 10
    assert mirror().left(104.0) == pytest.approx(6)
    assert 0 < (mirror().left(120.0) or 0) < 10
    assert mirror(moving=False).left(150.0) == 10
    assert mirror(None).left(150.0) is None


@pytest.mark.parametrize(
    ("status", "liveness", "said", "shown"),
    [
        (None, "ok", None, "waits until it is declared or begun"),
        ("queued", "ok", None, "queued"),
        ("running", "ok", "page 7", "page 7"),
        ("running", "stalled", "page 7", "stalled: page 7"),
        ("running", "stalled", None, "stalled"),
        ("lost", "lost", "page 7", "lost: waits until it is gone on with"),
        ("interrupted", "ok", "page 7", "interrupted: waits until it is gone on with"),
        ("completed", "ok", "done", "done"),
    ],
)
def test_people_are_told_why_a_session_does_not_go_on(status, liveness, said, shown) -> None:  # type: ignore[no-untyped-def]
    follows = Followed(id="s", status=status, liveness=liveness)
    assert message_of(Mirror(follows), said) == shown


def phase(total: float | None, *children: tuple[str, Mirror | None]) -> PhaseNode:
    node = PhaseNode(None, None, "shards", "shards", total=total)  # type: ignore[arg-type]
    node.children = {}
    node.mirrored = True
    for number, (status, shown) in enumerate(children):
        child = PhaseNode(None, node, f"s-{number}", "", weight=0.0)  # type: ignore[arg-type]
        child.status, child.mirror = status, shown  # type: ignore[assignment]
        node.children[child.name] = child
        node.units += status == "completed"
    return node


def test_a_phase_takes_as_long_as_the_longest_of_the_sessions_that_are_left_of_it() -> None:
    both = (("running", mirror(30.0)), ("running", mirror(5.0)))
    assert followed_left(phase(2, *both), 100.0) == 30
    assert followed_left(phase(3, ("completed", mirror()), *both), 100.0) == 30


@pytest.mark.parametrize(
    "node",
    [
        phase(3, ("running", mirror()), ("running", mirror())),
        phase(2, ("running", mirror()), ("running", mirror(None))),
        phase(2, ("running", mirror()), ("running", None)),
        phase(2, ("running", mirror()), ("pending", None)),
        phase(2, ("completed", mirror()), ("completed", mirror())),
    ],
    ids=["a unit to come", "one that knows nothing", "other work", "one that waits", "none"],
)
def test_where_anything_else_is_left_the_sessions_do_not_say(node: PhaseNode) -> None:
    assert followed_left(node, 100.0) is None
