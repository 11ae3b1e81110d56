"""The step batcher keeps its promises for any coming and going of slots."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sfumato.worker.batcher import ADMISSION_WINDOW, AGEING, StepBatcher
from tests.support.slots import HandClock, PlainSlot

ROW_LIMIT = 8


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def batcher(clock: HandClock) -> StepBatcher:
    return StepBatcher(lambda _key: ROW_LIMIT, clock=clock)


def add(batcher: StepBatcher, *slots: PlainSlot) -> list[PlainSlot]:
    for slot in slots:
        batcher.add(slot)
    return list(slots)


def advance(batcher: StepBatcher) -> list[PlainSlot]:
    """One step, as the engine's thread takes it."""
    batch = [slot for slot in batcher.next_batch() if isinstance(slot, PlainSlot)]
    for slot in batch:
        slot.step += 1
        if slot.step == slot.steps:
            batcher.remove(slot)
    return batch


def test_different_step_counts_and_guidance_share_a_step(batcher: StepBatcher) -> None:
    slots = add(batcher, PlainSlot("k", rows=2, steps=4), PlainSlot("k", rows=1, steps=50))
    assert list(batcher.next_batch()) == slots


def test_a_newcomer_joins_a_running_group_at_the_very_next_step(batcher: StepBatcher) -> None:
    (first,) = add(batcher, PlainSlot("k", 2, 9))
    assert list(batcher.next_batch()) == [first]
    (second,) = add(batcher, PlainSlot("k", 2, 9))
    assert list(batcher.next_batch()) == [first, second]


def test_a_slot_larger_than_the_limit_steps_alone(clock: HandClock) -> None:
    batcher = StepBatcher(lambda _key: 1, clock=clock)
    slots = add(batcher, PlainSlot("k", 2, 9), PlainSlot("k", 2, 9))
    assert list(batcher.next_batch()) == slots[:1]


def test_a_small_slot_fills_what_a_large_one_leaves_free(clock: HandClock) -> None:
    batcher = StepBatcher(lambda _key: 3, clock=clock)
    first, _second, small = add(
        batcher, PlainSlot("k", 2, 9), PlainSlot("k", 2, 9), PlainSlot("k", 1, 9)
    )
    assert list(batcher.next_batch()) == [first, small]


def test_a_new_group_waits_for_company_while_another_runs(
    batcher: StepBatcher, clock: HandClock
) -> None:
    (running,) = add(batcher, PlainSlot("k", steps=99))
    advance(batcher)
    (new,) = add(batcher, PlainSlot("new", steps=9))
    assert all(advance(batcher) == [running] for _ in range(5))
    clock.now += ADMISSION_WINDOW * 0.6
    (company,) = add(batcher, PlainSlot("new", steps=9))
    assert all(advance(batcher) == [running] for _ in range(5))
    clock.now += ADMISSION_WINDOW * 0.6
    assert [new, company] in (advance(batcher), advance(batcher))


def test_a_full_group_waits_for_nobody(batcher: StepBatcher) -> None:
    add(batcher, PlainSlot("k", steps=99))
    advance(batcher)
    full = add(batcher, *(PlainSlot("new", 2, 9) for _ in range(4)))
    assert full in (advance(batcher), advance(batcher))


def test_a_held_group_begins_as_soon_as_nothing_else_runs(batcher: StepBatcher) -> None:
    (running,) = add(batcher, PlainSlot("k", steps=2))
    advance(batcher)
    (new,) = add(batcher, PlainSlot("new", steps=9))
    assert advance(batcher) == [running]
    assert advance(batcher) == [new]


def test_higher_priority_goes_first_in_a_group_and_between_groups(
    batcher: StepBatcher, clock: HandClock
) -> None:
    low = add(batcher, *(PlainSlot("k", 2, 9) for _ in range(4)))
    advance(batcher)
    (high,) = add(batcher, PlainSlot("k", 2, 9, priority=5))
    assert list(batcher.next_batch()) == [high, *low[:3]]
    (other,) = add(batcher, PlainSlot("other", 2, 9, priority=7))
    clock.now += ADMISSION_WINDOW
    assert all(advance(batcher) == [other] for _ in range(9))


def test_low_priority_is_level_with_all_newcomers_once_it_is_old_enough(
    batcher: StepBatcher, clock: HandClock
) -> None:
    (low,) = add(batcher, PlainSlot("low", steps=3, priority=-5))
    steps = 0
    while low.step < low.steps:
        add(batcher, PlainSlot("high", steps=2, priority=5))  # an endless stream
        clock.now += 0.1
        advance(batcher)
        steps += 1
        assert steps < 10 * AGEING / 0.1 + 3 * 4
    assert steps > 9 * AGEING / 0.1


def test_a_large_picture_and_forty_small_ones_get_their_shares(batcher: StepBatcher) -> None:
    (large,) = add(batcher, PlainSlot("1024", 2, 20, pixels=1024**2))
    small = add(batcher, *(PlainSlot("512", 2, 20, pixels=512**2) for _ in range(40)))
    spent: Counter[str] = Counter()
    steps: Counter[str] = Counter()
    while large.step < large.steps:
        batch = advance(batcher)
        key = batch[0].batch_key
        steps[key] += 1
        spent[key] += sum(slot.cost for slot in batch)
    # Four of the 40 step together: five slots share the device, and each gets a fifth.
    assert steps["512"] == pytest.approx(4 * steps["1024"], abs=4)
    assert spent["1024"] / spent.total() == pytest.approx(1 / 5, abs=0.02)
    while any(slot.step < slot.steps for slot in small):
        assert advance(batcher)


def test_a_slot_may_change_its_group(batcher: StepBatcher) -> None:
    one, other = add(batcher, PlainSlot("k", steps=9), PlainSlot("k", steps=9))
    advance(batcher)
    one.batch_key = "precise"
    batcher.regroup(one)
    batcher.regroup(other)
    assert batcher.slots() == [other, one]
    batcher.remove(other)
    assert advance(batcher) == [one]
    batcher.remove(one)
    batcher.regroup(one)
    assert len(batcher) == 0
    assert not batcher.next_batch()


LOWEST, HIGHEST = -4, 4
PIXELS = {"a": 1, "b": 4, "c": 30}
MATURE = AGEING * (HIGHEST - LOWEST) + ADMISSION_WINDOW


class Batching(RuleBasedStateMachine):
    """Slots come, are stepped and go; none is lost, none starves, no step is invented."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = HandClock()
        self.limit = ROW_LIMIT
        self.batcher = StepBatcher(lambda _key: self.limit, clock=self.clock)
        self.open: list[PlainSlot] = []
        self.arrived: dict[PlainSlot, float] = {}
        self.steps_of: Counter[PlainSlot] = Counter()
        #: Of a slot that no newcomer can pass: how often its group may yet step without it.
        self.patience: dict[PlainSlot, int] = {}
        #: Steps of a key since another one that takes part in the rounds has had its last.
        self.since: dict[str, Counter[str]] = {key: Counter() for key in PIXELS}

    @rule(
        key=st.sampled_from(sorted(PIXELS)),
        rows=st.integers(1, 2),
        steps=st.integers(1, 6),
        priority=st.integers(LOWEST, HIGHEST),
        count=st.integers(1, 6),
    )
    def add(self, key: str, rows: int, steps: int, priority: int, count: int) -> None:
        for _ in range(count):
            slot = PlainSlot(key, rows, steps, priority, PIXELS[key])
            self.open.append(slot)
            self.arrived[slot] = self.clock.now
            self.batcher.add(slot)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(self.open))
        self.batcher.remove(slot)
        self.batcher.remove(slot)
        self.leave(slot)

    @rule(seconds=st.floats(0, 5))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(limit=st.integers(1, ROW_LIMIT))
    def change_the_row_limit(self, limit: int) -> None:
        self.limit = limit

    @precondition(lambda self: self.open)
    @rule()
    def step(self) -> None:
        self.ripen()
        batch = advance(self.batcher)
        assert batch, "it never idles while there is a slot"
        assert set(batch) <= set(self.open)
        assert len(set(batch)) == len(batch)
        assert len({slot.batch_key for slot in batch}) == 1
        assert len(batch) == 1 or sum(slot.rows for slot in batch) <= self.limit
        for slot in batch:
            self.steps_of[slot] += 1
            assert slot.step == self.steps_of[slot]
        self.count(batch)
        for slot in batch:
            if slot.step == slot.steps:
                self.leave(slot)

    def age(self, slot: PlainSlot) -> float:
        return self.clock.now - self.arrived[slot]

    def leave(self, slot: PlainSlot) -> None:
        self.open.remove(slot)
        self.patience.pop(slot, None)
        if not any(other.batch_key == slot.batch_key for other in self.open):
            self.since[slot.batch_key].clear()

    def ripen(self) -> None:
        for slot in self.open:
            if slot not in self.patience and self.age(slot) > MATURE:
                others = (other for other in self.open if other.batch_key == slot.batch_key)
                self.patience[slot] = sum(
                    other.steps - other.step for other in others if other is not slot
                )

    def count(self, batch: list[PlainSlot]) -> None:
        served = batch[0].batch_key
        for slot, patience in self.patience.items():
            if slot.batch_key == served and slot not in batch:
                assert patience > 0, "a later arrival has passed it"
                self.patience[slot] = patience - 1
        dearest = 2 * max(PIXELS.values())
        for key in {slot.batch_key for slot in self.patience} - {served}:
            self.since[key][served] += 1
            assert self.since[key][served] <= dearest / PIXELS[served] + 2, "a group starves"
        self.since[served].clear()

    @invariant()
    def no_slot_is_lost(self) -> None:
        assert len(self.batcher) == len(self.open)
        assert set(self.batcher.slots()) == set(self.open)

    def teardown(self) -> None:
        # Every open slot ends, with not a step more than it asked for.
        for _ in range(sum(slot.steps - slot.step for slot in self.open)):
            if self.open:
                self.step()
        assert not self.open
        assert not self.batcher.next_batch()


TestBatching = Batching.TestCase
