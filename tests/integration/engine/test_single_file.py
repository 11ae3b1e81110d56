"""The same weights as one file and as a folder draw the same picture."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import save_file

from sfumato.core.errors import ModelUnusable
from sfumato.core.models import ModelInfo, ModelLayout, settle
from sfumato.core.ports import ImageTask
from sfumato.core.request import GenerationRequest
from sfumato.engine.engine import DiffusionEngine
from sfumato.engine.families.loading import load_checkpoint
from sfumato.engine.weights import Placement
from tests.support import ldm
from tests.support.rendering import task_of
from tests.support.tiny_models import TinyModel, tiny_info
from tests.support.tiny_xl import TinyXl
from tests.support.tolerances import AS_DIFFUSERS


def write_checkpoint(path: Path, model: TinyModel) -> ModelInfo:
    family = model.info.family
    tensors = ldm.checkpoint(model.unet, model.vae, model.text.state_dict(), family)
    save_file(tensors, path)
    return tiny_info(path, family, ModelLayout.CHECKPOINT)


def draw(engine: DiffusionEngine, model: ModelInfo) -> torch.Tensor:
    request = GenerationRequest("a castle at night", seed=3, negative_prompt="day")
    settings = settle(request, model, random_seed=0)
    slot = engine.admit(ImageTask("job", 0, request, settings, model))
    while slot.step < slot.steps:
        engine.step([slot])
    return engine._models[model.name].model.vae.decode(slot.latents[None])


@pytest.mark.parametrize("family", ["sd1", "sd2"])
def test_one_file_draws_what_the_folder_draws(
    tmp_path: Path, request: pytest.FixtureRequest, family: str
) -> None:
    model: TinyModel = request.getfixturevalue(family)
    # Another name than the folder's, for an engine knows its models by name.
    single = write_checkpoint(tmp_path / f"single-{family}.safetensors", model)
    if family == "sd2":
        sidecar = {"prediction_type": "v_prediction"}
        (tmp_path / "single-sd2.json").write_text(json.dumps(sidecar))
    engine = DiffusionEngine("cpu", threads=1)
    engine.load(model.info)
    engine.load(single)
    torch.testing.assert_close(
        draw(engine, single), draw(engine, model.info), rtol=AS_DIFFUSERS, atol=AS_DIFFUSERS
    )


@pytest.mark.parametrize("name", ["xl", "refiner"])
def test_one_file_of_sdxl_draws_what_the_folder_draws(
    tmp_path: Path, request: pytest.FixtureRequest, name: str
) -> None:
    model: TinyXl = request.getfixturevalue(name)
    vae = copy.deepcopy(model.vae)
    vae.register_to_config(scaling_factor=0.13025)
    folder = tmp_path / "folder"
    shutil.copytree(model.path, folder)
    vae.save_pretrained(folder / "vae")
    path = tmp_path / "single.safetensors"
    first = None if model.text is None else model.text.state_dict()
    save_file(ldm.checkpoint_xl(model.unet, vae, first, model.text_2.state_dict()), path)
    single = tiny_info(path, model.info.family, ModelLayout.CHECKPOINT)
    whole = tiny_info(folder, model.info.family)
    engine = DiffusionEngine("cpu", threads=1)
    for info in (single, whole):
        engine.load(info)
    torch.testing.assert_close(
        draw(engine, single), draw(engine, whole), rtol=AS_DIFFUSERS, atol=AS_DIFFUSERS
    )
    mine, theirs = (
        engine.admit(task_of(info)).conditioning.negative.at(0).tokens for info in (single, whole)
    )
    torch.testing.assert_close(mine, theirs)


def test_an_inpainting_network_of_sd2_is_read_and_taken_to_predict_noise(
    tmp_path: Path, sd2: TinyModel
) -> None:
    torch.manual_seed(3)
    # Without diffusers' list of what nobody had named, which it goes by.
    config = {key: value for key, value in sd2.unet.config.items() if key[0] != "_"}
    unet = UNet2DConditionModel.from_config({**config, "in_channels": 9})
    path = tmp_path / "inpaint.safetensors"
    save_file(ldm.checkpoint(unet, sd2.vae, sd2.text.state_dict(), "sd2"), path)
    model = load_checkpoint(path, Placement(torch.device("cpu"), torch.float32))
    assert model.inpaints
    assert model.latent_channels == 4
    assert model.schedule.prediction_type == "epsilon"


def test_sdxl_that_marks_itself_as_predicting_v_is_believed(tmp_path: Path, xl: TinyXl) -> None:
    path = tmp_path / "single.safetensors"
    tensors = ldm.checkpoint_xl(xl.unet, xl.vae, xl.text.state_dict(), xl.text_2.state_dict())
    save_file({**tensors, "v_pred": torch.ones(()), "ztsnr": torch.ones(())}, path)
    schedule = load_checkpoint(path, Placement(torch.device("cpu"), torch.float32)).schedule
    assert (schedule.prediction_type, schedule.rescale_betas_zero_snr) == ("v_prediction", True)
    assert schedule.align_your_steps == "sdxl"
    path.with_suffix(".json").write_text('{"prediction_type": "epsilon"}')
    schedule = load_checkpoint(path, Placement(torch.device("cpu"), torch.float32)).schedule
    assert schedule.prediction_type == "epsilon"


def test_a_lacking_tensor_is_named_and_other_models_stay(
    tmp_path: Path, sd1: TinyModel, engine: DiffusionEngine
) -> None:
    tensors = ldm.checkpoint(sd1.unet, sd1.vae, sd1.text.state_dict(), "sd1")
    del tensors["model.diffusion_model.middle_block.0.in_layers.2.weight"]
    path = tmp_path / "lacking.safetensors"
    save_file(tensors, path)
    with pytest.raises(
        ModelUnusable, match=r"lacking\.safetensors lacks 1 .*mid_block\.resnets\.0"
    ):
        engine.load(tiny_info(path, "sd1", ModelLayout.CHECKPOINT))
    draw(engine, sd1.info)


def test_a_foreign_shape_is_named(tmp_path: Path, sd1: TinyModel, engine: DiffusionEngine) -> None:
    tensors = ldm.checkpoint(sd1.unet, sd1.vae, sd1.text.state_dict(), "sd1")
    tensors["model.diffusion_model.time_embed.0.weight"] = torch.zeros(3, 3)
    path = tmp_path / "odd.safetensors"
    save_file(tensors, path)
    with pytest.raises(ModelUnusable, match=r"linear_1\.weight is \(3, 3\)"):
        engine.load(tiny_info(path, "sd1", ModelLayout.CHECKPOINT))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-1000], "truncated"),
        (lambda data: data[:100], "truncated"),
        (lambda data: data[:4], "no header"),
        (lambda data: b"\xff" * 8 + data[8:], "no header"),
        (lambda data: data[:8] + b"}" + data[9:], "corrupt"),
        (lambda data: b"", "no header"),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong(
    tmp_path: Path, sd1: TinyModel, engine: DiffusionEngine, damage, message: str
) -> None:
    whole = tmp_path / "whole.safetensors"
    single = write_checkpoint(whole, sd1)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(damage(whole.read_bytes()))
    with pytest.raises(ModelUnusable, match=rf"broken\.safetensors can't be used.*{message}"):
        engine.load(replace(single, name="broken", path=str(broken)))
    draw(engine, sd1.info)


def test_a_folder_that_lacks_a_part_says_which(
    tmp_path: Path, sd1: TinyModel, engine: DiffusionEngine
) -> None:
    folder = tmp_path / "half"
    for file in sd1.path.rglob("*"):
        if file.is_file() and "vae" not in file.parts:
            target = folder / file.relative_to(sd1.path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.hardlink_to(file)
    with pytest.raises(ModelUnusable, match=r"vae has no \.safetensors"):
        engine.load(tiny_info(folder, "sd1"))
    (folder / "vae").mkdir()
    (folder / "vae/diffusion_pytorch_model.bin").write_bytes(b"\x80pickle")
    with pytest.raises(ModelUnusable, match="never opened"):
        engine.load(tiny_info(folder, "sd1"))
    with pytest.raises(ModelUnusable, match="nowhere"):
        engine.load(tiny_info(tmp_path / "nowhere.safetensors", "sd1", ModelLayout.CHECKPOINT))


def test_a_config_that_diffusers_can_not_follow_is_the_models_fault(
    tmp_path: Path, sd1: TinyModel, engine: DiffusionEngine
) -> None:
    for number, (part, change) in enumerate(
        [
            ("unet/config.json", {"down_block_types": ["NoSuchBlock", "DownBlock2D"]}),
            ("unet/config.json", {"block_out_channels": 3}),
            ("text_encoder/config.json", {"num_attention_heads": 7}),
            ("scheduler/scheduler_config.json", {"prediction_type": "flow"}),
            ("scheduler/scheduler_config.json", {"_class_name": "EDMEulerScheduler"}),
            ("scheduler/scheduler_config.json", {"trained_betas": [0.1]}),
        ]
    ):
        folder = tmp_path / str(number)
        shutil.copytree(sd1.path, folder)
        config = json.loads((folder / part).read_text())
        (folder / part).write_text(json.dumps({**config, **change}))
        with pytest.raises(ModelUnusable):
            engine.load(tiny_info(folder, "sd1"))
