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
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from PIL import Image
from torch import Tensor

from sfumato.core.edits import Inpainting
from sfumato.core.request import GenerationRequest
from sfumato.engine.engine import DiffusionEngine
from tests.support.pictures import Brought, noise, rectangle
from tests.support.tiny_models import SCHEDULER, SIDE
from tests.support.tiny_xl import TinyXl, make_xl
from tests.support.tolerances import AS_DIFFUSERS

SOLVERS: dict[str, Any] = {"euler": EulerDiscreteScheduler, "ddim": DDIMScheduler}
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
def inpainter(tmp_path_factory: pytest.TempPathFactory) -> TinyXl:
    """With nine channels."""
    return make_xl(tmp_path_factory.mktemp("inpainter"), in_channels=9)


def both(
    model: TinyXl, kind: Any, sampler: str, strength: float, *, masked: bool
) -> tuple[Tensor, Tensor]:
    """The latents that the engine ends with, and diffusers' pipeline."""
    brought = Brought()
    request = GenerationRequest(
        "a castle",
        negative_prompt="day",
        sampler=sampler,
        seed=5,
        guidance_scale=4.0,
        num_inference_steps=STEPS,
        init_image=brought.add(PICTURE),
        strength=strength,
        inpainting=Inpainting(brought.add(MASK), blur=0) if masked else None,
    )
    engine = DiffusionEngine("cpu", threads=1)
    engine.load(model.info)
    slot = engine.admit(brought.task(request, model.info))
    while slot.step < slot.steps:
        engine.step([slot])
    expected = model.pipeline(SOLVERS[sampler].from_config(dict(SCHEDULER)), kind)(
        request.prompt,
        negative_prompt=request.negative_prompt,
        image=PICTURE,
        strength=strength,
        num_inference_steps=STEPS,
        guidance_scale=request.guidance_scale,
        generator=torch.Generator().manual_seed(5),
        output_type="latent",
        **{"mask_image": MASK, "width": SIDE, "height": SIDE} if masked else {},
    ).images
    return slot.latents[None], expected


@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize("sampler", list(SOLVERS))
def test_image_to_image(xl: TinyXl, sampler: str, strength: float) -> None:
    found, expected = both(xl, StableDiffusionXLImg2ImgPipeline, sampler, strength, masked=False)
    torch.testing.assert_close(found, expected, rtol=AS_DIFFUSERS, atol=AS_DIFFUSERS)


@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize("sampler", list(SOLVERS))
@pytest.mark.parametrize("channels", [4, 9])
def test_inpainting(
    xl: TinyXl, inpainter: TinyXl, channels: int, sampler: str, strength: float
) -> None:
    model = xl if channels == 4 else inpainter
    found, expected = both(model, StableDiffusionXLInpaintPipeline, sampler, strength, masked=True)
    torch.testing.assert_close(found, expected, rtol=AS_DIFFUSERS, atol=AS_DIFFUSERS)
