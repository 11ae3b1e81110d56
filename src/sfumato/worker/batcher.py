"""The step batcher: which slots share the next denoising step. Pure Python, no torch, no thread."""

from __future__ import annotations

import bisect
from collections import Counter, deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

from sfumato.core.ports import Slot

#: Seconds of waiting that count as much as one point of priority.
AGEING = 1.0
#: Seconds for which a new group may be held, so that slots that arrive together start together.
ADMISSION_WINDOW = 0.1


@dataclass(slots=True, eq=False)
class _Member:
    """A slot and what orders it: its arrival, moved back by what its priority is worth."""

    slot: Slot
    key: Hashable
    arrived: float
    due: float
    priority: int
    rows: int
    cost: int


@dataclass(slots=True, eq=False)
class _Group:
    """The slots of one batch key, the next to be served first."""

    members: list[_Member] = field(default_factory=list)
    priorities: Counter[int] = field(default_factory=Counter)
    rows: int = 0
    deficit: float = 0.0
    running: bool = False

    def add(self, member: _Member) -> None:
        bisect.insort(self.members, member, key=lambda other: other.due)
        self.priorities[member.priority] += 1
        self.rows += member.rows

    def remove(self, member: _Member) -> None:
        self.members.remove(member)
        self.priorities -= Counter((member.priority,))
        self.rows -= member.rows

    def first(self, row_limit: int) -> list[_Member]:
        """Its first members that fit the row limit together; at least one."""
        if self.rows <= row_limit:
            return self.members
        chosen, free = self.members[:1], row_limit - self.members[0].rows
        for member in self.members[1:]:
            if free <= 0:
                break
            if member.rows <= free:
                chosen.append(member)
                free -= member.rows
        return chosen


class StepBatcher:
    """Slots join and leave between any two steps.

    Slots of equal ``batch_key`` form a group; the first of a group that fit its row limit share a
    step. A running group is joined at its next step. A new one begins at once when no other runs,
    when it is full, or when its oldest slot has waited ``window`` seconds; so there is always a
    batch while there is a slot.

    *Between groups*: deficit round-robin. What a group's step costs is the mean of its slots'
    compute units (pixels × rows), so every slot under way gets as much of the device as any other,
    whatever its size and its company: all jobs are slowed down alike. Between two steps of a
    group that takes part in the rounds, another one whose steps cost p to q makes at most
    (Q + q) / p steps, Q being the highest price around.

    *Priorities*: within a group a slot counts as having arrived ``AGEING`` seconds earlier for each
    point of its priority. A group takes part in the rounds when one of its slots, its age
    counted so, is level with the highest priority of the running groups; else it sits out.

    *Bounded waiting*: a slot of priority p is level with everything, and no later arrival goes before
    it, once it is ``AGEING`` × (highest priority - p) seconds old: 200 seconds at the very
    worst. From then on its group takes part in every round, and makes at most as many steps
    without it as those before it in the group have steps left.

    Args:
        row_limit: rows of the network's batch that a step of a key may have. A slot that alone
            exceeds it still gets its step, alone.
        clock: seconds that never jump.
    """

    def __init__(
        self,
        row_limit: Callable[[Hashable], int],
        *,
        clock: Callable[[], float],
        window: float = ADMISSION_WINDOW,
    ) -> None:
        self._row_limit = row_limit
        self._clock = clock
        self._window = window
        self._groups: dict[Hashable, _Group] = {}
        self._members: dict[int, _Member] = {}
        self._turns: deque[Hashable] = deque()
        #: Whether the group whose turn it is has been given this round's quantum.
        self._credited = False

    def __len__(self) -> int:
        return len(self._members)

    def add(self, slot: Slot) -> None:
        """Let a slot join at the next step of its group."""
        now, priority = self._clock(), slot.task.request.priority
        self._insert(slot, arrived=now, due=now - AGEING * priority)

    def remove(self, slot: Slot) -> None:
        """Let a slot leave; harmless when it has left already."""
        member = self._members.pop(id(slot), None)
        if member is None:
            return
        group = self._groups[member.key]
        group.remove(member)
        if not group.members:
            del self._groups[member.key]
            if self._turns[0] == member.key:
                self._credited = False  # the next one's turn begins
            self._turns.remove(member.key)

    def regroup(self, slot: Slot) -> None:
        """Move a slot whose ``batch_key`` has changed to its new group, its age kept."""
        member = self._members.get(id(slot))
        if member is not None and member.key != slot.batch_key:
            self.remove(slot)
            self._insert(slot, arrived=member.arrived, due=member.due)

    def slots(self) -> list[Slot]:
        """Every slot, in the order of arrival."""
        return [member.slot for member in self._members.values()]

    def next_batch(self) -> Sequence[Slot]:
        """The slots of the next step. Empty: there is no slot."""
        if not self._groups:
            return []
        now = self._clock()
        limits = {key: self._row_limit(key) for key in self._groups}
        ready = self._ready(now, limits)
        highest = max(max(group.priorities) for group in ready.values())
        batches = {
            key: group.first(limits[key])
            for key, group in ready.items()
            if highest in group.priorities or group.members[0].due + AGEING * highest <= now
        }
        batch = batches[self._take_turns(batches)]
        self._groups[batch[0].key].running = True
        return [member.slot for member in batch]

    def _insert(self, slot: Slot, *, arrived: float, due: float) -> None:
        key = slot.batch_key
        member = _Member(slot, key, arrived, due, slot.task.request.priority, slot.rows, slot.cost)
        self._members[id(slot)] = member
        if key not in self._groups:
            self._groups[key] = _Group()
            self._turns.append(key)
        self._groups[key].add(member)

    def _ready(self, now: float, limits: dict[Hashable, int]) -> dict[Hashable, _Group]:
        """The groups that may step: those that run, and the new ones that need not be held."""
        idle = not any(group.running for group in self._groups.values())
        return {
            key: group
            for key, group in self._groups.items()
            if idle
            or group.running
            or group.rows >= limits[key]
            or now - min(member.arrived for member in group.members) >= self._window
        }

    def _take_turns(self, batches: dict[Hashable, list[_Member]]) -> Hashable:
        """Whose turn it is by deficit round-robin, paid for."""
        prices = {
            key: sum(member.cost for member in batch) / len(batch) for key, batch in batches.items()
        }
        quantum = max(prices.values())
        while True:
            key = self._turns[0]
            group = self._groups[key]
            if key not in prices:
                group.deficit = 0.0  # nobody saves up while he sits out
            else:
                if not self._credited:
                    group.deficit += quantum
                    self._credited = True
                if group.deficit >= prices[key]:
                    group.deficit -= prices[key]
                    return key
            self._turns.rotate(-1)
            self._credited = False
