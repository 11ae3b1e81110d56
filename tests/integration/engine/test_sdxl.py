"""SDXL ends where diffusers' own pipeline ends: two text encoders, size, empty negative prompt."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_euler_ancestral_discrete import (
    EulerAncestralDiscreteScheduler,
)
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from torch import Tensor

from sfumato.core.errors import InvalidRequest, ModelUnusable
from sfumato.core.extras import Refiner
from sfumato.engine.engine import DiffusionEngine
from sfumato.engine.families.loading import load_folder
from sfumato.engine.lean import LeanTransformerBlock
from sfumato.engine.prompts import PromptEncoder
from sfumato.engine.remembering import Remembered
from sfumato.engine.weights import Placement
from tests.support.rendering import task_of
from tests.support.tiny_models import SCHEDULER, TinyModel
from tests.support.tiny_xl import WIDTHS, TinyXl, make_xl
from tests.support.tolerances import AS_DIFFUSERS

SOLVERS: dict[str, Any] = {
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


@pytest.fixture
def engine(xl: TinyXl) -> DiffusionEngine:
    engine = DiffusionEngine("cpu", threads=1)
    engine.load(xl.info)
    return engine


@pytest.fixture
def encoder(engine: DiffusionEngine, xl: TinyXl) -> PromptEncoder:
    return engine._models[xl.info.name].model.prompts


def drawn(engine: DiffusionEngine, xl: TinyXl, prompt: str, **fields: object) -> Tensor:
    slot = engine.admit(task_of(xl.info, prompt, **fields))
    while slot.step < slot.steps:
        engine.step([slot])
    return slot.latents


@pytest.mark.parametrize("negative", ["day", None])
@pytest.mark.parametrize("sampler", list(SOLVERS))
def test_latents_end_where_the_pipelines_do(
    engine: DiffusionEngine, xl: TinyXl, sampler: str, negative: str | None
) -> None:
    expected = xl.pipeline(SOLVERS[sampler].from_config(SCHEDULER))(
        "A castle, at night",
        negative_prompt=negative,
        width=48,
        height=32,
        num_inference_steps=4,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(5),
        output_type="latent",
    ).images
    latents = drawn(
        engine,
        xl,
        "A castle, at night",
        **{"negative_prompt": negative} if negative else {},
        width=48,
        height=32,
        sampler=sampler,
        seed=5,
        guidance_scale=4.0,
    )
    torch.testing.assert_close(latents[None], expected, rtol=AS_DIFFUSERS, atol=AS_DIFFUSERS)


@pytest.mark.parametrize("zeros", [True, False])
def test_an_empty_negative_prompt_is_zeros_where_the_model_says_so(
    tmp_path: Path, xl: TinyXl, zeros: bool
) -> None:
    folder = tmp_path / "told"
    shutil.copytree(xl.path, folder)
    index = json.loads((folder / "model_index.json").read_text())
    told = json.dumps({**index, "force_zeros_for_empty_prompt": zeros})
    (folder / "model_index.json").write_text(told)
    model = replace(xl.info, path=str(folder))
    engine = DiffusionEngine("cpu", threads=1)
    engine.load(model)
    for empty in ("", "  "):
        task = task_of(model, "tree, " * 60, negative_prompt=empty)
        conditioning = engine.admit(task).conditioning
        assert conditioning.negative is not None
        (text,) = conditioning.negative.distinct
        assert text.pooled is not None
        assert text.tokens.shape == (2 * 77, sum(WIDTHS))
        assert bool(text.tokens.any()) is not zeros
        assert bool(text.pooled.any()) is not zeros


@torch.inference_mode()
def test_a_text_is_what_both_encoders_say_before_their_last_layer(
    encoder: PromptEncoder, xl: TinyXl
) -> None:
    pipeline = xl.pipeline(SOLVERS["euler"].from_config(SCHEDULER))
    for clip_skip, left_out in ((1, None), (2, None), (3, 1)):
        theirs, _, pooled, _ = pipeline.encode_prompt(
            "a castle", device="cpu", do_classifier_free_guidance=False, clip_skip=left_out
        )
        (ours,) = encoder.encode(["a castle"], clip_skip)
        assert ours.pooled is not None
        torch.testing.assert_close(ours.tokens, theirs[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(ours.pooled, pooled[0], rtol=1e-4, atol=1e-5)
    with pytest.raises(InvalidRequest, match="3 layers"):
        encoder.encode(["a castle"], 4)


@torch.inference_mode()
def test_each_encoders_mean_stays_when_a_word_is_weighed(encoder: PromptEncoder) -> None:
    plain, weighed = encoder.encode(["a castle", "a (castle:1.5)"])
    for part in (slice(0, WIDTHS[0]), slice(WIDTHS[0], None)):
        before, after = plain.tokens[:, part], weighed.tokens[:, part]
        scaled = before.clone()
        scaled[2] *= 1.5  # after the start and "a"
        torch.testing.assert_close(after, scaled * (before.mean() / scaled.mean()))
    assert plain.pooled is not None
    assert weighed.pooled is not None
    torch.testing.assert_close(plain.pooled, weighed.pooled)


@torch.inference_mode()
def test_a_long_text_is_summed_up_by_its_first_chunk(encoder: PromptEncoder) -> None:
    first, both = encoder.encode(["a castle", "a castle BREAK a ship"])
    assert both.tokens.shape[0] == 2 * 77
    assert torch.equal(both.tokens[:77], first.tokens)
    assert first.pooled is not None
    assert both.pooled is not None
    assert torch.equal(both.pooled, first.pooled)


def test_every_syntax_of_prompts_changes_the_picture(engine: DiffusionEngine, xl: TinyXl) -> None:
    prompts = [
        "a castle",
        "a (castle:1.4)",
        "a castle BREAK by the sea",
        "a castle AND a ship:0.5",
        "a [castle:ship:0.5]",
        "a [castle|ship]",
        "a very old castle on a hill, " * 20,
    ]
    pictures = [drawn(engine, xl, prompt) for prompt in prompts]
    assert all(picture.isfinite().all() for picture in pictures)
    for n, picture in enumerate(pictures):
        assert not any(torch.allclose(picture, other) for other in pictures[:n])


def test_in_a_mixed_batch_each_ends_as_alone(engine: DiffusionEngine, xl: TinyXl) -> None:
    asked: list[dict[str, Any]] = [
        {"prompt": "a castle", "sampler": "euler", "num_inference_steps": 3},
        {"prompt": "a ship", "sampler": "dpmpp_2m", "num_inference_steps": 5, "seed": 2},
        {"prompt": "two (dogs:1.3)", "sampler": "euler_a", "guidance_scale": 1.0},
        {"prompt": "a hill AND a tree", "sampler": "heun", "negative_prompt": "day"},
    ]
    alone = [drawn(engine, xl, **fields) for fields in asked]
    slots = [engine.admit(task_of(xl.info, **fields)) for fields in asked]
    while under_way := [slot for slot in slots if slot.step < slot.steps]:
        engine.step(under_way)
    for slot, picture in zip(slots, alone, strict=True):
        torch.testing.assert_close(slot.latents, picture, rtol=AS_DIFFUSERS, atol=AS_DIFFUSERS)


def test_families_side_by_side_draw_what_they_draw_alone(
    engine: DiffusionEngine, xl: TinyXl, sd1: TinyModel
) -> None:
    alone = DiffusionEngine("cpu", threads=1)
    alone.load(sd1.info)
    engine.load(sd1.info)
    tasks = [task_of(sd1.info, "a castle"), task_of(xl.info, "a castle")]
    big = drawn(engine, xl, "a castle")
    slots = [engine.admit(task) for task in tasks]
    assert slots[0].batch_key != slots[1].batch_key
    while slots[0].step < slots[0].steps:
        for slot in slots:
            engine.step([slot])
    single = alone.admit(tasks[0])
    while single.step < single.steps:
        alone.step([single])
    assert torch.equal(slots[0].latents, single.latents)
    assert torch.equal(slots[1].latents, big)


def test_its_vae_computes_in_float32_where_half_precision_overflows(
    tmp_path: Path, xl: TinyXl
) -> None:
    folder = tmp_path / "fixed"
    shutil.copytree(xl.path, folder)
    config = json.loads((folder / "vae/config.json").read_text())
    (folder / "vae/config.json").write_text(json.dumps({**config, "force_upcast": False}))
    half = Placement(torch.device("cpu"), torch.float16)
    assert load_folder(xl.path, half).vae.dtype == torch.float32
    assert load_folder(folder, half).vae.dtype == torch.float16
    latents = torch.randn(1, 4, 8, 8)
    with torch.inference_mode():
        whole = load_folder(xl.path, Placement(torch.device("cpu"), torch.float32))
        near = load_folder(xl.path, half).vae.decode(latents)
    torch.testing.assert_close(near, whole.vae.decode(latents), rtol=0, atol=0.01)


def test_its_network_is_packed_and_remembers_its_prompts(
    engine: DiffusionEngine, xl: TinyXl
) -> None:
    unet = engine._models[xl.info.name].model._unet
    kinds = [type(module) for module in unet.modules()]
    # Two layers deep in two attentions of the descent, one of the middle, three of the ascent.
    assert kinds.count(LeanTransformerBlock) == 2 * (2 + 1 + 3)
    assert kinds.count(Remembered) == 2 * kinds.count(LeanTransformerBlock)
    assert torch.nn.Linear not in kinds
    assert torch.nn.Conv2d not in kinds


def test_in_half_the_width_it_ends_near(xl: TinyXl, refiner: TinyXl) -> None:
    pictures = []
    for dtype in ("float32", "bfloat16"):
        engine = DiffusionEngine("cpu", dtype, threads=1)
        engine.load(xl.info)
        engine.load(refiner.info)
        task = task_of(xl.info, refiner=Refiner(refiner.info.name, 0.5), sampler="euler")
        slot = engine.admit(replace(task, extras=(refiner.info,)))
        while slot.step < slot.steps:
            engine.step([slot])
        assert not slot.retried
        pictures.append(slot.latents)
    precise, narrow = pictures
    assert (narrow - precise).abs().mean() < 0.05 * precise.std()


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("unet/config.json", {"in_channels": 8}, "takes 8 channels"),
        ("unet/config.json", {"cross_attention_dim": 64}, "reads texts 64 wide"),
        ("unet/config.json", {"addition_time_embed_dim": 100}, "added channels"),
        ("text_encoder_2/config.json", {"hidden_size": 64}, "text_encoder_2"),
    ],
)
def test_a_folder_whose_parts_do_not_fit_says_so(
    tmp_path: Path, xl: TinyXl, part: str, change: dict[str, Any], message: str
) -> None:
    folder = tmp_path / "odd"
    shutil.copytree(xl.path, folder)
    config = json.loads((folder / part).read_text())
    (folder / part).write_text(json.dumps({**config, **change}))
    with pytest.raises(ModelUnusable, match=message):
        load_folder(folder, Placement(torch.device("cpu"), torch.float32))


def test_turbo_and_lightning_follow_their_schedulers_config(
    tmp_path: Path,
) -> None:
    turbo = make_xl(tmp_path, "turbo", timestep_spacing="trailing")
    expected = turbo.pipeline(
        EulerDiscreteScheduler.from_config({**SCHEDULER, "timestep_spacing": "trailing"})
    )(
        "a castle",
        width=32,
        height=32,
        num_inference_steps=2,
        guidance_scale=0.0,
        generator=torch.Generator().manual_seed(5),
        output_type="latent",
    ).images
    engine = DiffusionEngine("cpu", threads=1)
    engine.load(turbo.info)
    fields = {"num_inference_steps": 2, "guidance_scale": 0.0, "seed": 5, "sampler": "euler"}
    slot = engine.admit(task_of(turbo.info, **fields))
    assert slot.rows == 1
    assert slot.table.timestep(0) == 999
    latents = drawn(engine, turbo, "a castle", **fields)
    torch.testing.assert_close(latents[None], expected, rtol=AS_DIFFUSERS, atol=AS_DIFFUSERS)
