"""Pauses between tries."""

from __future__ import annotations

import random

from trio_progress.protocol.backoff import Backoff, jittered


class Highest(random.Random):
    """No jitter: always the upper end."""

    def uniform(self, a: float, b: float) -> float:
        return b


def test_each_pause_is_twice_the_last_one_up_to_the_longest_and_success_begins_anew() -> None:
    backoff = Backoff(0.25, 3.0, Highest())
    assert [backoff.pause() for _ in range(6)] == [0.25, 0.5, 1.0, 2.0, 3.0, 3.0]
    backoff.reset()
    assert backoff.pause() == 0.25


def test_the_jitter_takes_up_to_half_of_a_pause_and_a_seed_repeats_it() -> None:
    pauses = [Backoff(1.0, 9.0, random.Random(seed)).pause() for seed in range(200)]
    assert all(0.5 <= pause <= 1.0 for pause in pauses)
    assert max(pauses) - min(pauses) > 0.4
    assert jittered(4.0, random.Random(7)) == 4 * Backoff(1.0, 9.0, random.Random(7)).pause()
