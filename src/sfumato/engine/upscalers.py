"""Reads networks that enlarge pictures: ESRGAN's, in its three spellings, and Real-ESRGAN's compact
one. Where spandrel is installed, it reads all the others.

The names of the tensors are those of xinntao/ESRGAN (old and new) and xinntao/Real-ESRGAN.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from sfumato.core.errors import ModelRefused, ModelUnusable
from sfumato.core.models import ModelInfo
from sfumato.engine.rrdb import COLOURS, Compact, RRDBNet
from sfumato.engine.weights import Placement, build, hash_of, read_tensors

_WRAPPERS = ("params_ema.", "params.", "module.")
#: Older names of RRDBNet's tensors, and ours. The old ones' last layers are told by their order.
_RENAMED = (
    (r"model\.0\.", "conv_first."),
    (r"(?:model\.1\.sub|RRDB_trunk)\.(\d+)\.RDB(\d)\.conv(\d)\.(?:0\.)?", r"body.\1.rdb\2.conv\3."),
    (r"model\.1\.sub\.\d+\.(?=weight|bias)|trunk_conv\.", "conv_body."),
    (r"HRconv\.", "conv_hr."),
)
_END = re.compile(r"model\.([2-9]|\d\d)\.(?=weight$|bias$)")
_DOUBLING = re.compile(r"(?:upconv|conv_up)(\d)\.")


class Upscaler:
    """A network that enlarges pictures by a whole number.

    Attributes:
        name: of the catalogue.
        hash: SHA-256 of :func:`sfumato.engine.weights.hash_of`.
        scale: pixels a side that it makes of one.
        fold: what its sides must be multiples of.
        size: bytes of its weights in memory.
    """

    def __init__(self, name: str, weights_hash: str, read: _Read, placement: Placement) -> None:
        self.name = name
        self.hash = weights_hash
        self.scale = read.scale
        self.fold = read.fold
        self.size = sum(weight.nbytes for weight in read.weights.parameters())
        self._placement = placement
        self._network = read.network

    def __call__(self, pixels: Tensor) -> Tensor:
        """Pixels (n, 3, h, w) in about 0 … 1, in float32 and where they were."""
        placed = pixels.to(
            self._placement.device, self._placement.dtype, memory_format=torch.channels_last
        )
        return self._network(placed).to(pixels)


@dataclass(frozen=True, slots=True)
class _Read:
    network: Callable[[Tensor], Tensor]
    weights: nn.Module
    scale: int
    fold: int = 1


def load_upscaler(info: ModelInfo, placement: Placement) -> Upscaler:
    """Read an upscaler from its file.

    Raises:
        ModelRefused: a pickle, or a network that neither we nor an installed spandrel know.
        ModelUnusable: the file is damaged.
    """
    path = Path(info.path)
    if path.suffix != ".safetensors":
        raise ModelRefused(
            f"The upscaler {path.name} is no .safetensors file. Pickled weights can run code and are "
            "never opened; convert them (docs/howto/upscaling.md).",
            field="upscaling.upscaler",
        )
    tensors = _unwrapped(read_tensors([path]))
    named = _renamed(tensors)
    plus = any(".conv1x1." in name for name in tensors)  # ESRGAN+, another network
    if "conv_first.weight" in named and "body.0.rdb1.conv1.weight" in named and not plus:
        read = _rrdb(named, path, placement)
    elif "body.0.weight" in tensors and "body.1.weight" in tensors:
        read = _compact(tensors, path, placement)
    else:
        read = _by_spandrel(tensors, path, placement)
    return Upscaler(info.name, hash_of([path]), read, placement)


def _unwrapped(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without what the training code put before all names; of two copies the averaged one."""
    for prefix in _WRAPPERS:
        if any(name.startswith(prefix) for name in tensors):
            tensors = {
                name.removeprefix(prefix): tensor
                for name, tensor in tensors.items()
                if name.startswith(prefix)
            }
    return tensors


def _renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """RRDBNet's tensors under our names."""
    ends = sorted({int(found[1]) for name in tensors if (found := _END.match(name))})
    places = dict(zip(ends[-2:], ("conv_hr.", "conv_last."), strict=False))
    places |= {place: f"conv_up.{n}." for n, place in enumerate(ends[:-2])}

    def renamed(name: str) -> str:
        if found := _END.match(name):
            return places[int(found[1])] + name[found.end() :]
        if found := _DOUBLING.match(name):
            return f"conv_up.{int(found[1]) - 1}." + name[found.end() :]
        for old, new in _RENAMED:
            changed, count = re.subn(f"^(?:{old})", new, name)
            if count:
                return changed
        return name

    return {renamed(name): tensor for name, tensor in tensors.items()}


def _rrdb(tensors: Mapping[str, Tensor], path: Path, placement: Placement) -> _Read:
    width, channels = tensors["conv_first.weight"].shape[:2]
    growth = tensors["body.0.rdb1.conv1.weight"].shape[0]
    blocks = len({name.split(".")[1] for name in tensors if name.startswith("body.")})
    doublings = sum(name.startswith("conv_up.") and name.endswith(".weight") for name in tensors)
    fold = math.isqrt(channels // COLOURS)
    scale = 2**doublings
    if channels != COLOURS * fold**2 or fold not in (1, 2, 4) or scale % fold:
        raise ModelUnusable(f"{path} reads {channels} channels, not colours.")
    network = build(
        lambda: RRDBNet(width=width, growth=growth, blocks=blocks, doublings=doublings, fold=fold),
        tensors,
        path,
        placement,
    )
    return _own(network, scale // fold, fold)


def _compact(tensors: Mapping[str, Tensor], path: Path, placement: Placement) -> _Read:
    layers = [name for name, tensor in tensors.items() if tensor.ndim == 4]
    last = max(layers, key=lambda name: int(name.split(".")[1]))
    scale = math.isqrt(tensors[last].shape[0] // COLOURS)
    width = tensors["body.0.weight"].shape[0]
    network = build(
        lambda: Compact(width=width, layers=len(layers) - 1, scale=scale), tensors, path, placement
    )
    return _own(network, scale)


def _own(network: nn.Module, scale: int, fold: int = 1) -> _Read:
    placed = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return _Read(placed, placed, scale, fold)


def _by_spandrel(tensors: dict[str, Tensor], path: Path, placement: Placement) -> _Read:
    try:
        from spandrel import ModelLoader  # noqa: PLC0415  # it is not installed by default
    except ImportError:
        raise ModelRefused(
            f"The upscaler {path.name} is no ESRGAN that this engine knows. With spandrel installed "
            "beside it, more are (docs/howto/upscaling.md).",
            field="upscaling.upscaler",
        ) from None
    try:
        found = ModelLoader("cpu").load_from_state_dict(tensors)
    except Exception as error:  # spandrel's own, and whatever torch raises
        raise ModelUnusable(f"spandrel can't read {path}: {error}") from error
    if (found.input_channels, found.output_channels) != (COLOURS, COLOURS):
        raise ModelUnusable(f"{path} does not make colours of colours.")
    found = found.to(placement.device, placement.dtype).eval()
    return _Read(found, found.model.requires_grad_(requires_grad=False), found.scale)
