"""What single models differ in: embedded guidance, what is predicted, how their folders lie."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.latent_consistency_models.pipeline_latent_consistency_text2img import (
    LatentConsistencyModelPipeline,
)
from safetensors.torch import load_file, save_file

from sfumato.adapters.models import FolderModelCatalog
from sfumato.bootstrap.models import STARTER
from sfumato.core.models import ModelInfo, settle
from sfumato.core.ports import ImageTask
from sfumato.core.request import GenerationRequest
from sfumato.engine.engine import DiffusionEngine
from sfumato.engine.families.loading import load_folder, predicts_v
from sfumato.engine.families.sd import StableDiffusion, _guidance_embedding
from sfumato.engine.opening import open_engine
from sfumato.engine.weights import Placement
from tests.support.tiny_models import TinyModel, tiny_info

CPU = Placement(torch.device("cpu"), torch.float32)


def latents_of(engine: DiffusionEngine, model: ModelInfo, **fields: object) -> torch.Tensor:
    request = GenerationRequest("a castle", seed=3, **fields)  # type: ignore[arg-type]
    settings = settle(request, model, random_seed=0)
    slot = engine.admit(ImageTask("job", 0, request, settings, model))
    while slot.step < slot.steps:
        engine.step([slot])
    return slot.latents


def copy_of(model: TinyModel, folder: Path) -> ModelInfo:
    shutil.copytree(model.path, folder)
    return tiny_info(folder, model.info.family)


def test_a_model_with_embedded_guidance_takes_one_row_and_heeds_it(
    tmp_path: Path, sd1: TinyModel
) -> None:
    model = copy_of(sd1, tmp_path / "lcm")
    torch.manual_seed(1)
    config = json.loads((tmp_path / "lcm/unet/config.json").read_text())
    unet = UNet2DConditionModel.from_config({**config, "time_cond_proj_dim": 32})
    unet.save_pretrained(tmp_path / "lcm/unet")
    engine = DiffusionEngine("cpu", threads=1)
    engine.load(model)
    low, high = (
        latents_of(engine, model, guidance_scale=scale, sampler="lcm") for scale in (2.0, 12.0)
    )
    assert not torch.allclose(low, high)
    request = GenerationRequest("x", guidance_scale=8.0)
    settings = settle(request, model, random_seed=0)
    assert engine.admit(ImageTask("job", 0, request, settings, model)).rows == 1


def test_guidance_is_embedded_as_latent_consistency_models_learned_it() -> None:
    guidance = torch.tensor([1.0, 8.5])
    expected = LatentConsistencyModelPipeline.get_guidance_scale_embedding(
        None, guidance - 1, embedding_dim=64
    )
    torch.testing.assert_close(_guidance_embedding(guidance, 64), expected, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize(("offset", "expected"), [(0.0, False), (-2.0, True)])
def test_the_probe_tells_a_network_that_predicts_v(
    sd2: TinyModel, monkeypatch: pytest.MonkeyPatch, offset: float, expected: bool
) -> None:
    model = load_folder(sd2.path, CPU)
    monkeypatch.setattr(StableDiffusion, "predict", lambda _self, given: given.latents + offset)
    assert predicts_v(model) is expected


def test_a_vae_with_attention_of_the_old_names_is_read(tmp_path: Path, sd1: TinyModel) -> None:
    model = copy_of(sd1, tmp_path / "old")
    file = tmp_path / "old/vae/diffusion_pytorch_model.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = {}
    for name, tensor in load_file(file).items():
        new = next((part for part in old if f".{part}." in name), None)
        tensors[name.replace(new, old[new]) if new else name] = tensor
    assert any("proj_attn" in name for name in tensors)
    save_file(tensors, file)
    latents = torch.randn(1, 4, 8, 8)
    with torch.inference_mode():
        found = load_folder(Path(model.path), CPU).vae.decode(latents)
        expected = load_folder(sd1.path, CPU).vae.decode(latents)
    torch.testing.assert_close(found, expected)


def test_shards_and_half_precision_variants_are_found(tmp_path: Path, sd1: TinyModel) -> None:
    whole = load_folder(sd1.path, CPU)
    model = copy_of(sd1, tmp_path / "sharded")
    shutil.rmtree(tmp_path / "sharded/unet")
    sd1.unet.save_pretrained(tmp_path / "sharded/unet", max_shard_size="300KB")
    assert len(list((tmp_path / "sharded/unet").glob("*.safetensors"))) > 1
    vae = tmp_path / "sharded/vae/diffusion_pytorch_model.safetensors"
    vae.rename(vae.with_name("diffusion_pytorch_model.fp16.safetensors"))
    sharded = load_folder(Path(model.path), CPU)
    for mine, theirs in zip(
        sharded._unet.state_dict().items(), whole._unet.state_dict().items(), strict=True
    ):
        assert mine[0] == theirs[0]
        assert torch.equal(mine[1], theirs[1])
    index = tmp_path / "sharded/unet/diffusion_pytorch_model.safetensors.index.json"
    assert json.loads(index.read_text())["weight_map"]


def test_a_hash_names_weights_and_not_places(tmp_path: Path, sd1: TinyModel) -> None:
    moved = load_folder(Path(copy_of(sd1, tmp_path / "elsewhere").path), CPU)
    assert moved.hash == load_folder(sd1.path, CPU).hash
    file = tmp_path / "elsewhere/unet/diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    save_file({name: tensor + 1e-3 for name, tensor in tensors.items()}, file)
    assert load_folder(tmp_path / "elsewhere", CPU).hash != moved.hash


def test_the_starter_draws_what_it_is_asked() -> None:
    model = FolderModelCatalog([], builtin=STARTER).get(None)
    engine = open_engine("cpu", threads=1)
    engine.load(model)
    night, day = (latents_of(engine, model, num_inference_steps=4) for _ in range(2))
    assert torch.equal(night, day)
    assert night.isfinite().all()
