"""A VAE that a request names takes the place of the model's own, in every layout, for its slot alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from safetensors.torch import save_file
from torch import Tensor

from sfumato.core.edits import Hires
from sfumato.core.errors import InvalidRequest, ModelUnusable
from sfumato.core.models import ModelInfo, ModelKind, ModelLayout
from sfumato.core.ports import ImageTask
from sfumato.engine.engine import DiffusionEngine
from sfumato.engine.families.vaes import Vae, load_vae
from sfumato.engine.weights import Placement
from tests.support import ldm
from tests.support.rendering import task_of
from tests.support.tiny_controls import control_picture
from tests.support.tiny_models import SIDE, TinyModel, make_vae

CPU = Placement(torch.device("cpu"), torch.float32)
SCALING = 0.18215


@pytest.fixture(scope="module")
def other() -> AutoencoderKL:
    torch.manual_seed(21)
    return make_vae()


@pytest.fixture(scope="module")
def folder(other: AutoencoderKL, tmp_path_factory: pytest.TempPathFactory) -> ModelInfo:
    path = tmp_path_factory.mktemp("vaes") / "warm"
    other.save_pretrained(path)
    return ModelInfo("warm", "", ModelLayout.DIFFUSERS, str(path), kind=ModelKind.VAE)


def single(tensors: dict[str, Tensor], path: Path) -> ModelInfo:
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path)
    return ModelInfo(path.stem, "", ModelLayout.CHECKPOINT, str(path), kind=ModelKind.VAE)


def with_vae(model: ModelInfo, vae: ModelInfo, **fields: object) -> ImageTask:
    return replace(task_of(model, vae=vae.name, **fields), extras=(vae,))


def read(info: ModelInfo, scaling: float = SCALING, *, upcast: bool = False) -> Vae:
    return load_vae(info, CPU, scaling=scaling, upcast=upcast)


@torch.inference_mode()
def test_every_layout_decodes_as_diffusers_does(
    folder: ModelInfo, other: AutoencoderKL, tmp_path: Path
) -> None:
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    expected = (other.decode(latents / SCALING).sample / 2 + 0.5).clamp(0, 1)
    authors = ldm.vae_names(other)
    layouts = [
        folder,
        single(authors, tmp_path / "authors.safetensors"),
        single(
            {f"first_stage_model.{name}": tensor for name, tensor in authors.items()},
            tmp_path / "prefixed.safetensors",
        ),
        single(other.state_dict(), tmp_path / "diffusers.safetensors"),
    ]
    for info in layouts:
        torch.testing.assert_close(read(info).decode(latents), expected, rtol=0, atol=1e-5)


def test_it_draws_and_previews_one_slot_of_a_batch_and_leaves_the_other_alone(
    engine: DiffusionEngine, sd1: TinyModel, folder: ModelInfo, other: AutoencoderKL
) -> None:
    plain = engine.admit(task_of(sd1.info))
    warm = engine.admit(with_vae(sd1.info, folder))
    assert plain.batch_key == warm.batch_key
    while plain.step < plain.steps:
        engine.step([plain, warm])
    assert torch.equal(plain.latents, warm.latents)
    assert engine.preview(plain) != engine.preview(warm)
    images = list(engine.decode([plain, warm]))
    for image, vae in zip(images, (sd1.vae, other), strict=True):
        with torch.inference_mode():
            expected = vae.decode(plain.latents[None] / SCALING).sample[0] / 2 + 0.5
        found = torch.frombuffer(bytearray(image.pixels), dtype=torch.uint8)
        found = found.view(SIDE, SIDE, 3).permute(2, 0, 1).float() / 255
        torch.testing.assert_close(found, expected.clamp(0, 1), rtol=0, atol=1 / 255)


def test_it_encodes_the_picture_that_is_begun_with(
    engine: DiffusionEngine, sd1: TinyModel, folder: ModelInfo
) -> None:
    image, data = control_picture(4)
    begun = {"init_image": image, "strength": 0.5}
    tasks = [task_of(sd1.info, **begun), with_vae(sd1.info, folder, **begun)]
    plain, warm = (
        engine.admit(replace(task, inputs={image.sha256: data})).latents for task in tasks
    )
    assert not torch.allclose(plain, warm, atol=0.01)


def test_a_later_stage_has_it_too(
    engine: DiffusionEngine, sd1: TinyModel, folder: ModelInfo
) -> None:
    slot = engine.admit(with_vae(sd1.info, folder, hires=Hires(scale=2.0)))
    vaes = {stage.vae.info.name for stage in slot.stages if stage.vae and stage.vae.info}
    assert (len(slot.stages), vaes) == (2, {"warm"})


def test_latents_that_do_not_fit_are_refused_by_both_names(
    engine: DiffusionEngine, sd1: TinyModel, folder: ModelInfo, tmp_path: Path
) -> None:
    scaled = tmp_path / "scaled"
    AutoencoderKL.from_pretrained(folder.path, local_files_only=True).save_pretrained(scaled)
    config = json.loads((scaled / "config.json").read_text())
    (scaled / "config.json").write_text(json.dumps({**config, "scaling_factor": 0.13025}))
    info = replace(folder, name="scaled", path=str(scaled))
    with pytest.raises(InvalidRequest, match="'scaled' was not made for models like 'tiny-sd1'"):
        engine.admit(with_vae(sd1.info, info))
    deep = AutoencoderKL(
        block_out_channels=(32, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
    )
    info = single(ldm.vae_names(deep), tmp_path / "deep.safetensors")
    with pytest.raises(InvalidRequest, match="another pixels a cell, 4 against 2"):
        engine.admit(with_vae(sd1.info, info))
    slot = engine.admit(task_of(sd1.info))
    engine.step([slot])
    assert slot.step == 1


def test_broken_files_are_named(other: AutoencoderKL, tmp_path: Path) -> None:
    tensors = ldm.vae_names(other)
    info = single(tensors, tmp_path / "cut.safetensors")
    path = Path(info.path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ModelUnusable, match=r"cut\.safetensors can't be used: it is truncated"):
        read(info)
    del tensors["decoder.conv_out.weight"]
    with pytest.raises(ModelUnusable, match=r"lacks 1 tensor\(s\): decoder.conv_out.weight"):
        read(single(tensors, path))
    with pytest.raises(ModelUnusable, match="can't be used as a VAE: it lacks the tensor"):
        read(single({"lora.weight": torch.zeros(1)}, path))
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"_class_name": "AutoencoderTiny"}))
    save_file({"x": torch.zeros(1)}, folder / "diffusion_pytorch_model.safetensors")
    info = replace(info, path=str(folder), layout=ModelLayout.DIFFUSERS)
    with pytest.raises(ModelUnusable, match="holds the class AutoencoderTiny"):
        read(info)


def test_half_precision_is_kept_from_those_that_overflow_in_it(
    folder: ModelInfo, other: AutoencoderKL, tmp_path: Path
) -> None:
    half = Placement(torch.device("cpu"), torch.float16)
    info = single(ldm.vae_names(other), tmp_path / "xl.safetensors")
    assert load_vae(info, half, scaling=0.13025, upcast=True).dtype == torch.float32
    assert load_vae(info, half, scaling=0.13025, upcast=False).dtype == torch.float16
    fixed = tmp_path / "fixed"
    other.save_pretrained(fixed)
    config = json.loads((fixed / "config.json").read_text())
    (fixed / "config.json").write_text(json.dumps({**config, "force_upcast": False}))
    info = replace(folder, path=str(fixed))
    assert load_vae(info, half, scaling=SCALING, upcast=True).dtype == torch.float16
