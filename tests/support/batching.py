"""Pictures drawn together, in whatever company a test chooses."""

from __future__ import annotations

from collections.abc import Sequence

from sfumato.core.ports import ImageTask
from sfumato.engine.engine import DiffusionEngine
from sfumato.engine.slots import DiffusionSlot
from tests.support.rendering import render


def draw_together(
    engine: DiffusionEngine, tasks: Sequence[ImageTask], joins: Sequence[int] | None = None
) -> list[bytes]:
    """The files of the pictures, each of which joins after so many steps of the batch.

    A step takes those of the first one's key that fit its row limit, in their order, and those
    that had no part go first in the next.
    """
    waiting = sorted(zip(joins or [0] * len(tasks), range(len(tasks)), strict=True))
    slots: dict[int, DiffusionSlot] = {}
    done: dict[int, bytes] = {}
    steps = 0
    while len(done) < len(tasks):
        while waiting and (waiting[0][0] <= steps or not slots):
            number = waiting.pop(0)[1]
            slots[number] = engine.admit(tasks[number])
        steps += 1
        company = _company(engine, slots)
        engine.step([slots[number] for number in company])
        for number in company:
            slot = slots.pop(number)
            if slot.step < slot.steps:
                slots[number] = slot  # behind those that had no part
            else:
                done[number] = render(engine, slot).data
    return [done[number] for number in range(len(tasks))]


def finish(engine: DiffusionEngine, slot: DiffusionSlot) -> bytes:
    """The file of a picture whose last steps are drawn alone."""
    while slot.step < slot.steps:
        engine.step([slot])
    return render(engine, slot).data


def _company(engine: DiffusionEngine, slots: dict[int, DiffusionSlot]) -> list[int]:
    key = next(iter(slots.values())).batch_key
    free, chosen = engine.row_limit(key), list[int]()
    for number, slot in slots.items():
        if slot.batch_key == key and (slot.rows <= free or not chosen):
            chosen.append(number)
            free -= slot.rows
    return chosen
