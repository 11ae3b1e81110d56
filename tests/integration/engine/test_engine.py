from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from sfumato.core.errors import EngineFailure, NumericalError, OutOfMemory, StartupRefused
from sfumato.core.models import ModelInfo, settle
from sfumato.core.ports import EncodedImage, ImageTask
from sfumato.core.request import GenerationRequest, OutputFormat
from sfumato.core.samplers import SAMPLERS
from sfumato.engine import memory
from sfumato.engine.engine import DiffusionEngine
from sfumato.engine.slots import DiffusionSlot
from tests.support.rendering import render
from tests.support.tiny_models import SIDE, TinyModel
from tests.support.tolerances import SAME


def task_of(model: ModelInfo, prompt: str = "a castle", *, index: int = 0, **fields) -> ImageTask:
    request = GenerationRequest(prompt, **{"seed": 7, **fields})
    return ImageTask("job", index, request, settle(request, model, random_seed=0), model)


def finish(engine: DiffusionEngine, *slots: DiffusionSlot) -> list[EncodedImage]:
    while under_way := [slot for slot in slots if slot.step < slot.steps]:
        engine.step(under_way)
    return [render(engine, slot) for slot in slots]


def pixels(image: EncodedImage) -> npt.NDArray[np.float32]:
    with Image.open(io.BytesIO(image.data)) as opened:
        return np.asarray(opened.convert("RGB"), dtype=np.float32)


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_a_request_becomes_a_picture_and_the_same_one_again(
    engine: DiffusionEngine, sd1: TinyModel, sampler: str
) -> None:
    first, again, other = (
        finish(engine, engine.admit(task_of(sd1.info, prompt, sampler=sampler)))[0]
        for prompt in ("a castle", "a castle", "a dragon")
    )
    assert first.data == again.data
    assert not np.array_equal(pixels(first), pixels(other))
    assert pixels(first).shape == (SIDE, SIDE, 3)


def test_slots_of_all_kinds_share_steps_and_end_as_alone(
    engine: DiffusionEngine, sd1: TinyModel
) -> None:
    tasks = [
        task_of(sd1.info, "a castle", sampler="euler", num_inference_steps=3),
        task_of(sd1.info, "a tower", sampler="euler_a", num_inference_steps=6, seed=1),
        task_of(sd1.info, "a sea", sampler="dpmpp_2m", num_inference_steps=5, guidance_scale=1),
        task_of(sd1.info, "a hill", sampler="ddim", negative_prompt="night", guidance_scale=7),
        task_of(sd1.info, "a moon", sampler="lcm", index=3, guidance_scale=0),
    ]
    together = [engine.admit(task) for task in tasks]
    engine.step(together[:3])  # the others join later
    finish(engine, *together)
    for task, slot in zip(tasks, together, strict=True):
        alone = engine.admit(task)
        finish(engine, alone)
        torch.testing.assert_close(slot.latents, alone.latents, rtol=SAME, atol=SAME)


def test_guidance_takes_two_rows_and_none_takes_one(
    engine: DiffusionEngine, sd1: TinyModel
) -> None:
    assert engine.admit(task_of(sd1.info, guidance_scale=1.5)).rows == 2
    assert engine.admit(task_of(sd1.info, guidance_scale=1.0)).rows == 1


def test_sizes_have_keys_of_their_own_and_may_not_share_a_step(
    engine: DiffusionEngine, sd1: TinyModel
) -> None:
    wide = engine.admit(task_of(sd1.info, width=48, height=32))
    square = engine.admit(task_of(sd1.info, sampler="lcm"))
    assert wide.batch_key != square.batch_key
    assert engine.row_limit(wide.batch_key) >= 2
    with pytest.raises(EngineFailure, match="batch key"):
        engine.step([wide, square])
    (image,) = finish(engine, wide)
    assert (image.width, image.height) == (48, 32)


@pytest.mark.parametrize(
    "sampler", ["euler_a", "heun", "lms", "plms", "dpmpp_2m", "dpmpp_sde", "unipc"]
)
def test_a_resumed_slot_ends_with_the_same_pixels(
    engine: DiffusionEngine, sd1: TinyModel, sampler: str
) -> None:
    task = task_of(sd1.info, sampler=sampler, num_inference_steps=6)
    slot = engine.admit(task)
    for _ in range(3):
        engine.step([slot])
    blob = engine.export(slot)
    elsewhere = DiffusionEngine("cpu", threads=1)
    elsewhere.load(sd1.info)
    resumed = elsewhere.resume(task, blob)
    assert resumed.step == 3
    assert finish(elsewhere, resumed)[0].data == finish(engine, slot)[0].data


def test_a_checkpoint_of_another_picture_is_refused(
    engine: DiffusionEngine, sd1: TinyModel
) -> None:
    slot = engine.admit(task_of(sd1.info))
    engine.step([slot])
    blob = engine.export(slot)
    foreign = [
        (task_of(sd1.info, "another"), blob),
        (task_of(sd1.info, seed=8), blob),
        (task_of(sd1.info), blob[:-10]),
        (task_of(sd1.info), blob.replace(b"sfumato-slot-3", b"sfumato-slot-2")),
        (task_of(sd1.info), b""),
        (task_of(sd1.info), b"\x02\0\0\0\0\0\0\0{}"),
    ]
    for task, bytes_ in foreign:
        with pytest.raises(EngineFailure, match="checkpoint"):
            engine.resume(task, bytes_)


def test_numbers_that_are_not_finite_fail_their_own_slot_alone(
    engine: DiffusionEngine, sd1: TinyModel
) -> None:
    sick, well = engine.admit(task_of(sd1.info)), engine.admit(task_of(sd1.info, seed=9))
    engine.step([sick, well])
    sick.state = replace(sick.state, latents=torch.full_like(sick.latents, torch.nan))
    while sick.step < sick.steps:
        engine.step([sick, well])
    with pytest.raises(NumericalError, match="step 2 of 4"):
        render(engine, sick)
    assert engine.preview(sick).startswith("data:image/")
    assert pixels(render(engine, well)).std() > 0


def test_a_vae_that_answers_with_nan_fails_the_picture(
    engine: DiffusionEngine, sd1: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = engine.admit(task_of(sd1.info))
    finish(engine, slot)
    black = torch.full((1, 3, SIDE, SIDE), torch.nan)
    model = engine._models[sd1.info.name].model
    monkeypatch.setattr(model.vae, "decode", lambda _: black)
    with pytest.raises(NumericalError, match="VAE"):
        render(engine, slot)


def test_neighbours_do_not_change_a_bit_while_the_rows_are_as_many(
    engine: DiffusionEngine, sd1: TinyModel
) -> None:
    ends = []
    for neighbour in ("a sea", "a hill"):
        slot = engine.admit(task_of(sd1.info, sampler="euler_a"))
        finish(engine, slot, engine.admit(task_of(sd1.info, neighbour, seed=1)))
        ends.append(slot.latents)
    assert torch.equal(*ends)


@pytest.mark.parametrize(("side", "rows"), [(16, 32), (32, 32), (64, 16), (128, 4), (256, 2)])
def test_a_cpu_takes_fewer_rows_of_larger_pictures(
    engine: DiffusionEngine,
    sd1: TinyModel,
    side: int,
    rows: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "available", lambda _device: 1 << 40)
    slot = engine.admit(task_of(sd1.info, width=side, height=side))
    assert engine.row_limit(slot.batch_key) == rows


def test_a_failed_step_leaves_its_slots_as_they_were(
    engine: DiffusionEngine, sd1: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot, twin = (engine.admit(task_of(sd1.info, sampler="euler_a")) for _ in range(2))
    engine.step([slot])
    engine.step([twin])
    model = engine._models[sd1.info.name].model
    failures = [
        (RuntimeError("something odd"), EngineFailure),
        (torch.OutOfMemoryError("CUDA out of memory"), OutOfMemory),
        (RuntimeError("DefaultCPUAllocator: not enough memory"), OutOfMemory),
    ]
    for raised, expected in failures:
        with monkeypatch.context() as patch:
            patch.setattr(model, "predict", _raiser(raised))
            with pytest.raises(expected, match="take a step"):
                engine.step([slot])
    assert slot.step == 1
    assert finish(engine, slot)[0].data == finish(engine, twin)[0].data


def _raiser(error: Exception) -> Callable[..., torch.Tensor]:
    def predict(*_: object) -> torch.Tensor:
        raise error

    return predict


def test_the_preview_resembles_the_picture(engine: DiffusionEngine, sd1: TinyModel) -> None:
    slot = engine.admit(task_of(sd1.info))
    url = engine.preview(slot)
    (image,) = finish(engine, slot)
    head, _, data = url.partition(",")
    assert head == "data:image/webp;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as opened:
        assert max(opened.size) <= 96
    _, _, data = engine.preview(slot).partition(",")
    with Image.open(io.BytesIO(base64.b64decode(data))) as opened:
        small = np.asarray(opened.convert("RGB").resize((4, 4), Image.Resampling.BOX))
    drawn = Image.fromarray(pixels(image).astype(np.uint8)).resize((4, 4), Image.Resampling.BOX)
    assert np.abs(small.astype(float) - np.asarray(drawn)).mean() < 24


@pytest.mark.parametrize("output_format", list(OutputFormat))
def test_the_picture_is_resampled_to_exactly_the_size_asked_and_holds_its_recipe(
    engine: DiffusionEngine, sd1: TinyModel, output_format: OutputFormat
) -> None:
    model = replace(sd1.info, sizes=((SIDE, SIDE),))
    task = task_of(model, "château, 城", width=72, height=40, output_format=output_format)
    (image,) = finish(engine, engine.admit(task))
    assert image.media_type == output_format.media_type
    with Image.open(io.BytesIO(image.data)) as opened:
        opened.load()
        assert opened.size == (72, 40) == (image.width, image.height)
        if output_format is OutputFormat.PNG:
            assert json.loads(opened.text["sfumato"]) == image.recipe
            text = opened.text["parameters"]
        else:
            text = opened.getexif().get_ifd(0x8769)[0x9286][8:].decode("utf-16-be")
    assert text.startswith("château, 城\nSteps: 4, Sampler: DPM++ 2M, CFG scale: 3, Seed: 7")
    assert "Size: 32x32" in text
    assert "Resampled to: 72x40" in text


def test_it_computes_in_half_the_width_where_told_to(sd1: TinyModel) -> None:
    narrow, wide = (DiffusionEngine("cpu", dtype, threads=1) for dtype in ("bfloat16", "float32"))
    pictures = []
    for engine in (narrow, wide):
        engine.load(sd1.info)
        slot = engine.admit(task_of(sd1.info))
        pictures.append(pixels(finish(engine, slot)[0]))
        assert slot.latents.dtype == torch.float32
    assert 0 < np.abs(pictures[0] - pictures[1]).mean() < 8


def test_a_device_that_is_not_there_is_refused_at_once() -> None:
    with pytest.raises(StartupRefused, match="'cuda:99'"):
        DiffusionEngine("cuda:99")
    with pytest.raises(StartupRefused, match="'float8'"):
        DiffusionEngine("cpu", "float8")


def test_a_model_that_is_not_loaded_is_named(sd1: TinyModel) -> None:
    with pytest.raises(EngineFailure, match="'tiny-sd1' is not loaded"):
        DiffusionEngine("cpu").admit(task_of(sd1.info))
