"""Image-to-image, inpainting and hires fix end where diffusers' own pipelines end."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img import (
    StableDiffusionImg2ImgPipeline,
)
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_inpaint import (
    StableDiffusionInpaintPipeline,
)
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_euler_ancestral_discrete import (
    EulerAncestralDiscreteScheduler,
)
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_heun_discrete import HeunDiscreteScheduler
from diffusers.schedulers.scheduling_lcm import LCMScheduler
from diffusers.schedulers.scheduling_tcd import TCDScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from PIL import Image
from torch import Tensor
from transformers.models.clip.tokenization_clip import CLIPTokenizer

from sfumato.core.edits import Fill, Inpainting
from sfumato.core.request import GenerationRequest
from sfumato.engine.engine import DiffusionEngine
from sfumato.engine.slots import DiffusionSlot
from tests.support.pictures import Brought, noise, rectangle
from tests.support.tiny_models import SCHEDULER, SIDE, TinyModel, make_model
from tests.support.tolerances import AS_DIFFUSERS

SOLVERS = {
    "euler": EulerDiscreteScheduler,
    "euler_a": EulerAncestralDiscreteScheduler,
    "ddim": DDIMScheduler,
    "dpmpp_2m": DPMSolverMultistepScheduler,
    "heun": HeunDiscreteScheduler,
    "unipc": UniPCMultistepScheduler,
    "lcm": LCMScheduler,
    "tcd": TCDScheduler,
}
PICTURE = noise(SIDE, SIDE).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
MASK = rectangle(SIDE, SIDE, (8, 4, 24, 20))
STEPS = 8

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(autouse=True)
def quiet() -> None:
    logging.getLogger("diffusers").setLevel(logging.ERROR)


@pytest.fixture(scope="module")
def inpainter(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """With nine channels."""
    return make_model(tmp_path_factory.mktemp("inpainter"), "sd1", in_channels=9)


def pipeline_of(kind: Any, model: TinyModel, sampler: str) -> Any:
    made = kind(
        vae=model.vae,
        text_encoder=model.text,
        tokenizer=CLIPTokenizer.from_pretrained(model.path / "tokenizer", local_files_only=True),
        unet=model.unet,
        scheduler=SOLVERS[sampler].from_config(dict(SCHEDULER)),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    made.set_progress_bar_config(disable=True)
    return made


def asked(sampler: str, **fields: Any) -> tuple[Brought, GenerationRequest]:
    brought = Brought()
    masked = fields.pop("masked", False)
    fill = fields.pop("fill", Fill.ORIGINAL)
    init = brought.add(PICTURE)
    inpainting = None
    if masked:
        inpainting = Inpainting(brought.add(MASK), blur=0, fill=fill)
    return brought, GenerationRequest(
        "a castle",
        negative_prompt="day",
        sampler=sampler,
        seed=5,
        guidance_scale=4.0,
        num_inference_steps=STEPS,
        init_image=init,
        inpainting=inpainting,
        **fields,
    )


def by_diffusers(pipeline: Any, request: GenerationRequest, **fields: Any) -> Tensor:
    return pipeline(  # type: ignore[no-any-return]
        request.prompt,
        negative_prompt=request.negative_prompt,
        image=PICTURE,
        strength=request.strength,
        num_inference_steps=STEPS,
        guidance_scale=request.guidance_scale,
        generator=torch.Generator().manual_seed(5),
        output_type="latent",
        **fields,
    ).images


def run(model: TinyModel, brought: Brought, request: GenerationRequest) -> DiffusionSlot:
    engine = DiffusionEngine("cpu", threads=1)
    engine.load(model.info)
    slot = engine.admit(brought.task(request, model.info))
    while slot.step < slot.steps:
        engine.step([slot])
    return slot


def same(found: Tensor, expected: Tensor) -> None:
    size = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(
        found[None] / size, expected / size, rtol=AS_DIFFUSERS, atol=AS_DIFFUSERS
    )


@pytest.mark.parametrize("strength", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("sampler", list(SOLVERS))
def test_image_to_image(sd1: TinyModel, sampler: str, strength: float) -> None:
    brought, request = asked(sampler, strength=strength)
    # Where that is less than one step, diffusers refuses; here it is one.
    _, at_least_one = asked(sampler, strength=max(strength, 1 / STEPS))
    pipeline = pipeline_of(StableDiffusionImg2ImgPipeline, sd1, sampler)
    # The pipelines' own default switches off the noise that TCD lives on.
    eta = 0.3 if sampler == "tcd" else 0.0
    expected = by_diffusers(pipeline, at_least_one, eta=eta)
    same(run(sd1, brought, request).latents, expected)


@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize("sampler", ["euler", "ddim", "dpmpp_2m", "unipc"])
def test_inpainting_with_any_model(sd1: TinyModel, sampler: str, strength: float) -> None:
    brought, request = asked(sampler, strength=strength, masked=True)
    pipeline = pipeline_of(StableDiffusionInpaintPipeline, sd1, sampler)
    expected = by_diffusers(pipeline, request, mask_image=MASK, height=SIDE, width=SIDE)
    same(run(sd1, brought, request).latents, expected)


@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize("sampler", ["euler", "euler_a", "ddim", "dpmpp_2m", "heun"])
def test_inpainting_with_a_model_for_it(
    inpainter: TinyModel, sampler: str, strength: float
) -> None:
    brought, request = asked(sampler, strength=strength, masked=True)
    pipeline = pipeline_of(StableDiffusionInpaintPipeline, inpainter, sampler)
    expected = by_diffusers(pipeline, request, mask_image=MASK, height=SIDE, width=SIDE)
    same(run(inpainter, brought, request).latents, expected)


def test_text_to_image_with_a_model_for_inpainting_redraws_all(inpainter: TinyModel) -> None:
    request = GenerationRequest(
        "a castle", "day", sampler="euler", seed=5, guidance_scale=4.0, num_inference_steps=STEPS
    )
    pipeline = pipeline_of(StableDiffusionInpaintPipeline, inpainter, "euler")
    white = Image.new("L", (SIDE, SIDE), 255)
    expected = by_diffusers(
        pipeline,
        asked("euler", strength=1.0)[1],
        mask_image=white,
        height=SIDE,
        width=SIDE,
    )
    same(run(inpainter, Brought(), request).latents, expected)
