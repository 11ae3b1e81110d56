"""Upscalers inside the engine: between the passes of hires fix, and after the last step."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from sfumato.core.edits import Hires, Upscaling
from sfumato.core.errors import EngineFailure, ModelUnusable, NumericalError
from sfumato.core.models import ModelInfo
from sfumato.core.ports import ImageTask
from sfumato.engine.engine import DiffusionEngine
from sfumato.engine.resampling import lanczos, to_tensor
from sfumato.engine.upscalers import load_upscaler
from sfumato.engine.upscaling import upscale
from sfumato.engine.weights import Placement
from tests.support.batching import finish
from tests.support.rendering import task_of
from tests.support.tiny_models import SIDE, TinyModel
from tests.support.tiny_upscalers import make_rrdb, write_upscaler

CPU = Placement(torch.device("cpu"), torch.float32)


@pytest.fixture
def upscaler(tmp_path: Path) -> ModelInfo:
    return write_upscaler(tmp_path, make_rrdb())


def with_upscaler(model: TinyModel, upscaler: ModelInfo, **fields: object) -> ImageTask:
    task = task_of(model.info, num_inference_steps=3, **fields)
    return replace(task, extras=(upscaler,))


def picture(file: bytes) -> Image.Image:
    with Image.open(io.BytesIO(file)) as opened:
        return opened.convert("RGB")


def test_the_finished_picture_is_enlarged(
    engine: DiffusionEngine, sd1: TinyModel, upscaler: ModelInfo
) -> None:
    plain = picture(finish(engine, engine.admit(task_of(sd1.info, num_inference_steps=3))))
    edit = Upscaling(upscaler.name, scale=2.5)
    found = picture(finish(engine, engine.admit(with_upscaler(sd1, upscaler, upscaling=edit))))
    assert found.size == (80, 80)
    expected = upscale(to_tensor(plain), load_upscaler(upscaler, CPU), 2.5)
    # The plain picture was rounded to bytes before.
    assert (to_tensor(found) - expected).abs().max() < 4 / 255


def test_hires_fix_draws_over_what_the_upscaler_made(
    engine: DiffusionEngine, sd1: TinyModel, upscaler: ModelInfo
) -> None:
    hires = Hires(1.5, upscaler=upscaler.name, strength=0.4)
    task = with_upscaler(sd1, upscaler, hires=hires, sampler="ddim")
    slot = engine.admit(task)
    for _ in range(3):
        engine.step([slot])
    model = engine._models[sd1.info.name].model
    first = task_of(sd1.info, num_inference_steps=3, sampler="ddim")
    alone = engine.admit(first)
    finish(engine, alone)
    drawn = model.vae.decode(alone.latents[None])[0]
    enlarged = lanczos(upscale(drawn, load_upscaler(upscaler, CPU), 1.5), 48, 48)
    with torch.inference_mode():
        encoded = model.vae.encode(enlarged[None], _noise(1)[None])[0]
    noise = _noise(2)
    signal, of_noise = slot.table.begins
    torch.testing.assert_close(
        slot.latents, signal * encoded + of_noise * noise, rtol=1e-3, atol=1e-3
    )
    blob = engine.export(slot)
    assert picture(finish(engine, slot)).size == (48, 48)
    assert finish(engine, engine.resume(task, blob))


def _noise(which: int) -> torch.Tensor:
    """What the seed's generator draws for the second pass: what the VAE's answer is drawn with,
    then the noise."""
    generator = torch.Generator().manual_seed(7)
    torch.randn((4, 16, 16), generator=generator)
    drawn = [torch.randn((4, 24, 24), generator=generator) for _ in range(which)]
    return drawn[-1]


def test_a_picture_that_is_resampled_is_enlarged_from_what_was_drawn(
    engine: DiffusionEngine, sd1: TinyModel, upscaler: ModelInfo
) -> None:
    model = replace(sd1.info, sizes=((SIDE, SIDE),))
    task = task_of(
        model, width=48, height=48, num_inference_steps=2, upscaling=Upscaling(upscaler.name, 2.0)
    )
    found = picture(finish(engine, engine.admit(replace(task, extras=(upscaler,)))))
    assert found.size == (96, 96)


@pytest.mark.parametrize(
    "edit", [{"upscaling": Upscaling("gone")}, {"hires": Hires(upscaler="gone")}]
)
def test_an_upscaler_that_is_not_there_fails_at_once(
    engine: DiffusionEngine, sd1: TinyModel, upscaler: ModelInfo, edit: dict[str, object]
) -> None:
    with pytest.raises(EngineFailure, match="'gone'"):
        engine.admit(with_upscaler(sd1, upscaler, **edit))
    missing = replace(upscaler, name="gone", path="/nowhere/gone.safetensors")
    with pytest.raises(ModelUnusable, match="'gone'"):
        engine.admit(with_upscaler(sd1, missing, **edit))
    assert finish(engine, engine.admit(task_of(sd1.info)))


def test_an_upscaler_that_overflows_fails_its_picture(
    engine: DiffusionEngine, sd1: TinyModel, tmp_path: Path
) -> None:
    weights = make_rrdb()
    weights["model.0.bias"] = torch.full_like(weights["model.0.bias"], torch.nan)
    sick = write_upscaler(tmp_path, weights)
    hires = engine.admit(
        with_upscaler(sd1, sick, hires=Hires(1.5, upscaler=sick.name, strength=0.5))
    )
    after = engine.admit(with_upscaler(sd1, sick, upscaling=Upscaling(sick.name)))
    while hires.step < hires.steps:
        engine.step([slot for slot in (hires, after) if slot.step < slot.steps])
    assert after.step == after.steps
    for slot in (hires, after):
        with pytest.raises(NumericalError, match="upscaler"):
            list(engine.decode([slot]))
