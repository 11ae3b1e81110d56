"""The few numbers that a single-file checkpoint leaves out, most of them read off its shapes.

A diffusers folder brings these as JSON; a checkpoint as A1111 users have it brings tensors alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from sfumato.core.errors import ModelUnusable

#: Shapes of one network's tensors under the checkpoint's own names, its prefix taken off.
Shapes = Mapping[str, tuple[int, ...]]

#: Of the latents that Stable Diffusion 1 and 2 were trained on, and SDXL.
SCALING_FACTOR, XL_SCALING_FACTOR = 0.18215, 0.13025
#: Channels of each attention head: in SD 2's UNet, and in both text encoders.
_HEAD_CHANNELS = 64
_SD1_HEADS = 8
#: Channels that each number of a picture becomes, before SDXL's network is told them.
_XL_NUMBER_CHANNELS = 256
_TRANSFORMERS = r"\.transformer_blocks\.(\d+)\."


def layers_per_block(shapes: Shapes) -> int:
    """Residual layers in each level of the UNet's descent, which ends in a downsampler."""
    for index in range(1, _count(shapes, r"input_blocks\.(\d+)\.")):
        if f"input_blocks.{index}.0.op.weight" in shapes:
            return index - 1
    return _count(shapes, r"input_blocks\.(\d+)\.") - 1


def unet_config(shapes: Shapes, family: str) -> dict[str, Any]:
    """Keywords of diffusers' ``UNet2DConditionModel``."""
    layers = layers_per_block(shapes)
    blocks = _count(shapes, r"input_blocks\.(\d+)\.")
    first_layers = range(1, blocks, layers + 1)
    widths = [_shape(shapes, f"input_blocks.{n}.0.out_layers.3.weight")[0] for n in first_layers]
    attends = [f"input_blocks.{n}.1.proj_in.weight" in shapes for n in first_layers]
    keys = [name for name in shapes if name.endswith("transformer_blocks.0.attn2.to_k.weight")]
    if not keys:
        raise ModelUnusable("its UNet attends to no prompt.")
    projection = next(name for name in shapes if name.endswith(".proj_in.weight"))
    config: dict[str, Any] = {
        "sample_size": 128 if family.startswith("sdxl") else 64,
        "in_channels": _shape(shapes, "input_blocks.0.0.weight")[1],
        "out_channels": _shape(shapes, "out.2.weight")[0],
        "block_out_channels": tuple(widths),
        "layers_per_block": layers,
        "down_block_types": _types(attends, "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": _types(attends[::-1], "CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": _shape(shapes, keys[0])[1],
        # diffusers' name for the number of heads, kept by it for the sake of old files.
        "attention_head_dim": _SD1_HEADS
        if family == "sd1"
        else tuple(width // _HEAD_CHANNELS for width in widths),
        "use_linear_projection": len(_shape(shapes, projection)) == 2,
    }
    if family.startswith("sdxl"):
        config |= {
            "transformer_layers_per_block": _depths(shapes, first_layers),
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": _XL_NUMBER_CHANNELS,
            "projection_class_embeddings_input_dim": _shape(shapes, "label_emb.0.0.weight")[1],
        }
    return config


def _depths(shapes: Shapes, first_layers: Iterable[int]) -> tuple[int, ...]:
    """Transformer layers in each level's attention; the last level's are the middle's, too."""
    levels = [_count(shapes, rf"input_blocks\.{n}\.1{_TRANSFORMERS}") for n in first_layers]
    levels[-1] = levels[-1] or _count(shapes, rf"middle_block\.1{_TRANSFORMERS}")
    return tuple(depth or 1 for depth in levels)


def vae_config(shapes: Shapes, family: str) -> dict[str, Any]:
    """Keywords of diffusers' ``AutoencoderKL``."""
    levels = _count(shapes, r"encoder\.down\.(\d+)\.")
    widths = [_shape(shapes, f"encoder.down.{n}.block.0.conv2.weight")[0] for n in range(levels)]
    return {
        "block_out_channels": tuple(widths),
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "layers_per_block": _count(shapes, r"encoder\.down\.0\.block\.(\d+)\."),
        "latent_channels": _shape(shapes, "post_quant_conv.weight")[1],
        "scaling_factor": XL_SCALING_FACTOR if family.startswith("sdxl") else SCALING_FACTOR,
    }


def text_config(shapes: Shapes, *, open_clip: bool) -> dict[str, Any]:
    """Keywords of transformers' ``CLIPTextConfig``, from its tensors under its own names.

    Args:
        open_clip: whether it was trained with OpenCLIP, else by OpenAI.
    """
    vocabulary, width = _shape(shapes, "embeddings.token_embedding.weight")
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": _shape(shapes, "encoder.layers.0.mlp.fc1.weight")[0],
        "num_hidden_layers": _count(shapes, r"encoder\.layers\.(\d+)\."),
        "num_attention_heads": width // _HEAD_CHANNELS,
        "max_position_embeddings": _shape(shapes, "embeddings.position_embedding.weight")[0],
        # OpenAI's CLIP approximates what OpenCLIP computes.
        "hidden_act": "gelu" if open_clip else "quick_gelu",
    }


def _types(attends: list[bool], with_attention: str, without: str) -> tuple[str, ...]:
    return tuple(with_attention if attention else without for attention in attends)


def _count(shapes: Shapes, pattern: str) -> int:
    """How many numbers, from 0, the pattern's group takes among the names."""
    found = (re.match(pattern, name) for name in shapes)
    return 1 + max((int(match.group(1)) for match in found if match), default=-1)


def _shape(shapes: Shapes, name: str) -> tuple[int, ...]:
    if name not in shapes:
        raise ModelUnusable(f"it lacks the tensor {name}.")
    return shapes[name]
