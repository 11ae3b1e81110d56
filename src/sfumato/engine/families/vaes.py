"""VAEs: between pixels and latents; a model's own, or one that a request names in its place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from sfumato.core.checkpoints import VAE_PREFIX
from sfumato.core.errors import InvalidRequest, ModelUnusable
from sfumato.core.models import ModelInfo
from sfumato.engine import convert
from sfumato.engine.families import configs
from sfumato.engine.packing import pack
from sfumato.engine.tiles import in_vae
from sfumato.engine.weights import (
    Placement,
    build,
    component_files,
    read_json,
    read_tensors,
)

_CLASS = "AutoencoderKL"
#: The attention had other names until diffusers 0.15; old folders still have them.
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


class Vae:
    """A loaded VAE.

    Attributes:
        size: bytes of its weights in memory.
        channels: of its latents.
        cell: pixels a side of one latent cell.
        dtype: in which it computes.
        scaling: by which its latents are multiplied for the network.
        info: its entry in the catalogue; None: a model's own.
        colours: for previews, once fitted.
    """

    def __init__(
        self, network: AutoencoderKL, placement: Placement, info: ModelInfo | None = None
    ) -> None:
        config = network.config
        self.info = info
        self.size = sum(weight.nbytes for weight in network.parameters())
        self.channels: int = config.latent_channels
        self.cell: int = 2 ** (len(config.block_out_channels) - 1)
        self.scaling: float = config.scaling_factor
        self.colours: Tensor | None = None
        self._shift: float = getattr(config, "shift_factor", None) or 0.0
        self.dtype = network.dtype
        self.device = placement.device
        pack(network, replace(placement, dtype=network.dtype))
        self._network = network

    def encode(self, pixels: Tensor, noise: Tensor) -> Tensor:
        """Pixels (n, 3, height, width) in 0 … 1 to latents (n, channels, h, w), float32.

        It answers with a Gaussian for each number. As diffusers and A1111 do, it is drawn from.

        Args:
            noise: unit noise of the latents' shape, which decides what is drawn; 0: the mean.
        """
        scaled = (pixels * 2 - 1).to(self.dtype, memory_format=torch.channels_last)
        moments = in_vae(
            self._moments,
            scaled,
            channels=2 * self.channels,
            shrink=self.cell,
            dtype=self.dtype,
        )
        mean, deviation = moments.float().chunk(2, dim=1)
        latents = mean + deviation * noise
        return ((latents - self._shift) * self.scaling).contiguous()

    def _moments(self, scaled: Tensor) -> Tensor:
        """Mean and deviation of each latent number, (n, 2 × channels, h, w)."""
        gaussian = self._network.encode(scaled).latent_dist
        moments: Tensor = torch.cat([gaussian.mean, gaussian.std], dim=1)
        return moments

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (n, channels, h, w) to pixels (n, 3, height, width), float32 in 0 … 1."""
        unscaled = latents / self.scaling + self._shift
        scaled = unscaled.to(self.dtype, memory_format=torch.channels_last)
        pixels = in_vae(
            lambda tile: self._network.decode(tile, return_dict=False)[0],
            scaled,
            channels=3,
            grow=self.cell,
            dtype=self.dtype,
        )
        return (pixels.float() / 2 + 0.5).clamp_(0, 1)

    def check_fits(self, own: Vae, *, base: str) -> None:
        """Refuse to take the place of a VAE whose latents are others.

        Args:
            own: the model's.
            base: the model's name.

        Raises:
            InvalidRequest: naming both.
        """
        name = self.info.name if self.info is not None else ""
        for what, mine, theirs in (
            ("channels", self.channels, own.channels),
            ("pixels a cell", self.cell, own.cell),
            ("scale", self.scaling, own.scaling),
        ):
            if mine != theirs:
                raise InvalidRequest(
                    f"The VAE {name!r} was not made for models like {base!r}: its latents have "
                    f"another {what}, {mine} against {theirs}.",
                    field="vae",
                    accepted="a VAE of the model's own family",
                )


def load_vae(info: ModelInfo, placement: Placement, *, scaling: float, upcast: bool) -> Vae:
    """Read a VAE from a diffusers folder, or from one file of either kind of names.

    Args:
        scaling: taken for a single file, which does not tell its own.
        upcast: as of :func:`build_vae`.

    Raises:
        ModelUnusable: naming the file and what is wrong with it.
    """
    path = Path(info.path)
    if path.is_dir():
        files, config = component_files(path), read_json(path / "config.json")
        kind = config.get("_class_name", _CLASS)
        if kind != _CLASS:
            raise ModelUnusable(f"{path} holds the class {kind}; of VAEs this engine has {_CLASS}.")
        tensors: Mapping[str, Tensor] = renamed_attention(read_tensors(files))
    else:
        files = [path]
        try:
            tensors, config = _of_file(read_tensors(files), scaling)
        except ModelUnusable as error:
            if str(path) in error.message:
                raise
            raise ModelUnusable(f"{path} can't be used as a VAE: {error.message}") from None
    return build_vae(config, tensors, path, placement, upcast=upcast, info=info)


def build_vae(
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    source: Path,
    placement: Placement,
    *,
    upcast: bool,
    info: ModelInfo | None = None,
) -> Vae:
    """A VAE of a configuration and weights in diffusers' words.

    Args:
        upcast: whether it is of a family whose VAEs overflow in half precision. SDXL's own does,
            and so says its config; where one was trained not to, its config says that.

    Raises:
        ModelUnusable: naming ``source`` and what is wrong with it.
    """
    if upcast and placement.dtype == torch.float16 and config.get("force_upcast", True):
        placement = replace(placement, dtype=torch.float32)
    network = build(lambda: AutoencoderKL.from_config(dict(config)), tensors, source, placement)
    return Vae(network, placement, info)


def renamed_attention(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Under the names that diffusers has now."""
    renamed = {}
    for name, tensor in tensors.items():
        *path, layer, kind = name.split(".")
        if "attentions" in path and layer in _OLD_ATTENTION:
            new = ".".join([*path, _OLD_ATTENTION[layer], kind])
            renamed[new] = tensor.flatten(1) if kind == "weight" else tensor
        else:
            renamed[name] = tensor
    return renamed


def _of_file(
    tensors: Mapping[str, Tensor], scaling: float
) -> tuple[Mapping[str, Tensor], dict[str, Any]]:
    """A single file's tensors under diffusers' names, and the configuration that they tell."""
    bare = {name.removeprefix(VAE_PREFIX): tensor for name, tensor in tensors.items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in bare.items()}
    if "encoder.down_blocks.0.resnets.0.conv1.weight" in shapes:
        return renamed_attention(bare), {**_config(shapes), "scaling_factor": scaling}
    return convert.vae_tensors(bare), {**configs.vae_config(shapes, ""), "scaling_factor": scaling}


def _config(shapes: configs.Shapes) -> dict[str, Any]:
    """Keywords of ``AutoencoderKL``, from its tensors under its own names."""
    blocks = (
        re.fullmatch(r"encoder\.down_blocks\.(\d+)\.resnets\.0\.conv2\.weight", n) for n in shapes
    )
    widths = {int(block[1]): shapes[block[0]][0] for block in blocks if block}
    layers = (
        re.fullmatch(r"encoder\.down_blocks\.0\.resnets\.\d+\.conv1\.weight", n) for n in shapes
    )
    if "decoder.conv_in.weight" not in shapes:
        raise ModelUnusable("it lacks the tensor decoder.conv_in.weight.")
    return {
        "block_out_channels": tuple(widths[level] for level in sorted(widths)),
        "down_block_types": ("DownEncoderBlock2D",) * len(widths),
        "up_block_types": ("UpDecoderBlock2D",) * len(widths),
        "layers_per_block": sum(map(bool, layers)),
        "latent_channels": shapes["decoder.conv_in.weight"][1],
    }
