"""Safety checkers find what diffusers' own finds, and what is found is told, or not delivered."""

from __future__ import annotations

import base64
import io
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from sfumato.core.errors import ContentBlocked, ModelUnusable
from sfumato.core.models import ModelInfo
from sfumato.core.ports import ImageTask
from sfumato.core.safety import Safety
from sfumato.engine.engine import DiffusionEngine
from sfumato.engine.safety import Preparation, load_checker
from sfumato.engine.slots import DiffusionSlot
from sfumato.engine.weights import Placement
from tests.support.rendering import task_of
from tests.support.tiny_checker import TinyChecker, make_checker, some_pictures
from tests.support.tiny_models import TinyModel

CPU = Placement(torch.device("cpu"), torch.float32)
#: Every picture is nearer to a concept than the first, none than the second.
EVERY, NONE = -1.0, 2.0


@pytest.fixture(autouse=True)
def quiet() -> None:
    logging.getLogger("diffusers").setLevel(logging.ERROR)


def folder_with(sd1: TinyModel, parent: Path, threshold: float) -> ModelInfo:
    """The tiny model with a checker in its own folder."""
    path = parent / "checked"
    shutil.copytree(sd1.path, path)
    make_checker(path, threshold=threshold)
    return replace(sd1.info, name="checked", path=str(path))


def task(model: ModelInfo, mode: Safety, checker: TinyChecker | None = None) -> ImageTask:
    made = task_of(model)
    settings = replace(
        made.settings, safety=mode, safety_checker=None if checker is None else checker.info.name
    )
    return replace(made, settings=settings, extras=() if checker is None else (checker.info,))


def drawn(engine: DiffusionEngine, made: ImageTask) -> DiffusionSlot:
    slot = engine.admit(made)
    while slot.step < slot.steps:
        engine.step([slot])
    return slot


@pytest.mark.parametrize(
    ("threshold", "special"), [(0.15, 10.0), (0.15, 0.21), (0.2, 0.1), (EVERY, 10.0), (NONE, 10.0)]
)
@torch.inference_mode()
def test_it_finds_what_diffusers_finds(tmp_path: Path, threshold: float, special: float) -> None:
    theirs = make_checker(tmp_path, threshold=threshold, special=special)
    pictures = some_pictures(60)
    found = load_checker(theirs.info, CPU).unsafe(pictures)
    assert found == theirs.unsafe(pictures)
    if threshold in (EVERY, NONE):
        assert set(found) == {threshold == EVERY}
    else:
        assert set(found) == {True, False}


def test_pictures_are_prepared_as_transformers_does(tmp_path: Path) -> None:
    theirs = make_checker(tmp_path)
    prepare = Preparation(32, (32, 32))
    for picture in some_pictures(12):
        expected = theirs.processor([picture], return_tensors="pt").pixel_values[0]
        torch.testing.assert_close(prepare(picture), expected, rtol=0, atol=1e-6)


@torch.inference_mode()
def test_one_file_alone_and_the_names_of_old_files(tmp_path: Path) -> None:
    theirs = make_checker(tmp_path, threshold=0.15)
    tensors = load_file(theirs.folder / "model.safetensors")
    path = tmp_path / "checker.safetensors"
    old = {
        f"vision_model.{name}" if name.startswith("vision_model.e") else name: tensor
        for name, tensor in tensors.items()
    }
    save_file(old, path)
    pictures = [picture.resize((224, 224)) for picture in some_pictures(20)]
    checker = load_checker(replace(theirs.info, path=str(path)), CPU)
    # Nothing tells that it wants 32 pixels a side.
    checker._prepare = Preparation(32, (32, 32))
    # Nor how many heads its attention has: as many as CLIP's have channels, 64 each.
    heads = {layer.self_attn.num_heads for layer in checker._network.vision_model.encoder.layers}
    assert heads == {1}
    assert len(checker.unsafe(pictures)) == 20


def test_broken_checkers_are_named(tmp_path: Path) -> None:
    info = make_checker(tmp_path).info
    weights = Path(info.path) / "model.safetensors"
    tensors = load_file(weights)
    del tensors["visual_projection.weight"]
    save_file(tensors, weights)
    with pytest.raises(ModelUnusable, match="can't be used as a safety checker"):
        load_checker(info, CPU)
    weights.write_bytes(b"nothing")
    with pytest.raises(ModelUnusable, match="it has no header"):
        load_checker(info, CPU)


@pytest.mark.parametrize(("threshold", "unsafe"), [(EVERY, True), (NONE, False)])
def test_flag_delivers_the_picture_and_says_so_in_job_and_recipe(
    engine: DiffusionEngine, sd1: TinyModel, tmp_path: Path, threshold: float, *, unsafe: bool
) -> None:
    model = folder_with(sd1, tmp_path, threshold)
    engine.load(model)
    slot = drawn(engine, task(model, Safety.FLAG))
    for _again in range(2):
        (image,) = engine.decode([slot])
        told = ("unsafe: the safety checker 'checked' flagged picture 1",) if unsafe else ()
        assert image.notes == told
        notes = engine.encode(image).recipe["notes"]
        assert isinstance(notes, list)
        assert tuple(notes) == told


def test_block_keeps_one_picture_back_and_delivers_its_neighbour(
    engine: DiffusionEngine, sd1: TinyModel, tmp_path: Path
) -> None:
    model = folder_with(sd1, tmp_path, EVERY)
    engine.load(model)
    blocked, plain = drawn(engine, task(model, Safety.BLOCK)), drawn(engine, task_of(model))
    images = engine.decode([plain, blocked])
    assert next(images).notes == ()
    with pytest.raises(ContentBlocked, match="'checked' found picture 1 unsafe") as error:
        next(images)
    assert not error.value.retryable


def test_nobody_sees_more_than_a_mosaic_before_the_check(
    engine: DiffusionEngine, sd1: TinyModel, tmp_path: Path
) -> None:
    model = folder_with(sd1, tmp_path, NONE)
    engine.load(model)

    def shown(mode: Safety) -> Image.Image:
        url = engine.preview(drawn(engine, task(model, mode)))
        return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))

    assert shown(Safety.FLAG).size == (16, 16)
    assert shown(Safety.BLOCK).size == (8, 8)


def test_off_looks_at_nothing(engine: DiffusionEngine, sd1: TinyModel, tmp_path: Path) -> None:
    model = folder_with(sd1, tmp_path, EVERY)
    engine.load(model)
    (image,) = engine.decode([drawn(engine, task(model, Safety.OFF))])
    assert image.notes == ()


def test_the_operator_s_checker_serves_every_model(
    engine: DiffusionEngine, sd1: TinyModel, tmp_path: Path
) -> None:
    checker = make_checker(tmp_path, threshold=EVERY)
    (image,) = engine.decode([drawn(engine, task(sd1.info, Safety.FLAG, checker))])
    assert image.notes == ("unsafe: the safety checker 'checker' flagged picture 1",)


def test_one_that_is_missing_is_never_passed_over_in_silence(
    engine: DiffusionEngine, sd1: TinyModel
) -> None:
    slot = drawn(engine, task(sd1.info, Safety.FLAG))
    (image,) = engine.decode([slot])
    assert slot.notes == image.notes
    (note,) = image.notes
    assert note.startswith("not checked: The safety checker 'tiny-sd1' can't be read")
    with pytest.raises(ModelUnusable, match="can't be read"):
        engine.admit(task(sd1.info, Safety.BLOCK))
    resumed = engine.resume(task(sd1.info, Safety.FLAG), engine.export(slot))
    assert resumed.notes == image.notes


def test_a_checker_in_a_model_s_folder_is_not_part_of_the_model_s_size(
    engine: DiffusionEngine, sd1: TinyModel, tmp_path: Path
) -> None:
    model = folder_with(sd1, tmp_path, NONE)
    engine.load(model)
    assert engine._models["checked"].size == engine._models[sd1.info.name].size
