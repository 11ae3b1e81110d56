"""ControlNets from disk: a diffusers folder, or one file of their authors' or of diffusers' names.

https://arxiv.org/abs/2302.05543
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from torch import Tensor

from sfumato.core.errors import InvalidRequest, ModelUnusable
from sfumato.core.models import ModelInfo
from sfumato.engine import convert
from sfumato.engine.lean import make_lean
from sfumato.engine.packing import pack
from sfumato.engine.remembering import Remembered, remember_prompts
from sfumato.engine.weights import (
    Placement,
    build,
    component_files,
    hash_of,
    read_json,
    read_tensors,
)

_PREFIX = "control_model."
_OWN = re.compile(r"(zero_convs\.\d+\.0|middle_block_out\.0|input_hint_block\.\d+)\.(weight|bias)$")
#: Of diffusers' names.
_EMBEDDING = "controlnet_cond_embedding."
_ADDED = "add_embedding.linear_1.weight"
_CLASS = "ControlNetModel"
_COLOURS = 3
#: Tensors of the networks that several kinds of pictures share.
_UNION = {"task_embedding", "control_type_proj", "control_add_embedding.linear_1.weight"}
#: Channels of each attention head in SD 2 and XL; SD 1 has so many heads of any width.
_HEAD_CHANNELS, _SD1_HEADS = 64, 8
#: Channels in which SDXL is told each number of the picture's size.
_SIZE_CHANNELS = 256
#: What a ControlNet and the network that it steers must have in common, and what people call it.
_COMMON = {
    "block_out_channels": "channels",
    "layers_per_block": "layers a block",
    "cross_attention_dim": "widths of texts",
    "addition_embed_type": "added conditions",
}


class ControlNet:
    """A loaded ControlNet.

    Attributes:
        name: of the catalogue.
        hash: SHA-256 of :func:`sfumato.engine.weights.hash_of`.
        size: bytes of its weights in memory.
        cell: pixels a side of its picture for each latent cell.
    """

    def __init__(
        self, name: str, network: ControlNetModel, placement: Placement, weights_hash: str
    ) -> None:
        self.name = name
        self.hash = weights_hash
        self.size = sum(weight.nbytes for weight in network.parameters())
        self._config: Mapping[str, Any] = network.config
        self.cell: int = 2 ** (len(self._config["conditioning_embedding_out_channels"]) - 1)
        pack(network, placement)
        remember_prompts(network)
        make_lean(network)
        network.controlnet_cond_embedding = Remembered(network.controlnet_cond_embedding)
        self._network = network
        self._placement = placement

    def check_fits(
        self, network: Mapping[str, Any], *, latents: tuple[int, int], base: str
    ) -> None:
        """Refuse to steer a network that it was not trained for.

        Args:
            network: its configuration, in diffusers' words.
            latents: their channels, and the pixels a side of each of their cells.
            base: the model's name.

        Raises:
            InvalidRequest: naming both.
        """
        differing = [
            f"{what}: {_plain(self._config[key])} against {_plain(network[key])}"
            for key, what in _COMMON.items()
            if _plain(self._config[key]) != _plain(network[key])
            and (key != "cross_attention_dim" or self._config[key])  # small ones read no text
        ]
        mine = self._config["in_channels"], self.cell
        if mine != latents:
            differing.append(f"latents (channels, pixels a cell): {mine} against {latents}")
        if differing:
            raise InvalidRequest(
                f"The ControlNet {self.name!r} was not made for models like {base!r}: it has other "
                f"{differing[0]}.",
                field="controls",
                accepted="a ControlNet of the model's own family",
            )

    def prepared(self, pictures: Tensor) -> Tensor:
        """Pictures (rows, 3, height, width) of 8 bits as :meth:`residuals` wants them."""
        shown = pictures.to(self._placement.device).to(
            self._placement.dtype, memory_format=torch.channels_last
        )
        return shown / 255

    def residuals(
        self,
        latents: Tensor,
        timesteps: Tensor,
        tokens: Tensor,
        *,
        added: dict[str, Any] | None,
        pictures: Tensor,
        scales: Tensor,
    ) -> tuple[list[Tensor], Tensor]:
        """What is added to the network's connections from its descent to its ascent, and in its
        middle.

        Args:
            latents, timesteps, tokens, added: as the network takes them.
            pictures: of :meth:`prepared`; the very tensor of the step before where nothing changed.
            scales: float32 (rows,).
        """
        descent, middle = self._network(
            latents,
            timesteps,
            encoder_hidden_states=tokens,
            controlnet_cond=pictures,
            conditioning_scale=scales.to(self._placement.dtype).view(-1, 1, 1, 1),
            added_cond_kwargs=added,
            return_dict=False,
        )
        return list(descent), middle


def load_controlnet(info: ModelInfo, placement: Placement) -> ControlNet:
    """Read a ControlNet.

    Raises:
        ModelUnusable: naming the file and what is wrong with it.
    """
    path = Path(info.path)
    if path.is_dir():
        files, config = component_files(path), read_json(path / "config.json")
        kind = config.get("_class_name", _CLASS)
        if kind != _CLASS:
            raise ModelUnusable(f"{path} is a {kind}; of ControlNets this engine has {_CLASS}.")
        tensors: Mapping[str, Tensor] = read_tensors(files)
    else:
        files = [path]
        tensors = _renamed(read_tensors(files))
        try:
            config = controlnet_config(tensors)
        except KeyError as error:
            raise ModelUnusable(f"{path} is no ControlNet: it lacks the tensor {error}.") from None
    if _UNION & set(tensors):
        raise ModelUnusable(f"{path} is a Union ControlNet, for which this engine has no code.")
    if config.get("conditioning_channels", _COLOURS) != _COLOURS:
        raise ModelUnusable(f"{path} follows pictures of other channels than red, green and blue.")
    network = build(lambda: ControlNetModel.from_config(dict(config)), tensors, path, placement)
    return ControlNet(info.name, network, placement, hash_of(files))


def _renamed(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Under diffusers' names, whichever the file has; training's copy of the base left aside."""
    if f"{_EMBEDDING}conv_in.weight" in tensors:
        return tensors
    whole = {
        name.removeprefix(_PREFIX): tensor
        for name, tensor in tensors.items()
        if name.startswith(_PREFIX)
    } or tensors
    unet = {name: tensor for name, tensor in whole.items() if not _OWN.match(name)}
    last = max(_count(whole, r"input_hint_block\.(\d+)\.") - 1, 0)
    return {
        **convert.unet_tensors(unet),
        **{_own_name(name, last): tensor for name, tensor in whole.items() if _OWN.match(name)},
    }


def _own_name(name: str, last: int) -> str:
    """What a ControlNet has beside the descent of a UNet. ``last``: number of its embedding's last
    convolution; between two of them is an activation."""
    if name.startswith("zero_convs."):
        _, number, _, kind = name.split(".")
        return f"controlnet_down_blocks.{number}.{kind}"
    if name.startswith("middle_block_out."):
        return name.replace("middle_block_out.0.", "controlnet_mid_block.")
    _, number, kind = name.split(".")
    ends = {0: "conv_in", last: "conv_out"}
    return f"{_EMBEDDING}{ends.get(int(number), f'blocks.{int(number) // 2 - 1}')}.{kind}"


def controlnet_config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Keywords of diffusers' ``ControlNetModel``, from its tensors under its own names.

    Raises:
        KeyError: a tensor is missing.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    levels = range(_count(shapes, r"down_blocks\.(\d+)\."))
    widths = tuple(shapes[f"down_blocks.{n}.resnets.0.conv2.weight"][0] for n in levels)
    depths = [_depth(shapes, f"down_blocks.{n}.") for n in levels]
    middle = _depth(shapes, "mid_block.")
    projections = [len(shape) for name, shape in shapes.items() if name.endswith(".proj_in.weight")]
    linear = 2 in projections
    keys = [shape for name, shape in shapes.items() if name.endswith(".attn2.to_k.weight")]
    strided = range(1, _count(shapes, rf"{re.escape(_EMBEDDING)}blocks\.(\d+)\."), 2)
    first = shapes[f"{_EMBEDDING}conv_in.weight"]
    config: dict[str, Any] = {
        "in_channels": shapes["conv_in.weight"][1],
        "conditioning_channels": first[1],
        "conditioning_embedding_out_channels": (
            first[0],
            *(shapes[f"{_EMBEDDING}blocks.{n}.weight"][0] for n in strided),
        ),
        "block_out_channels": widths,
        "layers_per_block": _count(shapes, r"down_blocks\.0\.resnets\.(\d+)\."),
        "down_block_types": tuple(
            "CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths
        ),
        "mid_block_type": "UNetMidBlock2DCrossAttn" if middle else "UNetMidBlock2D",
        # The last is also the middle's.
        "transformer_layers_per_block": (*(depth or 1 for depth in depths[:-1]), middle or 1),
        "cross_attention_dim": keys[0][1] if keys else None,
        # diffusers' name for the number of heads, kept by it for the sake of old files.
        "attention_head_dim": tuple(width // _HEAD_CHANNELS for width in widths)
        if linear
        else _SD1_HEADS,
        "use_linear_projection": linear,
    }
    if _ADDED in shapes:
        config |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": _SIZE_CHANNELS,
            "projection_class_embeddings_input_dim": shapes[_ADDED][1],
        }
    return config


def _depth(names: Mapping[str, Any], block: str) -> int:
    """Transformers in a row in each attention of a block; 0: it has none."""
    return _count(names, rf"{re.escape(block)}attentions\.0\.transformer_blocks\.(\d+)\.")


def _count(names: Mapping[str, Any], pattern: str) -> int:
    """How many numbers, from 0, the pattern's group takes among the names."""
    found = (re.match(pattern, name) for name in names)
    return 1 + max((int(match.group(1)) for match in found if match), default=-1)


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
