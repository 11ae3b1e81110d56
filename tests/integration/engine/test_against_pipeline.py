"""The engine ends where diffusers' own pipeline ends, network, guidance and all."""

from __future__ import annotations

import logging

import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import (
    StableDiffusionPipeline,
)
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_euler_ancestral_discrete import (
    EulerAncestralDiscreteScheduler,
)
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from transformers.models.clip.tokenization_clip import CLIPTokenizer

from sfumato.core.models import settle
from sfumato.core.ports import ImageTask
from sfumato.core.request import GenerationRequest
from sfumato.engine.engine import DiffusionEngine
from tests.support.tiny_models import SCHEDULER, TinyModel

SOLVERS = {
    "euler": EulerDiscreteScheduler,
    "euler_a": EulerAncestralDiscreteScheduler,
    "ddim": DDIMScheduler,
    "dpmpp_2m": DPMSolverMultistepScheduler,
}

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(autouse=True)
def quiet() -> None:
    logging.getLogger("diffusers").setLevel(logging.ERROR)


@pytest.mark.parametrize("sampler", list(SOLVERS))
@pytest.mark.parametrize("family", ["sd1", "sd2"])
def test_latents_end_where_the_pipelines_do(
    request: pytest.FixtureRequest, family: str, sampler: str
) -> None:
    model: TinyModel = request.getfixturevalue(family)
    prediction = "epsilon" if family == "sd1" else "v_prediction"
    pipeline = StableDiffusionPipeline(
        vae=model.vae,
        text_encoder=model.text,
        tokenizer=CLIPTokenizer.from_pretrained(model.path / "tokenizer", local_files_only=True),
        unet=model.unet,
        scheduler=SOLVERS[sampler].from_config({**SCHEDULER, "prediction_type": prediction}),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    asked = GenerationRequest(
        "A castle, at night", negative_prompt="day", sampler=sampler, seed=5, guidance_scale=4.0
    )
    expected = pipeline(
        asked.prompt,
        negative_prompt=asked.negative_prompt,
        width=32,
        height=32,
        num_inference_steps=4,
        guidance_scale=asked.guidance_scale,
        generator=torch.Generator().manual_seed(5),
        output_type="latent",
    ).images
    engine = DiffusionEngine("cpu", threads=1)
    engine.load(model.info)
    settings = settle(asked, model.info, random_seed=0)
    slot = engine.admit(ImageTask("job", 0, asked, settings, model.info))
    while slot.step < slot.steps:
        engine.step([slot])
    torch.testing.assert_close(slot.latents[None], expected, rtol=1e-3, atol=1e-3)
