"""Tensors of a single-file checkpoint under the names that diffusers and transformers use.

Such files keep the names of CompVis' latent-diffusion code; SD 2's text encoder and SDXL's second
have open_clip's. Each function takes the tensors of one network, its prefix taken off.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from sfumato.engine.families.configs import layers_per_block

_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_UNET_ENDS = {
    "time_embed.0.": "time_embedding.linear_1.",
    "time_embed.2.": "time_embedding.linear_2.",
    "label_emb.0.0.": "add_embedding.linear_1.",
    "label_emb.0.2.": "add_embedding.linear_2.",
    "input_blocks.0.0.": "conv_in.",
    "out.0.": "conv_norm_out.",
    "out.2.": "conv_out.",
    "middle_block.0.": "mid_block.resnets.0.",
    "middle_block.1.": "mid_block.attentions.0.",
    "middle_block.2.": "mid_block.resnets.1.",
}
_VAE_ATTENTION = {
    "norm": "group_norm",
    "q": "to_q",
    "k": "to_k",
    "v": "to_v",
    "proj_out": "to_out.0",
}
_OPEN_CLIP_LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_OPEN_CLIP_ENDS = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}


def unet_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """For ``UNet2DConditionModel``."""
    layers = layers_per_block({name: tuple(tensor.shape) for name, tensor in tensors.items()})
    return {_unet_name(name, layers): tensor for name, tensor in tensors.items()}


def _unet_name(name: str, layers: int) -> str:
    for old, new in _UNET_ENDS.items():
        if name.startswith(old):
            return new + _resnet(name.removeprefix(old))
    found = re.match(r"(input|output)_blocks\.(\d+)\.(\d+)\.(.*)", name)
    if found is None:
        return name
    way, index, part, rest = found[1], int(found[2]), found[3], found[4]
    # The very first input block is the first convolution, so the levels begin at 1.
    level, layer = divmod(index - 1 if way == "input" else index, layers + 1)
    block = f"{'down' if way == 'input' else 'up'}_blocks.{level}"
    if rest.startswith("op."):
        return f"{block}.downsamplers.0.conv.{rest.removeprefix('op.')}"
    if rest.startswith("conv."):
        return f"{block}.upsamplers.0.{rest}"
    kind = "resnets" if part == "0" else "attentions"
    return f"{block}.{kind}.{layer}.{_resnet(rest)}"


def _resnet(name: str) -> str:
    module, _, kind = name.rpartition(".")
    return f"{_RESNET[module]}.{kind}" if module in _RESNET else name


def vae_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """For ``AutoencoderKL``; its attention's 1 × 1 convolutions become linear layers."""
    found = (re.match(r"decoder\.up\.(\d+)\.", name) for name in tensors)
    last = max((int(match[1]) for match in found if match), default=0)
    renamed = {}
    for name, tensor in tensors.items():
        new = _vae_name(name, last)
        linear = ".attentions." in new and new.endswith(".weight") and tensor.ndim == 4
        renamed[new] = tensor.flatten(1) if linear else tensor
    return renamed


def _vae_name(name: str, last: int) -> str:
    new = name.replace("nin_shortcut", "conv_shortcut").replace("norm_out", "conv_norm_out")
    new = re.sub(r"\.mid\.block_(\d)", lambda m: f".mid_block.resnets.{int(m[1]) - 1}", new)
    new = re.sub(r"\.down\.(\d+)\.block\.", r".down_blocks.\1.resnets.", new)
    new = re.sub(r"\.down\.(\d+)\.downsample\.", r".down_blocks.\1.downsamplers.0.", new)
    # The decoder counts its levels from the finest, diffusers from the coarsest.
    new = re.sub(r"\.up\.(\d+)\.block\.", lambda m: f".up_blocks.{last - int(m[1])}.resnets.", new)
    new = re.sub(
        r"\.up\.(\d+)\.upsample\.", lambda m: f".up_blocks.{last - int(m[1])}.upsamplers.0.", new
    )
    return re.sub(
        r"\.mid\.attn_1\.(\w+)\.",
        lambda m: f".mid_block.attentions.0.{_VAE_ATTENTION.get(m[1], m[1])}.",
        new,
    )


def clip_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """For ``CLIPTextModel``, from transformers' own names, with or without its old prefix."""
    return {name.removeprefix("text_model."): tensor for name, tensor in tensors.items()}


def open_clip_tensors(
    tensors: Mapping[str, Tensor], *, summed_up: bool = False
) -> dict[str, Tensor]:
    """For ``CLIPTextModel``, from open_clip's names.

    Args:
        summed_up: whether a projection of the last layer is needed, which is then there under
            transformers' name. Else that layer is left out: SD 2 was trained on the output of the
            one before it.
    """
    numbered = (re.match(r"transformer\.resblocks\.(\d+)\.(.+)", name) for name in tensors)
    layers = [match for match in numbered if match]
    last = max((int(match[1]) for match in layers), default=0)
    renamed = {new: tensors[old] for old, new in _OPEN_CLIP_ENDS.items() if old in tensors}
    for match in layers:
        number, rest, tensor = int(match[1]), match[2], tensors[match[0]]
        if number == last and not summed_up:
            continue
        layer = f"encoder.layers.{number}"
        if rest.startswith("attn.in_proj_"):
            kind = rest.removeprefix("attn.in_proj_")
            for role, third in zip("qkv", tensor.chunk(3), strict=True):
                renamed[f"{layer}.self_attn.{role}_proj.{kind}"] = third
        else:
            module, _, kind = rest.rpartition(".")
            renamed[f"{layer}.{_OPEN_CLIP_LAYER.get(module, module)}.{kind}"] = tensor
    if summed_up and "text_projection" in tensors:
        renamed["text_projection.weight"] = tensors["text_projection"].T
    elif summed_up and "text_projection.weight" in tensors:
        # Of files that were saved as transformers has it.
        renamed["text_projection.weight"] = tensors["text_projection.weight"]
    return renamed
