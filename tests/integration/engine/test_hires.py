"""Hires fix: a picture of two stages."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import (
    StableDiffusionPipeline,
)
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img import (
    StableDiffusionImg2ImgPipeline,
)
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from torch import Tensor
from torch.nn import functional
from transformers.models.clip.tokenization_clip import CLIPTokenizer

from sfumato.core.edits import Hires
from sfumato.core.errors import EngineFailure, InvalidRequest, NumericalError
from sfumato.core.ports import ImageTask
from sfumato.engine.engine import DiffusionEngine
from sfumato.engine.networks import Networks
from sfumato.engine.slots import DiffusionSlot
from sfumato.engine.stages import Beginning, Stage
from tests.support.batching import finish
from tests.support.rendering import render, task_of
from tests.support.tiny_models import SCHEDULER, SIDE, TinyModel

HIRES = Hires(scale=1.5, strength=0.5)


def hires_task(model: TinyModel, **fields: object) -> ImageTask:
    return task_of(model.info, **{"num_inference_steps": 4, "hires": HIRES, **fields})


@pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("sampler", "solver"),
    [("ddim", DDIMScheduler), ("euler", EulerDiscreteScheduler)],
)
def test_both_passes_end_where_diffusers_pipelines_end(
    engine: DiffusionEngine, sd1: TinyModel, sampler: str, solver: type
) -> None:
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    parts = {
        "vae": sd1.vae,
        "text_encoder": sd1.text,
        "tokenizer": CLIPTokenizer.from_pretrained(sd1.path / "tokenizer", local_files_only=True),
        "unet": sd1.unet,
        "scheduler": solver.from_config(dict(SCHEDULER)),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }
    asked = {
        "guidance_scale": 3.0,
        "generator": torch.Generator().manual_seed(7),
        "output_type": "latent",
    }
    first, second = (
        pipeline(**parts) for pipeline in (StableDiffusionPipeline, StableDiffusionImg2ImgPipeline)
    )
    for pipeline in (first, second):
        pipeline.set_progress_bar_config(disable=True)
    small = first("a castle", width=SIDE, height=SIDE, num_inference_steps=4, **asked).images
    large = functional.interpolate(small, size=(24, 24), mode="bilinear")
    expected = second("a castle", large, strength=0.5, num_inference_steps=6, **asked).images
    hires = replace(HIRES, num_inference_steps=6)
    slot = engine.admit(hires_task(sd1, sampler=sampler, hires=hires))
    finish(engine, slot)
    torch.testing.assert_close(slot.latents[None], expected, rtol=1e-3, atol=1e-3)


def test_the_second_pass_has_its_own_key_and_cost(engine: DiffusionEngine, sd1: TinyModel) -> None:
    slot = engine.admit(hires_task(sd1))
    first, cost = slot.batch_key, slot.cost
    assert slot.steps == 4 + 2
    for _ in range(4):
        engine.step([slot])
    assert slot.step == 4
    assert (slot.batch_key.latent_shape, first.latent_shape) == ((4, 24, 24), (4, 16, 16))
    assert slot.cost == cost * 2.25
    assert engine.preview(slot).startswith("data:image/")
    engine.step([slot])
    assert engine.preview(slot).startswith("data:image/")
    with pytest.raises(EngineFailure, match="5 of 6"):
        list(engine.decode([slot]))
    engine.step([slot])
    image = render(engine, slot)
    assert (image.width, image.height) == (48, 48)


def test_it_is_resumed_at_any_step_of_either_pass(engine: DiffusionEngine, sd1: TinyModel) -> None:
    task = hires_task(sd1, sampler="dpmpp_2m_sde", num_inference_steps=3, index=2)
    slot = engine.admit(task)
    blobs = [engine.export(slot)]
    while slot.step < slot.steps:
        engine.step([slot])
        blobs.append(engine.export(slot))
    expected = render(engine, slot).data
    elsewhere = DiffusionEngine("cpu", threads=1)
    elsewhere.load(sd1.info)
    for step, blob in enumerate(blobs):
        resumed = elsewhere.resume(task, blob)
        assert resumed.step == step
        assert resumed.stage_index == (step >= 3)
        assert finish(elsewhere, resumed) == expected


class Broken:
    """An origin that fails."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def begin(
        self,
        stage: Stage,
        before: Tensor | None,
        generator: torch.Generator,
        networks: Networks,
    ) -> Beginning:
        raise self._error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("odd"), EngineFailure),
        (InvalidRequest("no such thing", field="hires", accepted="another"), InvalidRequest),
    ],
)
def test_a_slot_that_can_not_go_on_ends_alone(
    engine: DiffusionEngine, sd1: TinyModel, error: Exception, expected: type[Exception]
) -> None:
    sick, well = engine.admit(hires_task(sd1)), engine.admit(hires_task(sd1, seed=8))
    sick.stages = (sick.stages[0], replace(sick.stages[1], origin=Broken(error)))
    for _ in range(4):
        engine.step([sick, well])
    assert sick.step == sick.steps
    assert well.step == 4
    with pytest.raises(expected, match=r"odd|no such"):
        list(engine.decode([sick]))
    assert finish(engine, well)


def test_numbers_that_are_not_finite_end_a_slot_before_its_second_pass(
    engine: DiffusionEngine, sd1: TinyModel
) -> None:
    slot = engine.admit(hires_task(sd1))
    engine.step([slot])
    slot.state = replace(slot.state, latents=torch.full_like(slot.latents, torch.nan))
    for _ in range(3):
        engine.step([slot])
    assert slot.step == slot.steps
    with pytest.raises(NumericalError, match="step 2 of 6"):
        list(engine.decode([slot]))


def poisoned(slot: DiffusionSlot) -> None:
    slot.state = replace(slot.state, latents=torch.full_like(slot.latents, torch.nan))


@pytest.mark.parametrize("at", [2, 6])
def test_it_is_retried_in_float32_in_either_pass(sd1: TinyModel, at: int) -> None:
    narrow = DiffusionEngine("cpu", "bfloat16", threads=1)
    narrow.load(sd1.info)
    slot = narrow.admit(hires_task(sd1, hires=replace(HIRES, strength=1.0)))
    for _ in range(at):
        narrow.step([slot])
    stage = slot.stage_index
    poisoned(slot)
    while not slot.retried:
        narrow.step([slot])
    assert slot.stage_index == stage == (at > 4)
    assert slot.step == 4 * stage, "back to where its pass began"
    assert slot.batch_key.precise
    assert finish(narrow, slot)
    assert "drawn in float32" in slot.notes[-1]
