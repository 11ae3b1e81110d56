"""LoRA files in every program's naming draw what diffusers' own loader makes of them.

That loader needs peft, which nothing else here does: without it these tests are skipped.
"""

from __future__ import annotations

import copy
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import (
    StableDiffusionPipeline,
)
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers.models.clip.tokenization_clip import CLIPTokenizer

from sfumato.core.extras import LoraUse
from sfumato.core.models import ModelInfo
from sfumato.engine.engine import DiffusionEngine
from tests.support.lora_files import lora, lora_info
from tests.support.rendering import task_of
from tests.support.tiny_models import SCHEDULER, TinyModel
from tests.support.tiny_xl import TinyXl, make_xl
from tests.support.tolerances import AS_DIFFUSERS

pytest.importorskip("peft")
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

_DOWN = "down_blocks.{}.attentions.1.transformer_blocks.0"
_LAYERS = ("attn1.to_q", "attn1.to_out.0", "attn2.to_k", "attn2.to_v", "ff.net.0.proj")
SD1_UNET = [f"{_DOWN.format(0)}.{layer}" for layer in _LAYERS]
XL_UNET = [f"{_DOWN.format(1)}.{layer}" for layer in _LAYERS]
TEXT = ["encoder.layers.0.self_attn.q_proj", "encoder.layers.1.self_attn.out_proj"]


@pytest.fixture(autouse=True)
def quiet() -> None:
    for name in ("diffusers", "peft"):
        logging.getLogger(name).setLevel(logging.ERROR)


@pytest.fixture(scope="session")
def xl(tmp_path_factory: pytest.TempPathFactory) -> TinyXl:
    return make_xl(tmp_path_factory.mktemp("models"))


def products(network: nn.Module, names: list[str]) -> dict[str, dict[str, Tensor]]:
    inner = getattr(network, "text_model", network)
    return {name: lora(inner.get_submodule(name).weight.detach())[0] for name in names}


def kohya(prefix: str, made: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    return {
        f"{prefix}{name.replace('.', '_')}.{part}": tensor
        for name, parts in made.items()
        for part, tensor in parts.items()
    }


def dotted(prefix: str, made: dict[str, dict[str, Tensor]], down: str, up: str) -> Any:
    ends = {"lora_down.weight": down, "lora_up.weight": up}
    return {
        f"{prefix}{name}.{ends[part]}": tensor
        for name, parts in made.items()
        for part, tensor in parts.items()
        if part in ends
    }


def drawn(engine: DiffusionEngine, model: ModelInfo, file: ModelInfo) -> Tensor:
    task = task_of(model, sampler="euler", loras=(LoraUse(file.name, 0.8),))
    slot = engine.admit(replace(task, extras=(file,)))
    assert slot.notes == ()
    while slot.step < slot.steps:
        engine.step([slot])
    return slot.latents


def expected(pipeline: Any, file: ModelInfo) -> Tensor:
    pipeline.set_progress_bar_config(disable=True)
    path = Path(file.path)
    pipeline.load_lora_weights(path.parent, weight_name=path.name, adapter_name="tested")
    pipeline.set_adapters("tested", adapter_weights=0.8)
    latents: Tensor = pipeline(
        "a castle",
        width=32,
        height=32,
        num_inference_steps=4,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(7),
        output_type="latent",
    ).images[0]
    return latents


@pytest.mark.parametrize("naming", ["kohya", "diffusers", "peft"])
def test_sd1(engine: DiffusionEngine, sd1: TinyModel, tmp_path: Path, naming: str) -> None:
    torch.manual_seed(3)
    unet, text = products(sd1.unet, SD1_UNET), products(sd1.text, TEXT)
    metadata = {}
    if naming == "kohya":
        tensors = kohya("lora_unet_", unet) | kohya("lora_te_text_model_", text)
    elif naming == "diffusers":
        tensors = dotted("unet.", unet, "lora.down.weight", "lora.up.weight")
        ends = ("lora_linear_layer.down.weight", "lora_linear_layer.up.weight")
        tensors |= dotted("text_encoder.text_model.", text, *ends)
    else:
        tensors = dotted("unet.", unet, "lora_A.weight", "lora_B.weight")
        said = {"unet.r": 3, "unet.lora_alpha": 6, "unet.target_modules": list(unet)}
        said |= {"unet.alpha_pattern": {SD1_UNET[0]: 1}}
        metadata = {"lora_adapter_metadata": json.dumps(said)}
    path = tmp_path / "style.safetensors"
    save_file(tensors, path, metadata)
    pipeline = StableDiffusionPipeline(
        vae=sd1.vae,
        text_encoder=copy.deepcopy(sd1.text),
        tokenizer=CLIPTokenizer.from_pretrained(sd1.path / "tokenizer", local_files_only=True),
        unet=copy.deepcopy(sd1.unet),
        scheduler=EulerDiscreteScheduler.from_config(SCHEDULER),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    file = lora_info(path)
    wanted = expected(pipeline, file)
    torch.testing.assert_close(
        drawn(engine, sd1.info, file), wanted, rtol=AS_DIFFUSERS, atol=AS_DIFFUSERS
    )


def test_sdxl_by_the_names_of_its_first_code(
    engine: DiffusionEngine, xl: TinyXl, tmp_path: Path
) -> None:
    torch.manual_seed(3)
    assert xl.text is not None
    original = {
        name.replace(_DOWN.format(1), "input_blocks.5.1.transformer_blocks.0"): parts
        for name, parts in products(xl.unet, XL_UNET).items()
    }
    tensors = kohya("lora_unet_", original)
    tensors |= kohya("lora_te1_text_model_", products(xl.text, TEXT))
    tensors |= kohya("lora_te2_text_model_", products(xl.text_2, TEXT))
    path = tmp_path / "style.safetensors"
    save_file(tensors, path)
    networks = copy.deepcopy((xl.unet, xl.text, xl.text_2))
    copied = replace(xl, unet=networks[0], text=networks[1], text_2=networks[2])
    file = lora_info(path)
    wanted = expected(copied.pipeline(EulerDiscreteScheduler.from_config(SCHEDULER)), file)
    engine.load(xl.info)
    torch.testing.assert_close(
        drawn(engine, xl.info, file), wanted, rtol=AS_DIFFUSERS, atol=AS_DIFFUSERS
    )
