"""ControlNets together with what else a request may ask for."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.pipelines.controlnet.pipeline_controlnet_img2img import (
    StableDiffusionControlNetImg2ImgPipeline,
)
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from PIL import Image
from transformers.models.clip.tokenization_clip import CLIPTokenizer

from sfumato.core.edits import Hires, Inpainting
from sfumato.core.extras import Control
from sfumato.core.models import ModelInfo
from sfumato.core.ports import ImageTask
from sfumato.core.request import Determinism
from sfumato.engine.admission import admit
from sfumato.engine.engine import DiffusionEngine
from tests.support.rendering import task_of
from tests.support.tiny_controls import control_picture, make_control, save_folder
from tests.support.tiny_models import SCHEDULER, SIDE, TinyModel

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    before = logging.getLogger("diffusers").level
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    yield
    logging.getLogger("diffusers").setLevel(before)


@pytest.fixture(scope="module")
def net(sd1: TinyModel) -> ControlNetModel:
    return make_control(sd1.unet, 11)


@pytest.fixture(scope="module")
def info(net: ControlNetModel, tmp_path_factory: pytest.TempPathFactory) -> ModelInfo:
    return save_folder(net, tmp_path_factory.mktemp("nets") / "edges", "sd1")


def controlled(
    model: ModelInfo,
    net: ModelInfo,
    picture: int = 1,
    *,
    side: int = SIDE,
    start: float = 0.0,
    end: float = 1.0,
    **fields: object,
) -> ImageTask:
    image, data = control_picture(picture, side, side)
    controls = (Control(net.name, image, start=start, end=end),)
    task = task_of(model, controls=controls, **fields)
    return replace(task, extras=(net,), inputs={image.sha256: data})


def test_image_to_image_ends_where_diffusers_ends(
    engine: DiffusionEngine, sd1: TinyModel, net: ControlNetModel, info: ModelInfo
) -> None:
    """Start and end are parts of the steps that are taken."""
    begun, data = control_picture(5)
    task = controlled(
        *(sd1.info, info),
        init_image=begun,
        strength=0.6,
        start=0.3,
        end=0.9,
        sampler="euler",
        num_inference_steps=10,
    )
    slot = engine.admit(replace(task, inputs={**task.inputs, begun.sha256: data}))
    while slot.step < slot.steps:
        engine.step([slot])
    pipeline = StableDiffusionControlNetImg2ImgPipeline(
        vae=sd1.vae,
        text_encoder=sd1.text,
        tokenizer=CLIPTokenizer.from_pretrained(sd1.path / "tokenizer", local_files_only=True),
        unet=sd1.unet,
        controlnet=net,
        scheduler=EulerDiscreteScheduler.from_config(SCHEDULER),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        task.request.prompt,
        image=Image.open(io.BytesIO(data)),
        control_image=Image.open(io.BytesIO(control_picture(1)[1])),
        strength=0.6,
        num_inference_steps=10,
        guidance_scale=task.settings.guidance_scale,
        controlnet_conditioning_scale=1.0,
        control_guidance_start=0.3,
        control_guidance_end=0.9,
        generator=torch.Generator().manual_seed(task.settings.seed),
        output_type="latent",
    ).images[0]
    assert slot.steps == 6
    assert (slot.latents - expected).abs().max() <= 1e-4 * float(expected.abs().max())


def test_a_second_pass_follows_the_picture_at_its_own_size(
    engine: DiffusionEngine, sd1: TinyModel, info: ModelInfo
) -> None:
    slot = engine.admit(controlled(sd1.info, info, side=64, hires=Hires(scale=2.0)))
    shapes = [tuple(stage.controls[0].picture.shape) for stage in slot.stages]
    assert shapes == [(3, SIDE, SIDE), (3, 2 * SIDE, 2 * SIDE)]
    assert [stage.controls[0].steps for stage in slot.stages] == [len(it) for it in slot.stages]
    while slot.step < slot.steps:
        engine.step([slot])
    (image,) = engine.decode([slot])
    assert (image.width, image.height) == (2 * SIDE, 2 * SIDE)


def test_of_a_part_that_is_drawn_alone_the_same_part_is_followed(
    engine: DiffusionEngine, sd1: TinyModel, info: ModelInfo
) -> None:
    begun, _ = control_picture(5, 64, 64)
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (32, 32, 64, 64))
    target = io.BytesIO()
    mask.save(target, "PNG")
    shape, _ = control_picture(0, 64, 64)
    masked = replace(shape, sha256="mask")
    edit = Inpainting(masked, blur=0, only_masked=True, padding=0)
    task = controlled(
        *(sd1.info, info), side=64, init_image=begun, inpainting=edit, width=SIDE, height=SIDE
    )
    inputs = {
        **task.inputs,
        begun.sha256: control_picture(5, 64, 64)[1],
        "mask": target.getvalue(),
    }
    slot = engine.admit(replace(task, inputs=inputs))
    whole = Image.open(io.BytesIO(control_picture(1, 64, 64)[1]))
    shown = slot.stage.controls[0].picture.permute(1, 2, 0).numpy()
    assert Image.fromarray(shown).tobytes() == whole.crop((32, 32, 64, 64)).tobytes()


def test_strict_pictures_keep_every_bit_beside_others(
    engine: DiffusionEngine, sd1: TinyModel, info: ModelInfo
) -> None:
    strict = {"determinism": Determinism.STRICT, "guidance_scale": 1.0}
    tasks = [
        controlled(sd1.info, info, 1, end=0.5, **strict),
        controlled(sd1.info, info, 2, start=0.5, seed=8, **strict),
    ]

    def drawn(*together: ImageTask) -> list[torch.Tensor]:
        slots = [engine.admit(task) for task in together]
        while slots[0].step < slots[0].steps:
            engine.step(slots)
        return [slot.latents for slot in slots]

    apart = [drawn(task)[0] for task in tasks]
    for alone, beside in zip(apart, drawn(*tasks), strict=True):
        assert torch.equal(alone, beside)


def test_the_images_of_a_job_share_one_picture(
    engine: DiffusionEngine, sd1: TinyModel, info: ModelInfo
) -> None:
    task = controlled(sd1.info, info)
    first, second = (engine.admit(replace(task, index=index)) for index in range(2))
    assert first.stage.controls[0].picture is second.stage.controls[0].picture
    assert first.stage.controls[0].net is second.stage.controls[0].net


def test_in_half_precision_and_again_in_float32(sd1: TinyModel, info: ModelInfo) -> None:
    half = DiffusionEngine("cpu", "bfloat16", threads=1)
    half.load(sd1.info)
    task = controlled(sd1.info, info)
    slots = [half.admit(task)]
    with torch.inference_mode():
        slots.append(admit(task, half._networks, precise=True))
    nets = [slot.stage.controls[0].net for slot in slots]
    assert [net._placement.dtype for net in nets] == [torch.bfloat16, torch.float32]
    for slot in slots:
        half.step([slot])
    size = slots[1].latents.norm()
    assert (slots[0].latents.float() - slots[1].latents).norm() < 0.05 * size


def test_it_goes_on_from_a_checkpoint(
    engine: DiffusionEngine, sd1: TinyModel, info: ModelInfo
) -> None:
    task = controlled(sd1.info, info, end=0.75)
    whole, handed = engine.admit(task), engine.admit(task)
    while whole.step < whole.steps:
        engine.step([whole])
    engine.step([handed])
    resumed = engine.resume(task, engine.export(handed))
    while resumed.step < resumed.steps:
        engine.step([resumed])
    assert torch.equal(resumed.latents, whole.latents)
