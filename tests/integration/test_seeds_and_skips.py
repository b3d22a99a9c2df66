"""What `tests/conftest.py` promises: a failure tells its seed and how to replay it, and CI takes no skip for a pass."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.forking import ForkServer

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.integration

INNER = """
import random
import pytest

def test_draws(rng):
    raise AssertionError(f"drew {rng.random()}")

@pytest.mark.parametrize("what", ["a b"])
def test_draws_many(what, seeds):
    for n, seed in enumerate(seeds(5)):
        assert n < 3, f"seed {seed} is bad"

def test_passes(seed):
    pass

@pytest.mark.skip(reason="no such program")
def test_skipped():
    pass

@pytest.mark.exhaustive
def test_costs_much(seed):
    raise AssertionError

@pytest.mark.xfail(reason="known", strict=True)
def test_fails_as_expected():
    raise AssertionError
"""


Run: TypeAlias = Callable[..., pytest.RunResult]


@pytest.fixture
def inner(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    conftest = Path(__file__).resolve().parents[1] / "conftest.py"
    pytester.makeconftest(conftest.read_text(encoding="utf-8"))
    pytester.makepyfile(test_inner=INNER)
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    return pytester


@pytest.fixture
def run(inner: pytest.Pytester, fork_server: ForkServer) -> Run:
    def run(*options: str) -> pytest.RunResult:
        ran = fork_server.run("pytest", options, inner.path, os.environ)
        return pytest.RunResult(ran.code, ran.out.splitlines(), ran.err.splitlines(), 0.0)

    return run


@pytest.mark.exhaustive
def test_a_failure_tells_the_seed_that_it_had_come_to_and_a_command_that_replays_it(run: Run) -> None:
    first = run("-k", "draws")
    first.assert_outcomes(failed=2)
    told = dict.fromkeys(line for line in first.outlines if line.startswith("python -m pytest"))
    one, many = told
    assert "test_draws --seed" in one
    # The name has a space, so it is quoted for the shell.
    assert "'test_inner.py::test_draws_many[a b]' --seed" in many
    bad = next(line for line in first.outlines if "AssertionError: seed" in line)
    assert f"seed {many.rsplit(maxsplit=1)[-1]} is bad" in bad

    seed = one.rsplit(maxsplit=1)[-1]
    again = run("test_inner.py::test_draws", "--seed", seed)
    drew = [next(line for line in one_run.outlines if "AssertionError: drew" in line) for one_run in (first, again)]
    assert drew[0] == drew[1]


def test_a_given_seed_is_the_only_one_that_is_drawn(run: Run) -> None:
    run("-k", "draws_many or passes", "--seed", "7").assert_outcomes(passed=2)


def test_ci_draws_the_same_seeds_each_time_and_each_test_its_own(
    inner: pytest.Pytester, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner.makepyfile(
        test_inner="def test_one(seeds):\n    raise AssertionError(f'one {[*seeds(3)]}')\n"
        "def test_other(seeds):\n    raise AssertionError(f'other {[*seeds(3)]}')\n"
    )
    monkeypatch.setenv("CI", "true")
    told = [[line for line in run().outlines if line.startswith("E  ")] for _ in range(2)]
    assert told[0] == told[1]
    one, other = (line.partition("[")[2] for line in told[0])
    assert one != other


def test_what_costs_much_is_left_out_unless_all_is_asked_for(run: Run) -> None:
    chosen = ("test_inner.py::test_costs_much", "test_inner.py::test_passes")
    run(*chosen).assert_outcomes(passed=1, deselected=1)
    everything = run(*chosen, "--exhaustive")
    everything.assert_outcomes(failed=1, deselected=1)
    everything.stdout.re_match_lines([r"python -m pytest test_inner\.py::test_costs_much --seed \d+ --exhaustive"])


def test_a_skip_is_a_skip_at_home_and_a_failure_with_its_reason_in_ci(
    inner: pytest.Pytester, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner.makepyfile(test_whole="import pytest\npytest.skip('no such system', allow_module_level=True)")
    chosen = ("-k", "not draws")
    run(*chosen).assert_outcomes(passed=1, skipped=2, xfailed=1)

    monkeypatch.setenv("CI", "true")
    run(*chosen, "--ignore=test_whole.py").assert_outcomes(passed=1, errors=1, xfailed=1)
    strict = run(*chosen)
    assert strict.ret != 0
    assert "no such system" in strict.stdout.str()
    skipped = run("-k", "skipped", "--ignore=test_whole.py")
    skipped.stdout.fnmatch_lines("*skipped, which CI takes for a failure: *no such program*")
