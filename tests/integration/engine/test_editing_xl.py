"""Image-to-image and inpainting with SDXL end where diffusers' own pipelines end."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl_img2img import (
    StableDiffusionXLImg2ImgPipeline,
)
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl_inpaint import (
    StableDiffusionXLInpaintPipeline,
)
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler

from sfumato.core.edits import Inpainting
from sfumato.core.request import GenerationRequest
from sfumato.engine.engine import DiffusionEngine
from tests.support.batching import finish
from tests.support.pictures import Brought, noise, rectangle
from tests.support.tiny_models import SCHEDULER, SIDE
from tests.support.tiny_xl import TinyXl
from tests.support.tolerances import AS_DIFFUSERS

SOLVERS: dict[str, Any] = {
    "euler": EulerDiscreteScheduler,
    "dpmpp_2m": DPMSolverMultistepScheduler,
}
PICTURE, MASK = noise(SIDE, SIDE), rectangle(SIDE, SIDE, (8, 4, 24, 20))

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("sampler", list(SOLVERS))
def test_latents_end_where_the_pipelines_do(xl: TinyXl, sampler: str, *, masked: bool) -> None:
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    kind = StableDiffusionXLInpaintPipeline if masked else StableDiffusionXLImg2ImgPipeline
    pipeline = xl.pipeline(SOLVERS[sampler].from_config(SCHEDULER), kind)
    fields = {"mask_image": MASK, "width": SIDE, "height": SIDE} if masked else {}
    expected = pipeline(
        "a castle",
        negative_prompt="day",
        image=PICTURE,
        strength=0.5,
        num_inference_steps=8,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(5),
        output_type="latent",
        **fields,
    ).images
    brought = Brought()
    request = GenerationRequest(
        "a castle",
        "day",
        seed=5,
        sampler=sampler,
        guidance_scale=4.0,
        num_inference_steps=8,
        init_image=brought.add(PICTURE),
        strength=0.5,
        inpainting=Inpainting(brought.add(MASK), blur=0) if masked else None,
    )
    engine = DiffusionEngine("cpu", threads=1)
    engine.load(xl.info)
    slot = engine.admit(brought.task(request, xl.info))
    finish(engine, slot)
    torch.testing.assert_close(slot.latents[None], expected, rtol=AS_DIFFUSERS, atol=AS_DIFFUSERS)
