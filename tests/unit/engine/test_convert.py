"""The mapping of names, at the sizes of the real models and against diffusers' own converters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from diffusers.loaders import single_file_utils as oracle
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from transformers.models.clip.configuration_clip import CLIPTextConfig
from transformers.models.clip.modeling_clip import CLIPTextModel

from sfumato.engine import convert
from sfumato.engine.families import configs
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


@pytest.mark.parametrize("family", ["sd1", "sd2"])
def test_every_tensor_of_the_real_unet_finds_its_place(family: str) -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel(**REAL[family].unet)
    stored = ldm.unet_names(unet)
    config = configs.unet_config(shapes(stored), family)
    assert config == REAL[family].unet
    converted = convert.unet_tensors(stored)
    assert shapes(converted) == shapes(unet.state_dict())
    prefixed = {f"model.diffusion_model.{name}": tensor for name, tensor in stored.items()}
    theirs = oracle.convert_ldm_unet_checkpoint(
        prefixed, {**REAL[family].unet, "class_embed_type": None}
    )
    assert {name: id(tensor) for name, tensor in converted.items()} == {
        name: id(tensor) for name, tensor in theirs.items()
    }


def test_every_tensor_of_the_real_vae_finds_its_place() -> None:
    with torch.device("meta"):
        vae = AutoencoderKL(**VAE)
    stored = ldm.vae_names(vae)
    assert configs.vae_config(shapes(stored)) == VAE
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
    assert configs.text_config(shapes(converted), family) == REAL[family].text


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
        ("middle_block.2.out_layers.3.weight", "mid_block.resnets.1.conv2.weight"),
    ],
)
def test_names_that_real_checkpoints_have(stored: str, expected: str) -> None:
    assert convert._unet_name(stored, layers=2) == expected
