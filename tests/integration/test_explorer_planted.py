"""Bugs that are planted into a copy of the explorer: the test that is about them fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks._copies import copy_to_change
from benchmarks._mutants import ROOT, Mutant, plant
from tests.marks import as_often

pytestmark = pytest.mark.integration

STRATEGIES = "tests/unit/testing/test_strategies.py"
SCHEDULE = "tests/unit/testing/test_schedule.py"
EXHAUSTIVE = "tests/unit/testing/test_exhaustive.py"
MERGING = "tests/unit/testing/test_merging.py"
LEFTOVERS = "tests/unit/testing/test_leftovers.py"
REPORT = "tests/unit/testing/test_report.py"
KEPT = "tests/unit/testing/test_kept.py"

PLANTS = (
    Mutant(
        "who is held back stays the same",
        "testing/strategies.py",
        "if rng.random() < REDRAW:",
        "if False:",
        (f"{STRATEGIES}::test_who_is_held_back_changes_and_somebody_always_runs",),
    ),
    Mutant(
        "priorities never change",
        "testing/strategies.py",
        "            priorities[run] = float(fall)\n",
        "",
        (f"{STRATEGIES}::test_priorities_change_at_a_few_steps_only",),
    ),
    Mutant(
        "an order does not depend on the seed alone",
        "testing/strategies.py",
        'random.Random(f"trio-progress order {seed}")',
        "random.Random()",
        (f"{STRATEGIES}::test_a_seed_means_the_same_schedule_whatever_ran_before",),
    ),
    Mutant(
        "time passes although none is to",
        "testing/strategies.py",
        '    if not jitter or not budget or name == "none":',
        '    if name == "none":',
        (f"{STRATEGIES}::test_no_time_is_injected_where_no_jitter_or_no_stall_is_wanted",),
    ),
    Mutant(
        "more time passes than may be spent",
        "testing/scheduler.py",
        "        self.left -= seconds\n",
        "",
        (f"{STRATEGIES}::test_what_has_passed_is_no_more_there_to_be_spent",),
    ),
    Mutant(
        "a try is taken although it passes",
        "testing/shrinking.py",
        "if not self._kinds & outcome.kinds or outcome.size >= self.best.size:",
        "if outcome.size >= self.best.size:",
        (f"{SCHEDULE}::test_a_failure_shrinks_to_the_preemption_that_it_needs_and_says_what_would_have_passed",),
    ),
    Mutant(
        "what is shown as passing was not run",
        "testing/shrinking.py",
        "if not run(merged(trial)).kinds:",
        "if True:",
        (f"{SCHEDULE}::test_a_failure_shrinks_to_the_preemption_that_it_needs_and_says_what_would_have_passed",),
    ),
    Mutant(
        "a kept schedule is not tried a step away",
        "testing/replaying.py",
        "if number == TRIED:",
        "if True:",
        (f"{SCHEDULE}::test_a_kept_schedule_fails_still_where_a_checkpoint_was_added",),
    ),
    Mutant(
        "orders with the last deviation are left out",
        "testing/exhaustive.py",
        "if level <= self._deviations:",
        "if level < self._deviations:",
        (f"{EXHAUSTIVE}::test_a_cancel_at_each_step_is_a_deviation",),
    ),
    Mutant(
        "a deadline does not pass early",
        "testing/exhaustive.py",
        "([Option(TIME)] if self._jump else [])",
        "()",
        (f"{EXHAUSTIVE}::test_a_deadline_that_passes_early_is_a_deviation",),
    ),
    Mutant(
        "what follows on equal states is not compared",
        "testing/exhaustive.py",
        "if step is not None and self._led_to.setdefault(step, state) != state:",
        "if False:",
        (f"{MERGING}::test_what_cannot_be_seen_is_an_error_where_what_follows_is_another",),
    ),
    Mutant(
        "a task is named by its age, and no equal one for it",
        "testing/merging.py",
        "if self._alike[self._kinds[task]] == 1:",
        "if True:",
        (f"{MERGING}::test_a_lock_of_five_needs_at_most_a_tenth",),
    ),
    Mutant(
        "what is allowed by name is told all the same",
        "testing/leftovers.py",
        "if not left.allowed(self._ignore)]",
        "if left]",
        (f"{LEFTOVERS}::test_what_is_left_is_named_and_can_be_allowed_by_kind_or_by_text",),
    ),
    Mutant(
        "a held lock is not looked for",
        "testing/leftovers.py",
        "    trio.Lock: _lock,\n",
        "",
        (f"{LEFTOVERS}::test_what_is_left_is_named_and_can_be_allowed_by_kind_or_by_text",),
    ),
    Mutant(
        "generators are not looked for within the run",
        "testing/leftovers.py",
        "if id(generator) not in self._generators",
        "if id(generator) in self._generators",
        (f"{LEFTOVERS}::test_what_is_left_is_named_and_can_be_allowed_by_kind_or_by_text",),
    ),
    Mutant(
        "a schedule that fails again keeps its count of passes",
        "testing/kept.py",
        """        if self.forgets:
            with suppress(OSError):
                path.with_suffix(".passes").unlink(missing_ok=True)
""",
        """        del path
""",
        (f"{KEPT}::test_a_schedule_is_forgotten_when_it_has_passed_often_in_a_row",),
    ),
    Mutant(
        "a folder of one's own forgets",
        "testing/kept.py",
        """        if not self.forgets:
            return
""",
        "",
        (f"{KEPT}::test_a_folder_of_ones_own_forgets_nothing",),
    ),
    Mutant(
        "too many are kept",
        "testing/kept.py",
        "for old in self.paths()[MOST:] if self.forgets else ():",
        "for old in ():",
        (f"{KEPT}::test_of_many_schedules_the_newest_are_kept",),
    ),
    Mutant(
        "the end of a report is all that is shown",
        "testing/failure.py",
        "return _cut(lines, max(parts - BEFORE, 0), count)",
        "return _cut_to(lines, count)",
        (f"{REPORT}::test_a_report_shows_where_it_parts_from_what_passes_however_much_follows",),
    ),
)


OFTEN = PLANTS[::4]
"""Of each part of the explorer one; the rest are for a release."""


@pytest.mark.parametrize(
    "mutant",
    as_often(PLANTS, exhaustive=OFTEN),
    ids=[mutant.name for mutant in PLANTS],
)
def test_a_bug_in_the_explorer_is_seen_by_its_test(mutant: Mutant, tmp_path: Path) -> None:
    copy_to_change(ROOT / "trio_progress", tmp_path / "trio_progress", [mutant.file])
    shutil.copytree(ROOT / "tests" / "unit" / "testing", tmp_path / "tests" / "unit" / "testing")
    for shared in ("pyproject.toml", "tests/conftest.py"):
        shutil.copy(ROOT / shared, tmp_path / shared)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    environment.pop("PYTEST_ADDOPTS", None)
    plant(tmp_path / "trio_progress", mutant)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *mutant.scenarios],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1, run.stdout[-2000:]  # 0: it has passed. More: it was not run.
