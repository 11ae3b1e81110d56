"""diffusers' tensors under the names of single-file checkpoints, for tests to write such files.

The inverse of ``sfumato.engine.convert``, written from the other side: by walking a model's own
configuration instead of matching names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

Tensors = dict[str, Tensor]

RESNET = [
    ("norm1", "in_layers.0"),
    ("conv1", "in_layers.2"),
    ("time_emb_proj", "emb_layers.1"),
    ("norm2", "out_layers.0"),
    ("conv2", "out_layers.3"),
    ("conv_shortcut", "skip_connection"),
]
ATTENTION = [("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v")]


def checkpoint(
    unet: UNet2DConditionModel, vae: AutoencoderKL, text: Tensors, family: str
) -> Tensors:
    """A whole checkpoint. ``text``: the text encoder's tensors as transformers names them."""
    bare = {name.removeprefix("text_model."): tensor for name, tensor in text.items()}
    named = (
        {f"transformer.text_model.{name}": tensor for name, tensor in bare.items()}
        if family == "sd1"
        else {f"model.{name}": tensor for name, tensor in open_clip(bare).items()}
    )
    parts = [
        ("model.diffusion_model", unet_names(unet)),
        ("first_stage_model", vae_names(vae)),
        ("cond_stage_model", named),
    ]
    return {
        f"{prefix}.{name}": tensor.detach().contiguous()
        for prefix, tensors in parts
        for name, tensor in tensors.items()
    }


def checkpoint_xl(
    unet: UNet2DConditionModel, vae: AutoencoderKL, text: Tensors | None, text_2: Tensors
) -> Tensors:
    """A whole checkpoint of SDXL, or, without the first text encoder, of its refiner."""
    second = {f"model.{name}": tensor for name, tensor in open_clip_whole(text_2).items()}
    parts = [("model.diffusion_model", unet_names(unet)), ("first_stage_model", vae_names(vae))]
    if text is not None:
        bare = {name.removeprefix("text_model."): tensor for name, tensor in text.items()}
        first = {f"transformer.text_model.{name}": tensor for name, tensor in bare.items()}
        parts.append(("conditioner.embedders.0", first))
    parts.append((f"conditioner.embedders.{len(parts) - 2}", second))
    return {
        f"{prefix}.{name}": tensor.detach().contiguous()
        for prefix, tensors in parts
        for name, tensor in tensors.items()
    }


def unet_names(unet: UNet2DConditionModel) -> Tensors:
    state = unet.state_dict()
    layers = unet.config.layers_per_block
    moves = [
        ("time_embedding.linear_1", "time_embed.0", []),
        ("time_embedding.linear_2", "time_embed.2", []),
        ("add_embedding.linear_1", "label_emb.0.0", []),
        ("add_embedding.linear_2", "label_emb.0.2", []),
        ("conv_in", "input_blocks.0.0", []),
        ("mid_block.resnets.0", "middle_block.0", RESNET),
        ("mid_block.attentions.0", "middle_block.1", []),
        ("mid_block.resnets.1", "middle_block.2", RESNET),
        ("conv_norm_out", "out.0", []),
        ("conv_out", "out.2", []),
    ]
    block = 1
    for level, _ in enumerate(unet.down_blocks):
        here = f"down_blocks.{level}"
        for layer in range(layers):
            moves.append((f"{here}.resnets.{layer}", f"input_blocks.{block}.0", RESNET))
            moves.append((f"{here}.attentions.{layer}", f"input_blocks.{block}.1", []))
            block += 1
        moves.append((f"{here}.downsamplers.0.conv", f"input_blocks.{block}.0.op", []))
        block += 1
    block = 0
    for level, up in enumerate(unet.up_blocks):
        here = f"up_blocks.{level}"
        for layer in range(layers + 1):
            moves.append((f"{here}.resnets.{layer}", f"output_blocks.{block}.0", RESNET))
            moves.append((f"{here}.attentions.{layer}", f"output_blocks.{block}.1", []))
            block += 1
        part = 2 if hasattr(up, "attentions") else 1
        moves.append((f"{here}.upsamplers.0", f"output_blocks.{block - 1}.{part}", []))
    return dict(_moved(state, moves))


def vae_names(vae: AutoencoderKL) -> Tensors:
    state = vae.state_dict()
    levels = len(vae.config.block_out_channels)
    inner = [("conv_shortcut", "nin_shortcut")]
    moves = [("quant_conv", "quant_conv", []), ("post_quant_conv", "post_quant_conv", [])]
    for side, count in (
        ("encoder", vae.config.layers_per_block),
        ("decoder", vae.config.layers_per_block + 1),
    ):
        way, sampler = ("down", "downsample") if side == "encoder" else ("up", "upsample")
        for level in range(levels):
            new = level if side == "encoder" else levels - 1 - level
            here, there = f"{side}.{way}_blocks.{level}", f"{side}.{way}.{new}"
            moves += [
                (f"{here}.resnets.{layer}", f"{there}.block.{layer}", inner)
                for layer in range(count)
            ]
            moves.append(
                (f"{side}.{way}_blocks.{level}.{sampler}rs.0", f"{side}.{way}.{new}.{sampler}", [])
            )
        moves += [
            (f"{side}.conv_in", f"{side}.conv_in", []),
            (f"{side}.conv_out", f"{side}.conv_out", []),
            (f"{side}.conv_norm_out", f"{side}.norm_out", []),
            (f"{side}.mid_block.resnets.0", f"{side}.mid.block_1", inner),
            (f"{side}.mid_block.resnets.1", f"{side}.mid.block_2", inner),
            (
                f"{side}.mid_block.attentions.0",
                f"{side}.mid.attn_1",
                [*ATTENTION, ("to_out.0", "proj_out")],
            ),
        ]
    renamed = dict(_moved(state, moves))
    return {
        name: tensor[:, :, None, None] if "attn_1" in name and tensor.ndim == 2 else tensor
        for name, tensor in renamed.items()
    }


def open_clip(text: Tensors) -> Tensors:
    """With a last layer of its own, which Stable Diffusion 2 never uses."""
    return _open_clip(text, spare=1)


def open_clip_whole(text: Tensors) -> Tensors:
    """With the projection of the last layer, which SDXL uses."""
    bare = {name.removeprefix("text_model."): tensor for name, tensor in text.items()}
    projection = bare["text_projection.weight"].T
    return {**_open_clip(bare, spare=0), "text_projection": projection}


def _open_clip(text: Tensors, *, spare: int) -> Tensors:
    renamed = {
        "token_embedding.weight": text["embeddings.token_embedding.weight"],
        "positional_embedding": text["embeddings.position_embedding.weight"],
        "ln_final.weight": text["final_layer_norm.weight"],
        "ln_final.bias": text["final_layer_norm.bias"],
        "logit_scale": torch.zeros(()),
    }
    count = 1 + max(int(name.split(".")[2]) for name in text if name.startswith("encoder.layers."))
    for number in range(count + spare):
        old = f"encoder.layers.{min(number, count - 1)}"
        new = f"transformer.resblocks.{number}"
        for kind in ("weight", "bias"):
            roles = [text[f"{old}.self_attn.{role}_proj.{kind}"] for role in "qkv"]
            renamed[f"{new}.attn.in_proj_{kind}"] = torch.cat(roles)
            for theirs, ours in (
                ("self_attn.out_proj", "attn.out_proj"),
                ("layer_norm1", "ln_1"),
                ("layer_norm2", "ln_2"),
                ("mlp.fc1", "mlp.c_fc"),
                ("mlp.fc2", "mlp.c_proj"),
            ):
                renamed[f"{new}.{ours}.{kind}"] = text[f"{old}.{theirs}.{kind}"].clone()
    return renamed


Moves = list[tuple[str, str, list[tuple[str, str]]]]


def _moved(state: Mapping[str, Tensor], moves: Moves) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in state.items():
        old, new, inner = next(move for move in moves if name.startswith(move[0] + "."))
        rest = name.removeprefix(old + ".")
        for theirs, ours in inner:
            if rest.startswith(theirs + "."):
                rest = f"{ours}.{rest.removeprefix(theirs + '.')}"
                break
        yield f"{new}.{rest}", tensor
