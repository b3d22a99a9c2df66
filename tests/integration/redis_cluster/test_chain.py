"""The chain of real processes over a Cluster to which something happens; what holds without: `test_redis_chain.py`."""

from __future__ import annotations

import itertools
import signal

import pytest
import trio

from tests.chain import Viewer, gateways_on, open_farm, until
from tests.redis_cluster import MASTERS, SLOTS, RedisCluster
from trio_progress.stores.redis.partitions import partition_of, slot_of, tags

pytestmark = [pytest.mark.integration, pytest.mark.exhaustive]

LOST_AFTER = 120.0
"""Seconds: nobody is to be written off, for as long as this machine and a failover may take."""

PATIENCE = 90.0


def slot_of_session(name: str) -> int:
    """The slot of its partition, of sixteen."""
    return slot_of(f"{{{tags(16)[partition_of(name, 16)]}}}")


async def test_a_slot_that_moves_and_a_master_that_is_killed_end_no_session_and_leave_nothing_out(
    mortal_cluster: RedisCluster, prefix: str
) -> None:
    store = f"{mortal_cluster.url}?prefix={prefix}"
    # A session on each master.
    names = [
        next(name for name in map("job-{}".format, itertools.count()) if slot_of_session(name) * MASTERS // SLOTS == on)
        for on in range(MASTERS)
    ]
    with gateways_on(store, store, options=("--lost-after", str(LOST_AFTER))) as gateways:
        viewers = {name: [Viewer(name) for _ in gateways] for name in names}
        everybody = [viewer for watching in viewers.values() for viewer in watching]

        async def go_on(*watched: str) -> None:
            """Returns when all who watch these sessions have been told more."""
            some = [viewer for name in watched for viewer in viewers[name]]
            reached = {viewer.session_id: viewer.steps for viewer in some}
            await until(lambda: all(viewer.steps >= reached[viewer.session_id] + 5 for viewer in some), PATIENCE)

        async with open_farm() as farm, trio.open_nursery() as nursery:
            # Slowly, so that there are fewer events than are kept for as long as a viewer is patient.
            await farm.work(store, *names, lost_after=LOST_AFTER, pace=0.1)
            for watching in viewers.values():
                for viewer, gateway in zip(watching, gateways, strict=True):
                    nursery.start_soon(viewer.watch, gateway)
            await go_on(*names)

            slot, target = slot_of_session(names[0]), mortal_cluster.masters[2]
            owner = mortal_cluster.begin_move(slot, target)
            mortal_cluster.move_keys(slot, owner, target, 3)
            await go_on(*names[1:])
            mortal_cluster.move_keys(slot, owner, target)
            mortal_cluster.end_move(slot, target)
            await go_on(*names)

            mortal_cluster.masters[1].kill()
            await go_on(names[0], names[2])
            await until(
                lambda: mortal_cluster.owner_of(slot_of_session(names[1])) is not mortal_cluster.masters[1], PATIENCE
            )
            await go_on(*names)

            for name in names:
                farm.signal(name, signal.SIGTERM)
                assert (await farm.gone(name)).code == 0
            await until(lambda: all(viewer.end for viewer in everybody), PATIENCE)
        for gateway in gateways:
            assert await gateway.metric('sessions_ended_total{.*status="lost"') == 0
    for viewer in everybody:
        assert viewer.end is not None
        assert viewer.end.status == "interrupted"
        assert len(viewer.greetings) == 1, "its gateway has never let go of it"
        assert viewer.dropped == 0
        # What the master had not sent to its replica before it was killed is gone, so that event may be missing.
        assert viewer.holes == 0 or viewer.session_id == names[1]
    for here, there in viewers.values():
        assert here.steps == there.steps
