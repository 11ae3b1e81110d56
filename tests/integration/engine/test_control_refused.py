"""ControlNets that can't be used are refused on their own job; what is not needed is not computed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sfumato.core.errors import InvalidRequest, ModelUnusable
from sfumato.core.extras import Control
from sfumato.core.models import ModelInfo
from sfumato.core.ports import ImageTask
from sfumato.engine.control import picture_for
from sfumato.engine.engine import DiffusionEngine
from sfumato.engine.families.controlnets import ControlNet, load_controlnet
from sfumato.engine.images import fit
from sfumato.engine.pictures import open_picture
from sfumato.engine.weights import Placement
from tests.support.rendering import task_of
from tests.support.tiny_controls import (
    control_names,
    control_picture,
    make_control,
    save_folder,
    save_single,
)
from tests.support.tiny_models import TinyModel

CPU = Placement(torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def edges(sd1: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> ModelInfo:
    folder = tmp_path_factory.mktemp("nets") / "edges"
    return save_folder(make_control(sd1.unet, 11), folder, "sd1")


def controlled(base: ModelInfo, net: ModelInfo, **fields: float) -> ImageTask:
    image, data = control_picture(1)
    task = task_of(base, controls=(Control(net.name, image, **fields),))
    return replace(task, extras=(net,), inputs={image.sha256: data})


def refused(engine: DiffusionEngine, sd1: TinyModel, net: ModelInfo) -> str:
    """Why; a neighbour goes on with its steps meanwhile."""
    neighbour = engine.admit(task_of(sd1.info))
    with pytest.raises((InvalidRequest, ModelUnusable)) as error:
        engine.admit(controlled(sd1.info, net))
    engine.step([neighbour])
    assert neighbour.step == 1
    assert not neighbour.failed_at
    return error.value.message


def test_one_for_another_family_names_both(
    engine: DiffusionEngine, sd1: TinyModel, sd2: TinyModel, tmp_path: Path
) -> None:
    net = save_folder(make_control(sd2.unet, 1), tmp_path / "pose", "sd2")
    message = refused(engine, sd1, net)
    assert "'pose'" in message
    assert "'tiny-sd1'" in message
    assert "channels: (64, 128) against (32, 64)" in message


def test_a_net_of_another_class_is_named(
    engine: DiffusionEngine, sd1: TinyModel, tmp_path: Path
) -> None:
    net = save_folder(make_control(sd1.unet, 1), tmp_path / "union", "sd1")
    config = json.loads((tmp_path / "union/config.json").read_text())
    (tmp_path / "union/config.json").write_text(
        json.dumps({**config, "_class_name": "ControlNetUnionModel"})
    )
    assert "ControlNetUnionModel" in refused(engine, sd1, net)


def test_files_that_are_broken_or_no_controlnet(
    engine: DiffusionEngine, sd1: TinyModel, tmp_path: Path
) -> None:
    whole = control_names(make_control(sd1.unet, 1))
    net = save_single(whole, tmp_path / "cut.safetensors", "sd1")
    path = Path(net.path)
    path.write_bytes(path.read_bytes()[:-100])
    assert "truncated" in refused(engine, sd1, net)
    save_file({"lora_unet.weight": torch.zeros(1)}, path)
    assert "is no ControlNet: it lacks the tensor" in refused(engine, sd1, net)
    union = {**make_control(sd1.unet, 1).state_dict(), "task_embedding": torch.zeros(6, 32)}
    save_single(union, path, "sd1")
    assert "Union" in refused(engine, sd1, net)
    del whole["control_model.zero_convs.1.0.weight"]
    save_single(whole, path, "sd1")
    assert "lacks 1 tensor(s): controlnet_down_blocks.1.weight" in refused(engine, sd1, net)
    path.unlink()
    assert "ControlNet 'cut' can't be read" in refused(engine, sd1, net)


def test_a_picture_that_is_none(engine: DiffusionEngine, sd1: TinyModel, edges: ModelInfo) -> None:
    task = controlled(sd1.info, edges)
    damaged = {sha256: data[:-40] for sha256, data in task.inputs.items()}
    with pytest.raises(InvalidRequest, match="controls is no picture"):
        engine.admit(replace(task, inputs=damaged))


def test_a_net_that_no_slot_needs_in_a_step_is_not_run(
    engine: DiffusionEngine,
    sd1: TinyModel,
    edges: ModelInfo,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[float] = []
    residuals = ControlNet.residuals

    def watched(net: ControlNet, *arguments: torch.Tensor, **more: torch.Tensor) -> object:
        asked.append(float(arguments[1][0]))
        return residuals(net, *arguments, **more)

    monkeypatch.setattr(ControlNet, "residuals", watched)
    slot = engine.admit(controlled(sd1.info, edges, start=0.5))
    steps = 0
    while slot.step < slot.steps:
        engine.step([slot])
        steps += 1
    assert steps == 4
    assert len(asked) == 2


def test_pictures_are_cropped_to_what_is_drawn_and_drawn_out_to_whole_cells(
    sd1: TinyModel, edges: ModelInfo
) -> None:
    cell = load_controlnet(edges, CPU).cell
    image, data = control_picture(2, width=64, height=32)
    task = replace(task_of(sd1.info), inputs={image.sha256: data})
    picture, _ = open_picture(task, image, field="controls")
    shown = picture_for(picture, (31, 32), cell)
    assert shown.shape == (3, 32, 32)
    assert shown.dtype == torch.uint8
    assert (shown[:, :, 31] == shown[:, :, 30]).all()
    cropped = fit(picture, 31, 32)
    assert shown[:, 5, 7].tolist() == list(cropped.getpixel((7, 5)) or ())


def test_a_replaced_file_is_another_batch(
    engine: DiffusionEngine, sd1: TinyModel, tmp_path: Path
) -> None:
    path = tmp_path / "edges.safetensors"
    net = save_single(control_names(make_control(sd1.unet, 1)), path, "sd1")
    before = engine.admit(controlled(sd1.info, net))
    save_single(control_names(make_control(sd1.unet, 2)), path, "sd1")
    after = engine.admit(controlled(sd1.info, net))
    assert before.batch_key != after.batch_key
    engine.step([before])
    engine.step([after])
    assert not torch.equal(before.latents, after.latents)
