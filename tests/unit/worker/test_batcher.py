"""The step batcher keeps its promises for any coming and going of slots."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sfumato.worker.batcher import StepBatcher

ROW_LIMIT = 8


@dataclass(eq=False)
class FakeSlot:
    batch_key: str
    rows: int
    steps: int
    priority: int = 0
    step: int = 0
    notes: tuple[str, ...] = ()
    passed_over: int = field(default=0, repr=False)

    @property
    def task(self) -> Any:
        return SimpleNamespace(request=SimpleNamespace(priority=self.priority))


def _batcher() -> StepBatcher:
    return StepBatcher(lambda _key: ROW_LIMIT)


def test_different_step_counts_and_guidance_share_a_step() -> None:
    batcher = _batcher()
    slots = [FakeSlot("k", rows=2, steps=4), FakeSlot("k", rows=1, steps=50)]
    for slot in slots:
        batcher.add(slot)
    assert list(batcher.next_batch()) == slots


def test_a_newcomer_joins_at_the_very_next_step() -> None:
    batcher = _batcher()
    first, second = FakeSlot("k", 2, 9), FakeSlot("k", 2, 9)
    batcher.add(first)
    assert list(batcher.next_batch()) == [first]
    batcher.add(second)
    assert list(batcher.next_batch()) == [first, second]


def test_a_slot_larger_than_the_limit_steps_alone() -> None:
    batcher = StepBatcher(lambda _key: 1)
    slots = [FakeSlot("k", 2, 9), FakeSlot("k", 2, 9)]
    for slot in slots:
        batcher.add(slot)
    assert list(batcher.next_batch()) == slots[:1]


def test_higher_priority_goes_first() -> None:
    batcher = StepBatcher(lambda _key: 2)
    low, high = FakeSlot("k", 2, 9), FakeSlot("k", 2, 9, priority=5)
    batcher.add(low)
    batcher.add(high)
    assert list(batcher.next_batch()) == [high]


class Batching(RuleBasedStateMachine):
    """Slots come, are stepped and go; none is lost, none starves, no step is invented."""

    def __init__(self) -> None:
        super().__init__()
        self.batcher = _batcher()
        self.open: list[FakeSlot] = []
        self.steps_given = 0
        self.steps_taken = 0

    @rule(
        key=st.sampled_from("abc"),
        rows=st.integers(1, 2),
        steps=st.integers(1, 6),
        priority=st.integers(-1, 1),
    )
    def add(self, key: str, rows: int, steps: int, priority: int) -> None:
        slot = FakeSlot(key, rows, steps, priority)
        self.open.append(slot)
        self.batcher.add(slot)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(self.open))
        self.open.remove(slot)
        self.batcher.remove(slot)
        self.batcher.remove(slot)

    @precondition(lambda self: self.open)
    @rule()
    def step(self) -> None:
        batch = self.batcher.next_batch()
        assert batch
        assert len({slot.batch_key for slot in batch}) == 1
        assert len(set(batch)) == len(batch)
        assert sum(slot.rows for slot in batch) <= ROW_LIMIT
        self.steps_given += len(batch)
        for slot in batch:
            assert slot in self.open
            assert isinstance(slot, FakeSlot)
            slot.step += 1
            self.steps_taken += 1
            if slot.step == slot.steps:
                self.open.remove(slot)
                self.batcher.remove(slot)

    @invariant()
    def no_slot_is_lost(self) -> None:
        assert len(self.batcher) == len(self.open)
        assert set(self.batcher.slots()) == set(self.open)
        assert self.steps_given == self.steps_taken

    def teardown(self) -> None:
        # Every open slot ends within a bounded number of steps: nobody starves.
        bound = sum(slot.steps for slot in self.open) + 1
        for _ in range(bound):
            if not self.open:
                break
            self.step()
        assert not self.open


TestBatching = Batching.TestCase
