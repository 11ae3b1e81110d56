"""Every way to a picture, through the engine to its file: the size that was settled on, and the
bytes that nothing was to change."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from sfumato.core.edits import Fill, Hires, Inpainting, Outpainting, Upscaling
from sfumato.core.errors import InvalidRequest
from sfumato.core.models import ModelInfo
from sfumato.core.ports import ImageTask
from sfumato.core.request import GenerationRequest
from sfumato.engine import tiles
from sfumato.engine.engine import DiffusionEngine
from sfumato.engine.resampling import to_tensor
from sfumato.engine.upscalers import load_upscaler
from sfumato.engine.upscaling import upscale
from sfumato.engine.weights import Placement
from tests.support.batching import finish
from tests.support.pictures import Brought, file_of, noise, rectangle
from tests.support.tiny_models import SIDE, TinyModel
from tests.support.tiny_upscalers import make_compact, write_upscaler

CPU = Placement(torch.device("cpu"), torch.float32)


@pytest.fixture
def upscaler(tmp_path: Path) -> ModelInfo:
    return write_upscaler(tmp_path, make_compact(2))


def task_with(
    model: ModelInfo,
    brought: Brought,
    upscaler: ModelInfo | None = None,
    **fields: object,
) -> ImageTask:
    asked = {"seed": 3, "num_inference_steps": 2, **fields}
    request = GenerationRequest("a castle", **asked)  # type: ignore[arg-type]
    task = brought.task(request, model)
    return replace(task, extras=() if upscaler is None else (upscaler,))


def drawn(engine: DiffusionEngine, task: ImageTask) -> npt.NDArray[np.uint8]:
    with Image.open(io.BytesIO(finish(engine, engine.admit(task)))) as image:
        assert image.size == (task.settings.width, task.settings.height)
        return np.asarray(image.convert("RGB"))


def test_an_outpainting_keeps_the_old_picture_and_is_enlarged_as_a_whole(
    engine: DiffusionEngine, sd1: TinyModel, upscaler: ModelInfo
) -> None:
    brought = Brought()
    old = noise(40, 32)
    fields: dict[str, object] = {
        "init_image": brought.add(old),
        "outpainting": Outpainting(right=8, top=6, blur=0),
    }
    plain = drawn(engine, task_with(sd1.info, brought, **fields))
    assert plain.shape == (40, 48, 3)
    assert np.array_equal(plain[8:, :40], np.asarray(old))
    assert plain[:8].std() > 1
    larger = task_with(
        sd1.info, brought, upscaler, **fields, upscaling=Upscaling(upscaler.name, 3.0)
    )
    expected = upscale(to_tensor(Image.fromarray(plain)), load_upscaler(upscaler, CPU), 3)
    found = to_tensor(Image.fromarray(drawn(engine, larger)))
    assert (found - expected).abs().max() < 4 / 255


@pytest.mark.parametrize("fill", list(Fill))
def test_a_small_part_of_a_large_picture_is_drawn_at_the_models_size(
    engine: DiffusionEngine, sd1: TinyModel, fill: Fill
) -> None:
    brought = Brought()
    old = noise(173, 121)
    mask = brought.add(rectangle(173, 121, (100, 60, 116, 76)))
    edit = Inpainting(mask, blur=0, only_masked=True, padding=8, fill=fill)
    task = task_with(sd1.info, brought, init_image=brought.add(old), inpainting=edit)
    assert (task.settings.render_width, task.settings.render_height) == (SIDE, SIDE)
    found = drawn(engine, task)
    kept = np.ones((121, 173), bool)
    kept[60:76, 100:116] = False
    assert np.array_equal(found[kept], np.asarray(old)[kept])
    assert (found[~kept] != np.asarray(old)[~kept]).mean() > 0.9


def test_a_picture_of_any_size_is_begun_with_and_drawn_over_larger(
    engine: DiffusionEngine, sd1: TinyModel
) -> None:
    brought = Brought()
    init = brought.add(noise(37, 45))
    assert drawn(engine, task_with(sd1.info, brought, init_image=init)).shape == (45, 37, 3)
    twice = task_with(sd1.info, brought, init_image=init, hires=Hires(1.5, strength=0.5))
    assert drawn(engine, twice).shape == (64, 56, 3)


def test_a_model_with_sizes_of_its_own_redraws_a_part_of_any_picture(
    engine: DiffusionEngine, sd1: TinyModel
) -> None:
    model = replace(sd1.info, sizes=((SIDE, SIDE),))
    brought = Brought()
    old = noise(90, 50)
    fields: dict[str, object] = {"init_image": brought.add(old)}
    edit = Inpainting(brought.add(rectangle(90, 50, (0, 0, 30, 50))), blur=1)
    found = drawn(engine, task_with(model, brought, **fields, inpainting=edit))
    assert np.array_equal(found[:, 45:], np.asarray(old)[:, 45:])
    grown = drawn(engine, task_with(model, brought, **fields, outpainting=Outpainting(left=32)))
    assert grown.shape == (56, 128, 3)


def test_a_picture_that_is_cropped_is_not_stretched_by_the_upscaler(
    engine: DiffusionEngine, sd1: TinyModel, upscaler: ModelInfo
) -> None:
    plain = drawn(engine, task_with(sd1.info, Brought()))
    model = replace(sd1.info, sizes=((SIDE, SIDE),))
    edit = Upscaling(upscaler.name, 2.0)
    task = task_with(model, Brought(), upscaler, width=64, height=32, upscaling=edit)
    larger = upscale(to_tensor(Image.fromarray(plain)), load_upscaler(upscaler, CPU), 4)
    found = to_tensor(Image.fromarray(drawn(engine, task)))
    assert (found - larger[:, 32:-32]).abs().max() < 4 / 255


def test_a_picture_from_a_phone_is_begun_with_upright(
    engine: DiffusionEngine, sd1: TinyModel
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    brought = Brought()
    init = brought.add(file_of(noise(32, 48), "JPEG", exif=exif))
    found = drawn(engine, task_with(sd1.info, brought, init_image=init, strength=0.1))
    assert found.shape == (32, 48, 3)


def test_a_broken_picture_fails_its_own_job(engine: DiffusionEngine, sd1: TinyModel) -> None:
    brought = Brought()
    file = file_of(noise(32, 32))
    broken, whole = brought.add(file[: len(file) // 2]), brought.add(file)
    neighbour = engine.admit(task_with(sd1.info, brought, init_image=whole, strength=1.0))
    engine.step([neighbour])
    mask = brought.add(Image.new("L", (32, 32), 0))
    for fields, field in (
        ({"init_image": broken}, "init_image"),
        ({"init_image": whole, "inpainting": Inpainting(broken)}, "inpainting.mask"),
        ({"init_image": whole, "inpainting": Inpainting(mask)}, "inpainting.mask"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            engine.admit(task_with(sd1.info, brought, **fields))
        assert caught.value.field == field
    assert finish(engine, neighbour)


def test_a_large_picture_is_encoded_and_decoded_in_tiles(
    engine: DiffusionEngine, sd1: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """These VAEs halve once, so that tiles of 64 cells have 128 pixels."""
    brought = Brought()
    init = brought.add(noise(232, 32))
    task = task_with(
        sd1.info, brought, init_image=init, strength=0.1, num_inference_steps=1, guidance_scale=1.0
    )
    whole = drawn(engine, task).astype(int)
    monkeypatch.setattr(tiles, "total", lambda device: 1)
    parts = drawn(engine, task).astype(int)
    # Random norms, which see each tile by itself, shift its colours; where it lies is exact.
    assert 0 < np.abs(parts - whole).mean() < 16
    assert np.corrcoef(parts.ravel(), whole.ravel())[0, 1] > 0.9
