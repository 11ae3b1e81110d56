"""A worker with the real engine: pictures of every kind at once, counted, canceled, handed over."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from sfumato.core.edits import Hires, Inpainting, Variation
from sfumato.core.events import EventKind
from sfumato.core.job import JobStatus
from sfumato.core.ports import Slot
from sfumato.engine.engine import DiffusionEngine
from tests.support.gates import Gate, dropping, releasing
from tests.support.parts import House, open_house
from tests.support.pictures import Brought, noise, rectangle
from tests.support.tiny_models import SIDE, TinyModel

FIRST_PASS = 4
HIRES = Hires(1.5, strength=0.5)
LONG = Hires(1.5, strength=1.0, num_inference_steps=12)


async def steps_told(house: House, job_id: str) -> list[tuple[int, int]]:
    events = await house.store.events(job_id)
    told = [event.data for event in events if event.kind is EventKind.STEP]
    return [(int(data["step"]), int(data["steps"])) for data in told]  # type: ignore[call-overload]


async def test_pictures_of_every_kind_share_a_worker(
    engine: DiffusionEngine, sd1: TinyModel
) -> None:
    brought = Brought()
    init = brought.add(noise(SIDE, SIDE))
    mask = brought.add(rectangle(SIDE, SIDE, (4, 4, 20, 20)))
    edits: list[dict[str, object]] = [
        {},
        {"hires": HIRES},
        {"init_image": init, "strength": 0.5, "inputs": brought.files},
        {"init_image": init, "inpainting": Inpainting(mask), "inputs": brought.files},
        {"variation": Variation(3, 0.5), "num_images": 2},
        {"init_image": init, "strength": 0.5, "hires": HIRES, "inputs": brought.files},
    ]
    async with open_house(sd1.info) as house, house.working(engine):
        jobs = [await house.submit(**fields) for fields in edits]  # type: ignore[arg-type]
        done = [await house.finished(job) for job in jobs]
        assert [job.status for job in done] == [JobStatus.SUCCEEDED] * len(edits), done
        for job, steps in zip(done, (4, 4 + 2, 2, 4, 2 * 4, 2 + 2), strict=True):
            told = await steps_told(house, job.id)
            assert told[-1] == (steps, steps), "the last step is always told"
            assert told == sorted(told)


class Held(DiffusionEngine):
    """Stops at a gate before each step of a second pass."""

    def __init__(self, gate: Gate) -> None:
        super().__init__("cpu", threads=1)
        self._gate = gate

    def step(self, slots: Sequence[Slot]) -> None:
        if slots[0].step >= FIRST_PASS:
            self._gate(slots)
        super().step(slots)


async def test_a_second_pass_is_canceled_before_its_next_step(
    sd1: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, dropped = Gate(hold_from_step=2), dropping(monkeypatch)
    async with open_house(sd1.info) as house, house.working(Held(gate)):
        job = await house.submit(hires=LONG)
        await gate.wait_reached()
        await house.tracking.cancel(job.id)
        await dropped.wait()
        gate.go_on.set()
        assert (await house.finished(job)).status is JobStatus.CANCELED
        assert (await house.finished(await house.submit())).status is JobStatus.SUCCEEDED
    assert len(gate.batches) == 2


async def test_a_second_pass_is_handed_over(sd1: TinyModel) -> None:
    fields = {"hires": LONG, "sampler": "euler_a", "seed": 3}
    plain, gate, after = DiffusionEngine("cpu", threads=1), Gate(hold_from_step=4), Gate()
    after.go_on.set()
    async with open_house(sd1.info) as house:
        async with house.working(plain):
            whole = await house.finished(await house.submit(**fields))  # type: ignore[arg-type]
        async with house.working(Held(gate), grace=0.0) as worker:
            job = await house.submit(**fields)  # type: ignore[arg-type]
            await gate.wait_reached()
            worker.drain()
            await releasing(worker)
            gate.go_on.set()
        assert (await house.tracking.get(job.id)).status is JobStatus.QUEUED
        async with house.working(Held(after), name="w2"):
            done = await house.finished(job)
    assert done.status is JobStatus.SUCCEEDED
    assert len(gate.batches) + len(after.batches) == 12, "no step is done twice"
    assert done.images[0].sha256 == whole.images[0].sha256
