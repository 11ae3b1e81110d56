"""ControlNets end where diffusers' own pipelines end, alone and in a batch of all sorts."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.pipelines.controlnet.pipeline_controlnet import StableDiffusionControlNetPipeline
from diffusers.pipelines.controlnet.pipeline_controlnet_sd_xl import (
    StableDiffusionXLControlNetPipeline,
)
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from PIL import Image
from torch import Tensor
from transformers.models.clip.tokenization_clip import CLIPTokenizer

from sfumato.core.extras import Control
from sfumato.core.models import ModelInfo
from sfumato.core.ports import ImageTask
from sfumato.engine.engine import DiffusionEngine
from tests.support.rendering import task_of
from tests.support.tiny_controls import (
    control_names,
    control_picture,
    make_control,
    save_folder,
    save_single,
)
from tests.support.tiny_models import SCHEDULER, SIDE, TinyModel
from tests.support.tiny_xl import TinyXl

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
STEPS = 6


@dataclass(frozen=True)
class TinyControl:
    info: ModelInfo
    net: ControlNetModel


@dataclass(frozen=True)
class Use:
    """How a test uses a ControlNet. ``picture``: seed of the picture that it follows."""

    control: TinyControl
    picture: int = 1
    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0


@pytest.fixture(autouse=True)
def quiet() -> None:
    logging.getLogger("diffusers").setLevel(logging.ERROR)


@pytest.fixture(scope="session")
def edges(sd1: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> TinyControl:
    """In a diffusers folder."""
    net = make_control(sd1.unet, 11)
    return TinyControl(save_folder(net, tmp_path_factory.mktemp("nets") / "edges", "sd1"), net)


@pytest.fixture(scope="session")
def depth(sd1: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> TinyControl:
    """In one file, as their authors name its tensors."""
    net = make_control(sd1.unet, 12)
    path = tmp_path_factory.mktemp("nets") / "depth.safetensors"
    return TinyControl(save_single(control_names(net), path, "sd1"), net)


def controlled(model: ModelInfo, uses: Sequence[Use], **fields: Any) -> ImageTask:
    pictures = [control_picture(use.picture) for use in uses]
    controls = tuple(
        Control(use.control.info.name, image, use.strength, use.start, use.end)
        for use, (image, _) in zip(uses, pictures, strict=True)
    )
    task = task_of(model, controls=controls, num_inference_steps=STEPS, sampler="euler", **fields)
    return replace(
        task,
        extras=tuple({use.control.info.name: use.control.info for use in uses}.values()),
        inputs={image.sha256: data for image, data in pictures},
    )


def ours(engine: DiffusionEngine, task: ImageTask) -> Tensor:
    slot = engine.admit(task)
    while slot.step < slot.steps:
        engine.step([slot])
    return slot.latents


def opened(seed: int) -> Image.Image:
    return Image.open(io.BytesIO(control_picture(seed)[1]))


def theirs(model: TinyModel | TinyXl, task: ImageTask, uses: Sequence[Use]) -> Tensor:
    """The latents of diffusers' own pipeline."""
    nets = [use.control.net for use in uses]
    family = model.info.family
    config = {**SCHEDULER, "prediction_type": "v_prediction" if family == "sd2" else "epsilon"}
    scheduler = EulerDiscreteScheduler.from_config(config)
    if isinstance(model, TinyXl):
        parts = model.pipeline(scheduler).components
        del parts["image_encoder"], parts["feature_extractor"]
        pipeline = StableDiffusionXLControlNetPipeline(
            **parts, controlnet=nets, add_watermarker=False
        )
    else:
        folder = model.path / "tokenizer"
        pipeline = StableDiffusionControlNetPipeline(
            vae=model.vae,
            text_encoder=model.text,
            tokenizer=CLIPTokenizer.from_pretrained(folder, local_files_only=True),
            unet=model.unet,
            controlnet=nets,
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    pipeline.set_progress_bar_config(disable=True)
    settings = task.settings
    answer: Tensor = pipeline(
        task.request.prompt,
        image=[opened(use.picture) for use in uses],
        negative_prompt=task.request.negative_prompt,
        width=SIDE,
        height=SIDE,
        num_inference_steps=STEPS,
        guidance_scale=settings.guidance_scale,
        controlnet_conditioning_scale=[use.strength for use in uses],
        control_guidance_start=[use.start for use in uses],
        control_guidance_end=[use.end for use in uses],
        generator=torch.Generator().manual_seed(settings.seed),
        output_type="latent",
    ).images
    return answer[0]


def check(found: Tensor, expected: Tensor) -> None:
    """Alike to 1e-4 of what the latents span."""
    assert (found - expected).abs().max() <= 1e-4 * max(1.0, float(expected.abs().max()))


def test_one_net_ends_where_diffusers_ends(
    engine: DiffusionEngine, sd1: TinyModel, edges: TinyControl
) -> None:
    uses = [Use(edges, strength=0.7)]
    task = controlled(sd1.info, uses, negative_prompt="day")
    latents = ours(engine, task)
    check(latents, theirs(sd1, task, uses))
    assert (latents - ours(engine, controlled(sd1.info, [], negative_prompt="day"))).abs().max() > 1


def test_two_nets_with_a_start_and_an_end(
    engine: DiffusionEngine, sd1: TinyModel, edges: TinyControl, depth: TinyControl
) -> None:
    uses = [Use(edges, 1, 0.8, start=0.3), Use(depth, 2, 1.4, end=0.6)]
    task = controlled(sd1.info, uses)
    check(ours(engine, task), theirs(sd1, task, uses))


def test_one_net_twice_with_two_pictures(
    engine: DiffusionEngine, sd1: TinyModel, depth: TinyControl
) -> None:
    uses = [Use(depth, 1, 0.5), Use(depth, 2, 0.5, end=0.5)]
    task = controlled(sd1.info, uses)
    check(ours(engine, task), theirs(sd1, task, uses))


def test_sd2(sd2: TinyModel, tmp_path: Path) -> None:
    net = make_control(sd2.unet, 13)
    info = save_single(control_names(net), tmp_path / "pose.safetensors", "sd2")
    engine = DiffusionEngine("cpu", threads=1)
    engine.load(sd2.info)
    uses = [Use(TinyControl(info, net))]
    task = controlled(sd2.info, uses)
    check(ours(engine, task), theirs(sd2, task, uses))


@pytest.mark.parametrize("layout", ["folder", "authors' names", "diffusers' names"])
def test_sdxl(xl: TinyXl, tmp_path: Path, layout: str) -> None:
    net = make_control(xl.unet, 14)
    path = tmp_path / "pose.safetensors"
    info = {
        "folder": lambda: save_folder(net, tmp_path / "pose", "sdxl"),
        "authors' names": lambda: save_single(control_names(net), path, "sdxl"),
        "diffusers' names": lambda: save_single(net.state_dict(), path, "sdxl"),
    }[layout]()
    engine = DiffusionEngine("cpu", threads=1)
    engine.load(xl.info)
    uses = [Use(TinyControl(info, net), strength=0.9)]
    task = controlled(xl.info, uses, negative_prompt="day")
    check(ours(engine, task), theirs(xl, task, uses))


def test_a_batch_of_all_sorts(
    engine: DiffusionEngine, sd1: TinyModel, edges: TinyControl, depth: TinyControl
) -> None:
    """Strengths, parts of the steps, pictures, guidance and the order of the nets differ."""
    sets = [
        [Use(edges, 1, 0.8, start=0.3), Use(depth, 2, 1.4, end=0.6)],
        [Use(depth, 3, 0.4), Use(edges, 4, 1.1, start=0.2, end=0.9)],
        [Use(edges, 5, 2.0, end=0.3), Use(depth, 6, 0.0)],
    ]
    tasks = [
        controlled(sd1.info, uses, seed=seed, guidance_scale=scale)
        for seed, (uses, scale) in enumerate(zip(sets, (3.0, 1.0, 7.5), strict=True))
    ]
    slots = [engine.admit(task) for task in tasks]
    assert len({slot.batch_key for slot in slots}) == 1
    for _ in range(STEPS):
        engine.step(slots)
    for slot, task, uses in zip(slots, tasks, sets, strict=True):
        check(slot.latents, theirs(sd1, task, uses))


def test_a_slot_that_joins_late_steers_by_its_own_steps(
    engine: DiffusionEngine, sd1: TinyModel, edges: TinyControl
) -> None:
    early = controlled(sd1.info, [Use(edges, 1, end=0.5)])
    late = controlled(sd1.info, [Use(edges, 2, start=0.5)], seed=8)
    alone = [ours(engine, task) for task in (early, late)]
    first, second = engine.admit(early), engine.admit(late)
    for _ in range(3):
        engine.step([first])
    for _ in range(3):
        engine.step([first, second])
    for _ in range(3):
        engine.step([second])
    check(first.latents, alone[0])
    check(second.latents, alone[1])
