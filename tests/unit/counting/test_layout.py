"""The file of counts as memory: sums, jobs, records and names, against a model of what was counted."""

from __future__ import annotations

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from trio_progress.counting.layout import (
    ADVANCED,
    COUNTED,
    EXTENDED,
    FILE_SIZE,
    MESSAGE_BYTES,
    NAME_BYTES,
    SKIPPED,
    Layout,
    Record,
)
from trio_progress.counting.reading import Reader, Reading


def made(memory: bytearray | None = None) -> Layout:
    layout = Layout(memory or bytearray(FILE_SIZE))
    layout.begin(strict=True)
    return layout


def test_a_file_is_one_of_counts_by_its_size_and_its_first_bytes() -> None:
    assert made().valid
    assert not Layout(bytearray(FILE_SIZE)).valid
    short = bytearray(FILE_SIZE - 8)
    short[:8] = b"tpcount1"
    assert not Layout(short).valid


def test_a_record_that_is_being_replaced_is_read_the_next_time_and_the_newest_wins() -> None:
    memory = bytearray(FILE_SIZE)
    layout = made(memory)
    reader = Reader(layout)
    for slot in (3, 9):
        layout.take(slot)
    layout.write_record(3, Record(20, "newer", 5, 40.0))
    layout.write_record(9, Record(10, "older", 6, None))
    assert reader.read().given == {"message": "newer", "total": None}
    assert not reader.read()
    layout.write_record(9, Record(30, "törn", 6, None))
    at = memory.index("törn".encode())
    memory[at] ^= 1
    assert layout.read_record(9) is None
    assert not reader.read()
    memory[at] ^= 1
    assert reader.read().given == {"message": "törn"}
    layout.write_record(9, Record(40, None, 7, 2.5))
    assert reader.read().given == {"message": None, "total": 2.5}


def test_the_longest_message_and_names_fit_and_touch_nothing_else() -> None:
    layout = made()
    for slot in (0, 1, 1022, 1023):
        layout.take(slot)
        layout.cell(slot, 0)[:] = memoryview(bytes([slot % 7] * 128)).cast("d")
        layout.cell(slot, 1)[:] = memoryview(bytes([slot % 5] * 128)).cast("d")
        for number in range(2):
            layout.write_record(slot, Record(number, "x" * MESSAGE_BYTES, number, 1.0))
    names = [f"{number:02}" + "ü" * ((NAME_BYTES - 2) // 2) for number in range(13)]
    for name in names:
        layout.add_name(name)
    assert layout.names() == names
    assert layout.names(11) == names[11:]
    for slot in (0, 1, 1022, 1023):
        assert bytes(layout.cell(slot, 0)) == bytes([slot % 7] * 128)
        assert bytes(layout.cell(slot, 1)) == bytes([slot % 5] * 128)
        assert layout.read_record(slot) == Record(1, "x" * MESSAGE_BYTES, 1, 1.0)
    assert layout.valid
    assert layout.strict
    assert not layout.over


class Counting(RuleBasedStateMachine):
    """Owners of three slots count, run jobs, end and die; the parent reads in between."""

    SLOTS = (0, 500, 1023)
    PLACES = (ADVANCED, SKIPPED, EXTENDED, COUNTED)
    layout_class: type[Layout] = Layout

    def __init__(self) -> None:
        super().__init__()
        self.layout = self.layout_class(bytearray(FILE_SIZE))
        self.layout.begin(strict=True)
        self.layout.add_name("things")
        self.reader = Reader(self.layout)
        self.read = [0.0] * 4
        self.kept = [0.0] * 4
        self.jobs: dict[int, list[float]] = {}
        self.owned: dict[int, memoryview[float]] = {}

    slots = st.sampled_from(SLOTS)

    @rule(slot=slots)
    def take(self, slot: int) -> None:
        if slot not in self.owned:
            self.jobs.pop(slot, None)  # What a dead owner has left in a job is taken back.
            self.owned[slot] = self.layout.cell(slot, self.layout.take(slot))

    @rule(slot=slots, place=st.sampled_from(PLACES), n=st.integers(0, 2**40))
    def count(self, slot: int, place: int, n: int) -> None:
        if slot in self.owned:
            self.owned[slot][place] += n
            self.jobs.get(slot, self.kept)[place] += n

    @rule(slot=slots, meanwhile=st.integers(0, 9))
    def begin_job(self, slot: int, meanwhile: int) -> None:
        if slot in self.owned and slot not in self.jobs:
            self.owned[slot] = self.layout.cell(slot, self.layout.prepare_job(slot))
            self.owned[slot][ADVANCED] += meanwhile  # As by a signal handler.
            self.layout.begin_job(slot)
            self.jobs[slot] = [float(meanwhile), 0.0, 0.0, 0.0]

    @rule(slot=slots, keep=st.booleans())
    def end_job(self, slot: int, keep: bool) -> None:
        if slot in self.owned and slot in self.jobs:
            self.owned[slot] = self.layout.cell(slot, self.layout.end_job(slot, keep=keep))
            counted = self.jobs.pop(slot)
            if keep:
                self.kept = [a + b for a, b in zip(self.kept, counted, strict=True)]

    @rule(slot=slots)
    def die(self, slot: int) -> None:
        self.owned.pop(slot, None)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def take_back(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(sorted(self.jobs)))
        if slot not in self.owned:
            del self.jobs[slot]
            self.layout.take(slot)

    @invariant()
    def what_is_read_is_what_was_counted(self) -> None:
        came: Reading = self.reader.read()
        changes = (came.advanced, came.skipped, came.extended, came.counters.get("things", 0))
        self.read = [a + b for a, b in zip(self.read, changes, strict=True)]
        assert self.read == [sum(column) for column in zip(self.kept, *self.jobs.values(), strict=True)]


Counting.TestCase.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
TestCounting = Counting.TestCase


class CopiesAtTheBeginning(Layout):
    """What a signal handler has counted in the bank that was prepared is overwritten."""

    def begin_job(self, slot: int) -> None:
        bank = self.bank(slot)
        self.cell(slot, 1 - bank)[:] = self.cell(slot, bank)
        super().begin_job(slot)
        self.cell(slot, 1 - bank)[:] = self.cell(slot, bank)


class TakesOverAJob(Layout):
    """What a dead owner has left in a job counts on."""

    def take(self, slot: int) -> int:
        if self.in_job(slot):
            return self.end_job(slot, keep=True)
        return super().take(slot)


class KeepsTheOtherBank(Layout):
    """A job that is finished is taken back, and the other way round."""

    def end_job(self, slot: int, *, keep: bool) -> int:
        return super().end_job(slot, keep=not keep)


@pytest.mark.exhaustive
@pytest.mark.parametrize("planted", [CopiesAtTheBeginning, TakesOverAJob, KeepsTheOtherBank])
def test_a_planted_bug_is_found_by_the_model(planted: type[Layout]) -> None:
    class Planted(Counting):
        layout_class = planted

    unshrunk = settings(Counting.TestCase.settings, max_examples=500, phases=[Phase.generate])
    with pytest.raises(AssertionError):
        run_state_machine_as_test(Planted, settings=unshrunk)


@pytest.mark.parametrize("slot", [0, 1023])
def test_one_store_of_the_state_keeps_all_of_a_job_or_takes_it_back(slot: int) -> None:
    layout = made()
    bank = layout.take(slot)
    layout.cell(slot, bank)[ADVANCED] = 5
    job = layout.prepare_job(slot)
    layout.begin_job(slot)
    layout.cell(slot, job)[ADVANCED] += 2
    layout.cell(slot, job)[EXTENDED] += 3
    assert layout.in_job(slot)
    assert layout.sums(slot)[:3].tolist() == [7, 0, 3]
    assert layout.take(slot) == bank
    assert layout.sums(slot)[:3].tolist() == [5, 0, 0]
