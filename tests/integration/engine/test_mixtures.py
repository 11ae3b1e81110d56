"""Pictures of every kind, in any company and after any checkpoint, end as they do alone."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from sfumato.core.edits import Fill, Hires, Inpainting, Outpainting, Variation
from sfumato.core.errors import EngineFailure
from sfumato.core.inputs import InputImage
from sfumato.core.ports import ImageTask
from sfumato.core.request import Determinism, GenerationRequest
from sfumato.engine.engine import DiffusionEngine
from sfumato.engine.slots import DiffusionSlot
from tests.support.batching import finish
from tests.support.pictures import Brought, noise, rectangle
from tests.support.rendering import render
from tests.support.tiny_models import SIDE, TinyModel, make_model
from tests.support.tolerances import SAME


@pytest.fixture(scope="module")
def inpainter(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """With nine channels."""
    model = make_model(tmp_path_factory.mktemp("inpainter"), "sd1", in_channels=9)
    return replace(model, info=replace(model.info, name="tiny-inpainter"))


@pytest.fixture(scope="module", params=["four channels", "nine channels"])
def model(request: pytest.FixtureRequest, sd1: TinyModel, inpainter: TinyModel) -> TinyModel:
    return inpainter if request.param == "nine channels" else sd1


@pytest.fixture(scope="module")
def both(sd1: TinyModel, inpainter: TinyModel) -> DiffusionEngine:
    """An engine with both models."""
    engine = DiffusionEngine("cpu", threads=1)
    for model in (sd1, inpainter):
        engine.load(model.info)
    return engine


@dataclass(frozen=True)
class Pictures:
    """What the requests of this module bring along."""

    brought: Brought
    init: InputImage
    mask: InputImage

    @classmethod
    def made(cls) -> Pictures:
        brought = Brought()
        init = brought.add(noise(SIDE, SIDE))
        return cls(brought, init, brought.add(rectangle(SIDE, SIDE, (6, 3, 21, 18))))

    def inpainting(self, **fields: object) -> Inpainting:
        return Inpainting(self.mask, **{"blur": 2, **fields})  # type: ignore[arg-type]

    def task(self, model: TinyModel, seed: int, sampler: str, **fields: object) -> ImageTask:
        asked = {"num_inference_steps": 4, "seed": seed, "sampler": sampler, **fields}
        return self.brought.task(GenerationRequest("a castle", **asked), model.info)  # type: ignore[arg-type]


PICTURES = Pictures.made()
KINDS: dict[str, dict[str, object]] = {
    "text": {},
    "unguided": {"guidance_scale": 1.0},
    "variation": {"variation": Variation(3, 0.4)},
    "picture": {"init_image": PICTURES.init, "strength": 0.6},
    "mask": {"init_image": PICTURES.init, "inpainting": PICTURES.inpainting(), "strength": 0.8},
    "noisy mask": {
        "init_image": PICTURES.init,
        "inpainting": PICTURES.inpainting(fill=Fill.NOISE, only_masked=True, padding=2),
        "strength": 0.8,
    },
    "hires": {"hires": Hires(1.5, strength=0.6)},
    "picture, hires": {
        "init_image": PICTURES.init,
        "strength": 0.5,
        "hires": Hires(1.5, strength=0.5, num_inference_steps=3),
    },
}
SAMPLERS = ("euler_a", "dpmpp_2m", "heun", "unipc", "lcm", "dpmpp_sde")


@st.composite
def asked(draw: st.DrawFn) -> tuple[str, str, int]:
    """A kind, a sampler, and a seed."""
    return (
        draw(st.sampled_from(sorted(KINDS))),
        draw(st.sampled_from(SAMPLERS)),
        draw(st.integers(0, 9)),
    )


def draw_in_any_order(
    engine: DiffusionEngine, tasks: Sequence[ImageTask], data: st.DataObject
) -> list[DiffusionSlot]:
    """Any slots of one key share a step, and any slot is handed over as a checkpoint."""
    slots = [engine.admit(task) for task in tasks]
    while under_way := [n for n, slot in enumerate(slots) if slot.step < slot.steps]:
        chosen = data.draw(st.sampled_from(under_way), label="who leads a step")
        alike = [n for n in under_way if slots[n].batch_key == slots[chosen].batch_key]
        others = data.draw(st.sets(st.sampled_from(alike)), label="who may share it")
        free = engine.row_limit(slots[chosen].batch_key) // 2
        engine.step([slots[n] for n in [chosen, *sorted(others - {chosen})][:free]])
        if data.draw(st.integers(0, 3), label="whether it is handed over") == 0:
            slots[chosen] = engine.resume(tasks[chosen], engine.export(slots[chosen]))
    return slots


@settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(kinds=st.lists(asked(), min_size=2, max_size=4), data=st.data())
def test_any_mixture_ends_as_each_alone(
    both: DiffusionEngine,
    model: TinyModel,
    kinds: list[tuple[str, str, int]],
    data: st.DataObject,
) -> None:
    tasks = [PICTURES.task(model, seed, sampler, **KINDS[kind]) for kind, sampler, seed in kinds]
    together = draw_in_any_order(both, tasks, data)
    for task, slot in zip(tasks, together, strict=True):
        alone = both.admit(task)
        finish(both, alone)
        size = max(1.0, float(alone.latents.abs().max()))
        torch.testing.assert_close(slot.latents / size, alone.latents / size, rtol=SAME, atol=SAME)


@settings(
    max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(kinds=st.lists(asked(), min_size=2, max_size=3), data=st.data())
def test_any_strict_mixture_ends_in_the_same_bits(
    both: DiffusionEngine,
    model: TinyModel,
    kinds: list[tuple[str, str, int]],
    data: st.DataObject,
) -> None:
    strict = {"determinism": Determinism.STRICT}
    tasks = [
        PICTURES.task(model, seed, sampler, **KINDS[kind], **strict)
        for kind, sampler, seed in kinds
    ]
    for task, slot in zip(tasks, draw_in_any_order(both, tasks, data), strict=True):
        alone = both.admit(task)
        finish(both, alone)
        assert torch.equal(slot.latents, alone.latents)


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_checkpoint_of_any_step_ends_in_the_same_bytes(
    both: DiffusionEngine, model: TinyModel, kind: str
) -> None:
    task = PICTURES.task(model, 7, "euler_a", **KINDS[kind])
    slot = both.admit(task)
    blobs = [both.export(slot)]
    while slot.step < slot.steps:
        both.step([slot])
        blobs.append(both.export(slot))
    expected = render(both, slot).data
    assert {finish(both, both.resume(task, blob)) for blob in blobs} == {expected}


def test_a_checkpoint_of_another_edit_is_refused(both: DiffusionEngine, sd1: TinyModel) -> None:
    mine = KINDS["mask"]
    blob = both.export(both.admit(PICTURES.task(sd1, 7, "euler", **mine)))
    others = [
        {**mine, "strength": 0.7},
        {**mine, "inpainting": PICTURES.inpainting(blur=3)},
        {**mine, "inpainting": None},
        {**mine, "init_image": PICTURES.mask, "inpainting": PICTURES.inpainting()},
        {**mine, "variation": Variation(1, 0.5)},
    ]
    for fields in others:
        with pytest.raises(EngineFailure, match="checkpoint"):
            both.resume(PICTURES.task(sd1, 7, "euler", **fields), blob)


def pixels(file: bytes) -> npt.NDArray[np.uint8]:
    with Image.open(io.BytesIO(file)) as opened:
        return np.asarray(opened.convert("RGB"))


@pytest.mark.parametrize("only_masked", [False, True])
@pytest.mark.parametrize("fill", list(Fill))
def test_what_the_mask_leaves_keeps_its_bytes(
    both: DiffusionEngine,
    model: TinyModel,
    fill: Fill,
    *,
    only_masked: bool,
) -> None:
    edit = PICTURES.inpainting(blur=0, fill=fill, only_masked=only_masked, padding=4)
    task = PICTURES.task(model, 7, "euler", init_image=PICTURES.init, inpainting=edit, strength=0.6)
    found = pixels(finish(both, both.admit(task)))
    before = np.asarray(noise(SIDE, SIDE))
    inside = np.zeros((SIDE, SIDE), bool)
    inside[3:18, 6:21] = True
    assert np.array_equal(found[~inside], before[~inside])
    assert (found[inside] != before[inside]).mean() > 0.9


def test_each_fill_begins_otherwise(both: DiffusionEngine, sd1: TinyModel) -> None:
    begun = []
    for fill in Fill:
        edit = PICTURES.inpainting(fill=fill)
        fields = {"init_image": PICTURES.init, "inpainting": edit, "strength": 0.5}
        slot = both.admit(PICTURES.task(sd1, 7, "euler", **fields))
        kept = slot.began.kept
        assert kept is not None
        begun.append(kept.picture * kept.mask)
        assert begun[0].shape == (4, 16, 16)
    of_nothing = begun[list(Fill).index(Fill.NOTHING)]
    of_noise = begun[list(Fill).index(Fill.NOISE)]
    assert not of_nothing.any()
    assert of_noise[of_noise != 0].std() == pytest.approx(1, abs=0.15)
    assert len({round(float(each.sum()), 3) for each in begun}) == len(Fill)


def test_outpainting_draws_beyond_the_edges(both: DiffusionEngine, sd1: TinyModel) -> None:
    fields = {"init_image": PICTURES.init, "outpainting": Outpainting(right=16, blur=0)}
    found = pixels(finish(both, both.admit(PICTURES.task(sd1, 7, "euler", **fields))))
    assert found.shape == (SIDE, SIDE + 16, 3)
    assert np.array_equal(found[:, :SIDE], np.asarray(noise(SIDE, SIDE)))
    assert found[:, SIDE:].std() > 0
