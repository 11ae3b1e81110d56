"""What a file's tensors are called: which layer of which network, and which part of its change.

Three ways are common: kohya's, whose names have ``_`` for every dot and, for SDXL, may be those of
CompVis' own code; diffusers' and peft's; and diffusers' first one, by attention processors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

UNET, TEXT, SECOND_TEXT = "unet", "text_encoder", "text_encoder_2"

_NETWORKS = {
    "lora_unet_": UNET,
    "lora_te1_": TEXT,
    "lora_te2_": SECOND_TEXT,
    "lora_te_": TEXT,
    "lycoris_": UNET,
    "diffusion_model.": UNET,
    "base_model.model.": UNET,
    "unet.": UNET,
    "text_encoder.": TEXT,
    "text_encoder_2.": SECOND_TEXT,
}
#: How a tensor's name ends -> which part of a change it is.
_PARTS = {
    ".lora_down.weight": "down",
    ".lora_up.weight": "up",
    ".lora_mid.weight": "mid",
    ".lora_A.weight": "down",
    ".lora_B.weight": "up",
    ".lora_A.default.weight": "down",
    ".lora_B.default.weight": "up",
    ".lora.down.weight": "down",
    ".lora.up.weight": "up",
    ".lora_linear_layer.down.weight": "down",
    ".lora_linear_layer.up.weight": "up",
    "_lora.down.weight": "down",
    "_lora.up.weight": "up",
    ".lora_magnitude_vector": "magnitude",
    ".lora_magnitude_vector.weight": "magnitude",
    ".lora_magnitude_vector.default.weight": "magnitude",
    **{f".{part}": part for part in ("alpha", "scale", "dora_scale", "diff", "diff_b", "on_input")},
    **{f".hada_{part}": f"hada_{part}" for part in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")},
    **{
        f".lokr_{part}": f"lokr_{part}"
        for part in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")
    },
    **{f".{part}": part for part in ("w_norm", "b_norm")},
    ".weight": "weight",
}
_LONGEST_FIRST = sorted(_PARTS, key=len, reverse=True)


class TensorName(NamedTuple):
    """``layer``: with ``_`` for every dot, as all of the ways can be written."""

    network: str
    layer: str
    part: str


def parse_name(name: str) -> TensorName | None:
    """None: it is in none of these ways."""
    end = next((end for end in _LONGEST_FIRST if name.endswith(end)), None)
    if end is None:
        return None
    module = name.removesuffix(end)
    prefix = next((each for each in _NETWORKS if module.startswith(each)), "")
    network = _NETWORKS.get(prefix, UNET)
    layer = flat(module.removeprefix(prefix).replace(".processor.", "."))
    if network != UNET:
        layer = layer.removeprefix("text_model_")
    return TensorName(network, layer, _PARTS[end])


def flat(name: str) -> str:
    return name.replace(".", "_")


def unet_aliases(names: Iterable[str]) -> dict[str, str]:
    """Every flat name that files have for a UNet's layers -> the layer's name in diffusers."""
    names = list(names)
    numbers = (re.match(r"down_blocks\.0\.resnets\.(\d+)\.", name) for name in names)
    layers = 1 + max((int(found[1]) for found in numbers if found), default=0)
    aliases: dict[str, str] = {}
    for name in names:
        known = [name, *_originals(name, layers)]
        if name.endswith(".to_out.0"):
            # Attention processors had one layer where a layer and its dropout are now.
            known.append(name.removesuffix(".0"))
        aliases |= {flat(each): name for each in known}
    return aliases


def text_aliases(names: Iterable[str]) -> dict[str, str]:
    """The same of a text encoder's layers."""
    return {flat(name): name for name in names}


_RESNET = {
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_out": "out.2",
}
_MIDDLE = {"resnets.0": "0", "attentions.0": "1", "resnets.1": "2"}
_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|\w+samplers)\.(\d+)\.(.+)")


def _originals(name: str, layers: int) -> list[str]:
    """The name in CompVis' code. ``layers``: residual blocks of each level on the way down."""
    if name in _ENDS:
        return [_ENDS[name]]
    if name.startswith("mid_block."):
        _, kind, place, rest = name.split(".", 3)
        return [f"middle_block.{_MIDDLE.get(f'{kind}.{place}')}.{_RESNET.get(rest, rest)}"]
    found = _BLOCK.fullmatch(name)
    if found is None:
        return []
    way, kind, rest = found[1], found[3], found[5]
    level, number = int(found[2]), int(found[4])
    # The very first input block is the first convolution, so the levels begin at 1.
    first = level * (layers + 1) + (way == "down")
    blocks = "input_blocks" if way == "down" else "output_blocks"
    if kind == "downsamplers":
        return [f"{blocks}.{first + layers}.0.op"]
    if kind == "upsamplers":
        # Behind the attention, where the level has one.
        return [f"{blocks}.{first + layers}.{place}.conv" for place in (1, 2)]
    part = "0" if kind == "resnets" else "1"
    return [f"{blocks}.{first + number}.{part}.{_RESNET.get(rest, rest)}"]
