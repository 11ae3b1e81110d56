"""The mapping of names, at the sizes of the real models and against diffusers' own converters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders import single_file_utils as oracle
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from transformers.models.clip.configuration_clip import CLIPTextConfig
from transformers.models.clip.modeling_clip import CLIPTextModel, CLIPTextModelWithProjection

from sfumato.engine import convert
from sfumato.engine.families import configs, loading
from sfumato.engine.families.parts import assemble
from sfumato.engine.weights import Placement
from tests.support import ldm


@dataclass(frozen=True)
class RealModel:
    """A published model's numbers, from its configs on the hub."""

    unet: dict[str, Any]
    text: dict[str, Any]


_LEVELS = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
    "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
    "layers_per_block": 2,
    "in_channels": 4,
    "out_channels": 4,
}
REAL = {
    "sd1": RealModel(
        {
            **_LEVELS,
            "cross_attention_dim": 768,
            "attention_head_dim": 8,
            "use_linear_projection": False,
        },
        {
            "vocab_size": 49408,
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "max_position_embeddings": 77,
            "hidden_act": "quick_gelu",
        },
    ),
    "sd2": RealModel(
        {
            **_LEVELS,
            "cross_attention_dim": 1024,
            "attention_head_dim": (5, 10, 20, 20),
            "use_linear_projection": True,
        },
        {
            "vocab_size": 49408,
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 23,
            "num_attention_heads": 16,
            "max_position_embeddings": 77,
            "hidden_act": "gelu",
        },
    ),
}
_XL = {
    "layers_per_block": 2,
    "in_channels": 4,
    "out_channels": 4,
    "sample_size": 128,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
}
#: The UNets of SDXL and of its refiner.
REAL_XL = {
    "sdxl": {
        **_XL,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", *("CrossAttnDownBlock2D",) * 2),
        "up_block_types": (*("CrossAttnUpBlock2D",) * 2, "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "cross_attention_dim": 2048,
        "projection_class_embeddings_input_dim": 2816,
    },
    "sdxl_refiner": {
        **_XL,
        "block_out_channels": (384, 768, 1536, 1536),
        "down_block_types": ("DownBlock2D", *("CrossAttnDownBlock2D",) * 2, "DownBlock2D"),
        "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 2, "UpBlock2D"),
        # Published as 4 for every level, of which the first has no attention.
        "transformer_layers_per_block": (1, 4, 4, 4),
        "attention_head_dim": (6, 12, 24, 24),
        "cross_attention_dim": 1280,
        "projection_class_embeddings_input_dim": 2560,
    },
}
#: SDXL's second text encoder, OpenCLIP's bigG.
BIG_G = {
    "vocab_size": 49408,
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "max_position_embeddings": 77,
    "hidden_act": "gelu",
}
UNETS = {family: model.unet for family, model in REAL.items()} | REAL_XL
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "scaling_factor": 0.18215,
}


def shapes(tensors: dict[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


@pytest.mark.parametrize("channels", [4, 9])
@pytest.mark.parametrize("family", list(UNETS))
def test_every_tensor_of_the_real_unet_finds_its_place(family: str, channels: int) -> None:
    real = {**UNETS[family], "in_channels": channels}
    with torch.device("meta"):
        unet = UNet2DConditionModel(**real)
    stored = ldm.unet_names(unet)
    config = configs.unet_config(shapes(stored), family)
    assert config == real
    converted = convert.unet_tensors(stored)
    assert shapes(converted) == shapes(unet.state_dict())
    prefixed = {f"model.diffusion_model.{name}": tensor for name, tensor in stored.items()}
    theirs = oracle.convert_ldm_unet_checkpoint(
        prefixed, {"addition_embed_type": None, **real, "class_embed_type": None}
    )
    assert {name: id(tensor) for name, tensor in converted.items()} == {
        name: id(tensor) for name, tensor in theirs.items()
    }


def test_every_tensor_of_the_real_vae_finds_its_place() -> None:
    with torch.device("meta"):
        vae = AutoencoderKL(**VAE)
    stored = ldm.vae_names(vae)
    assert configs.vae_config(shapes(stored), "sd1") == VAE
    assert configs.vae_config(shapes(stored), "sdxl") == {**VAE, "scaling_factor": 0.13025}
    converted = convert.vae_tensors(stored)
    assert shapes(converted) == shapes(vae.state_dict())
    prefixed = {f"first_stage_model.{name}": tensor for name, tensor in stored.items()}
    theirs = oracle.convert_ldm_vae_checkpoint(prefixed, VAE)
    assert shapes(theirs) == shapes(converted)


@pytest.mark.parametrize("family", ["sd1", "sd2"])
def test_every_tensor_of_the_real_text_encoder_finds_its_place(family: str) -> None:
    with torch.device("meta"):
        text = CLIPTextModel(CLIPTextConfig(**REAL[family].text))
    own = {name.removeprefix("text_model."): t for name, t in text.state_dict().items()}
    if family == "sd1":
        prefixed = {f"text_model.{name}": tensor for name, tensor in own.items()}
        converted = convert.clip_tensors(prefixed)
    else:
        converted = convert.open_clip_tensors(ldm.open_clip(own))
    assert shapes(converted) == shapes(own)
    found = configs.text_config(shapes(converted), open_clip=family != "sd1")
    assert found == REAL[family].text


def test_every_tensor_of_the_real_big_g_finds_its_place() -> None:
    with torch.device("meta"):
        text = CLIPTextModelWithProjection(CLIPTextConfig(**BIG_G, projection_dim=1280))
    stored = ldm.open_clip_whole(text.state_dict())
    converted = convert.open_clip_tensors(stored, summed_up=True)
    own = {name.removeprefix("text_model."): t for name, t in text.state_dict().items()}
    assert shapes(converted) == shapes(own)
    assert configs.text_config(shapes(converted), open_clip=True) == BIG_G


def test_a_projection_is_read_under_either_name() -> None:
    stored = {"text_projection": torch.arange(6.0).view(2, 3)}
    turned = {"text_projection.weight": torch.arange(6.0).view(2, 3).T}
    for tensors in (stored, turned):
        (found,) = convert.open_clip_tensors(tensors, summed_up=True).values()
        assert torch.equal(found, turned["text_projection.weight"])
    assert convert.open_clip_tensors(stored) == {}


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ("input_blocks.3.0.op.weight", "down_blocks.0.downsamplers.0.conv.weight"),
        ("input_blocks.4.0.skip_connection.bias", "down_blocks.1.resnets.0.conv_shortcut.bias"),
        (
            "input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight",
            "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight",
        ),
        ("output_blocks.2.1.conv.weight", "up_blocks.0.upsamplers.0.conv.weight"),
        ("output_blocks.5.2.conv.bias", "up_blocks.1.upsamplers.0.conv.bias"),
        ("output_blocks.11.0.emb_layers.1.weight", "up_blocks.3.resnets.2.time_emb_proj.weight"),
        ("label_emb.0.0.weight", "add_embedding.linear_1.weight"),
        ("middle_block.2.out_layers.3.weight", "mid_block.resnets.1.conv2.weight"),
    ],
)
def test_names_that_real_checkpoints_have(stored: str, expected: str) -> None:
    assert convert._unet_name(stored, layers=2) == expected


@pytest.mark.parametrize(
    ("family", "billions", "texts"), [("sdxl", 3.47, 2048), ("sdxl_refiner", 3.04, 1280)]
)
def test_a_whole_checkpoint_of_real_size_is_put_together(
    family: str, billions: float, texts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.device("meta"):
        unet, vae = UNet2DConditionModel(**REAL_XL[family]), AutoencoderKL(**VAE)
        clip = CLIPTextModel(CLIPTextConfig(**REAL["sd1"].text)).state_dict()
        big_g = CLIPTextModelWithProjection(CLIPTextConfig(**BIG_G, projection_dim=1280))
    first = clip if family == "sdxl" else None
    stored = ldm.checkpoint_xl(unet, vae, first, big_g.state_dict())
    assert sum(tensor.numel() for tensor in stored.values()) / 1e9 == pytest.approx(billions, 1e-3)
    monkeypatch.setattr(loading, "hash_of", lambda _files: "")
    parts = loading._parts_of(stored, family, {}, Path("real.safetensors"))
    model = assemble(parts, Placement(torch.device("meta"), torch.float16))
    assert (model.prompts.width, model.prompts.pooled_width) == (texts, 1280)
    assert model.latent_space == (4, 8, 0.13025)
    assert model.vae.dtype == torch.float32
