"""The step batcher: which slots share the next denoising step. Pure Python, no clock, no torch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence

from sfumato.core.ports import Slot


class StepBatcher:
    """Slots join and leave between any two steps.

    Slots of equal ``batch_key`` form a group, by priority and then by arrival; the first of a
    group that fit its row limit share a step. Groups take turns, so none starves.

    Args:
        row_limit: rows of the network's batch that a step of a key may have. A slot that alone
            exceeds it still gets its step, alone.
    """

    def __init__(self, row_limit: Callable[[Hashable], int]) -> None:
        self._row_limit = row_limit
        self._groups: dict[Hashable, list[Slot]] = {}
        self._turns: deque[Hashable] = deque()

    def __len__(self) -> int:
        return sum(len(group) for group in self._groups.values())

    def add(self, slot: Slot) -> None:
        """Let a slot join at the next step of its group."""
        group = self._groups.get(slot.batch_key)
        if group is None:
            group = self._groups[slot.batch_key] = []
            self._turns.append(slot.batch_key)
        group.append(slot)
        group.sort(key=lambda member: -member.task.request.priority)

    def remove(self, slot: Slot) -> None:
        """Let a slot leave; harmless when it has left already."""
        group = self._groups.get(slot.batch_key, [])
        if slot in group:
            group.remove(slot)
        if not group and slot.batch_key in self._groups:
            del self._groups[slot.batch_key]
            self._turns.remove(slot.batch_key)

    def slots(self) -> list[Slot]:
        """Every slot, group by group."""
        return [slot for group in self._groups.values() for slot in group]

    def next_batch(self) -> Sequence[Slot]:
        """The slots of the next step, and the turn passes to the next group. Empty: nothing to do."""
        if not self._turns:
            return []
        key = self._turns[0]
        self._turns.rotate(-1)
        limit, rows, batch = self._row_limit(key), 0, list[Slot]()
        for slot in self._groups[key]:
            if batch and rows + slot.rows > limit:
                break
            batch.append(slot)
            rows += slot.rows
        return batch
