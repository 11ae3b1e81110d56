"""Names of layers in every program's way, told apart and mapped to diffusers' own."""

from __future__ import annotations

import functools

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sfumato.engine import convert
from sfumato.engine.lora.names import flat, parse_name, unet_aliases

_SDXL = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}


@functools.cache
def layers(family: str) -> tuple[str, ...]:
    """Of the real network, which has no weights here."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**_SDXL if family == "sdxl" else {"cross_attention_dim": 768})
    return tuple(
        name for name, module in unet.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)
    )


@pytest.mark.parametrize(
    ("family", "theirs", "ours"),
    [
        ("sd1", "input_blocks_1_1_proj_in", "down_blocks.0.attentions.0.proj_in"),
        ("sd1", "input_blocks_6_0_op", "down_blocks.1.downsamplers.0.conv"),
        ("sd1", "output_blocks_2_1_conv", "up_blocks.0.upsamplers.0.conv"),
        ("sd1", "output_blocks_5_2_conv", "up_blocks.1.upsamplers.0.conv"),
        ("sd1", "middle_block_2_out_layers_3", "mid_block.resnets.1.conv2"),
        ("sd1", "time_embed_2", "time_embedding.linear_2"),
        (
            "sdxl",
            "input_blocks_4_1_transformer_blocks_1_attn1_to_q",
            "down_blocks.1.attentions.0.transformer_blocks.1.attn1.to_q",
        ),
        (
            "sdxl",
            "input_blocks_8_1_transformer_blocks_9_ff_net_0_proj",
            "down_blocks.2.attentions.1.transformer_blocks.9.ff.net.0.proj",
        ),
        (
            "sdxl",
            "output_blocks_0_1_transformer_blocks_0_attn2_to_out_0",
            "up_blocks.0.attentions.0.transformer_blocks.0.attn2.to_out.0",
        ),
        ("sdxl", "input_blocks_7_0_skip_connection", "down_blocks.2.resnets.0.conv_shortcut"),
        ("sdxl", "output_blocks_2_2_conv", "up_blocks.0.upsamplers.0.conv"),
        ("sdxl", "label_emb_0_0", "add_embedding.linear_1"),
        ("sdxl", "input_blocks_0_0", "conv_in"),
    ],
)
def test_names_of_the_first_code_are_known(family: str, theirs: str, ours: str) -> None:
    assert unet_aliases(layers(family))[theirs] == ours


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_every_layer_has_its_own_name_and_no_two_share_one(family: str) -> None:
    aliases = unet_aliases(layers(family))
    assert set(aliases.values()) == set(layers(family))
    for name in layers(family):
        assert aliases[flat(name)] == name


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_names_of_the_first_code_are_those_that_checkpoints_are_read_by(family: str) -> None:
    aliases = unet_aliases(layers(family))
    originals = [f"input_blocks.{n}.1.proj_in.weight" for n in (4, 5, 7, 8)]
    originals += [f"output_blocks.{n}.0.out_layers.3.weight" for n in range(9)]
    originals += [f"input_blocks.{n}.0.emb_layers.1.weight" for n in (1, 2, 4, 5, 7, 8)]
    originals += ["input_blocks.3.0.op.weight"]
    shapes = {name: torch.empty(0) for name in originals}
    for theirs, ours in zip(originals, convert.unet_tensors(shapes), strict=True):
        assert aliases[flat(theirs.removesuffix(".weight"))] == ours.removesuffix(".weight")


_LAYER = "down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
_DOTTED = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (f"lora_unet_{_LAYER}.lora_down.weight", ("unet", _LAYER, "down")),
        (f"lora_unet_{_LAYER}.alpha", ("unet", _LAYER, "alpha")),
        (f"lora_unet_{_LAYER}.hada_w1_a", ("unet", _LAYER, "hada_w1_a")),
        (f"lycoris_{_LAYER}.lokr_w2_b", ("unet", _LAYER, "lokr_w2_b")),
        (f"unet.{_DOTTED}.to_q.lora_A.weight", ("unet", _LAYER, "down")),
        (f"unet.{_DOTTED}.to_q.lora.up.weight", ("unet", _LAYER, "up")),
        (f"base_model.model.{_DOTTED}.to_q.lora_B.weight", ("unet", _LAYER, "up")),
        (f"{_DOTTED}.processor.to_q_lora.down.weight", ("unet", _LAYER, "down")),
        (
            "lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_up.weight",
            ("text_encoder", "encoder_layers_0_mlp_fc1", "up"),
        ),
        (
            "text_encoder_2.text_model.encoder.layers.0.mlp.fc1.lora_linear_layer.up.weight",
            ("text_encoder_2", "encoder_layers_0_mlp_fc1", "up"),
        ),
    ],
)
def test_every_way_of_naming_is_read(name: str, found: tuple[str, str, str]) -> None:
    assert parse_name(name) == found


@given(st.text(max_size=60))
def test_any_name_is_read_or_none(name: str) -> None:
    found = parse_name(name)
    assert found is None or found.part
