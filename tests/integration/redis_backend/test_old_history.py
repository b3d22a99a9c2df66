"""What older versions kept in Redis of the durations of phases is used, and goes on as a history."""

from __future__ import annotations

import pytest
import redis
import trio

from trio_progress import Pipeline, RedisStore, open_tracker
from trio_progress.stores.redis.keys import Keys

pytestmark = pytest.mark.integration

PIPELINE = Pipeline("import", {"fetch": 1, "load": 1})


@pytest.fixture
def old(client: redis.Redis, prefix: str) -> str:
    """The key of a hash as older versions made it: seconds by phase, as a text of all digits; it expires in 30 days."""
    key = f"{prefix}:{{0}}:d:import"
    client.hset(key, mapping={"fetch": f"{30.0:.17g}", "load": f"{12.1:.17g}", "gone": "nonsense"})
    client.pexpire(key, 30 * 24 * 3600 * 1000)
    return key


async def test_durations_of_an_older_version_are_used_and_go_on_as_a_history(
    old: str, redis_url: str, prefix: str, client: redis.Redis
) -> None:
    assert old == Keys(prefix).durations("import")
    async with open_tracker(RedisStore(redis_url, prefix=prefix)) as tracker:
        before = await tracker.history("import")
        assert before is not None
        assert {name: phase.seconds for name, phase in before.phases.items()} == {"fetch": 30.0, "load": 12.1}
        async with tracker.session("s", PIPELINE) as session:
            await session.flush()
            assert session.snapshot().eta == pytest.approx(42.1, abs=1)
            for name in ("fetch", "load"):
                with session.phase(name):
                    await trio.sleep(0.05)
        history = await tracker.history("import")
        assert list(await tracker.histories()) == ["import"]
    assert history is not None
    assert (history.runs, history.phases["fetch"].runs) == (2, 2)
    assert history.phases["fetch"].seconds < 5
    async with open_tracker(RedisStore(redis_url, prefix=prefix)) as tracker:
        assert await tracker.history("import") == history
        assert await tracker.forget_history("import")
        assert await tracker.history("import") is None
    assert not client.exists(old)


async def test_what_an_older_version_kept_is_exported_and_forgotten(
    old: str, redis_url: str, prefix: str, client: redis.Redis
) -> None:
    async with open_tracker(RedisStore(redis_url, prefix=prefix)) as tracker:
        history = await tracker.history("import")
        assert history is not None
        assert await tracker.import_history("copy", history.to_json()) == history
        assert await tracker.forget_history("import")
        assert await tracker.history("import") is None
    assert not client.exists(old)
