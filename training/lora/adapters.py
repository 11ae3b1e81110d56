"""Low-rank changes of a network's layers while they learn, and as a file that programs read.

A layer's answer ``W x`` becomes ``W x + alpha / rank * up(down(x))`` (Hu et al., 2021, "LoRA");
of a convolution, ``down`` has its kernel and ``up`` one of 1 x 1, as in kohya's LoCon.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn


class Adapter(nn.Module):
    """The change of one layer. It begins as none: ``up`` is zeros."""

    def __init__(self, layer: nn.Linear | nn.Conv2d, rank: int, alpha: float) -> None:
        super().__init__()
        self.down: nn.Linear | nn.Conv2d
        self.up: nn.Linear | nn.Conv2d
        if isinstance(layer, nn.Conv2d):
            inside, outside = layer.in_channels, layer.out_channels
            if isinstance(layer.padding, str):
                raise TypeError(f"A convolution with padding {layer.padding!r} can't be changed.")
            shape = {"stride": layer.stride, "padding": layer.padding, "bias": False}
            self.down = nn.Conv2d(inside, rank, layer.kernel_size, **shape)
            self.up = nn.Conv2d(rank, outside, 1, bias=False)
        else:
            self.down = nn.Linear(layer.in_features, rank, bias=False)
            self.up = nn.Linear(rank, layer.out_features, bias=False)
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        nn.init.zeros_(self.up.weight)
        self.alpha, self.factor = alpha, alpha / rank
        layer.register_forward_hook(self._add)

    def _add(self, _layer: nn.Module, given: tuple[Tensor, ...], answer: Tensor) -> Tensor:
        changed: Tensor = answer + self.factor * self.up(self.down(given[0]))
        return changed


def attach(
    network: nn.Module, prefix: str, rank: int, alpha: float, *, convolutions: bool = True
) -> nn.ModuleDict:
    """An adapter on each of ``network``'s layers, by the name that kohya's scripts give it.

    The network's own weights stop learning.

    Args:
        prefix: ``lora_unet_``, or ``lora_te_text_model_`` for a text encoder.
        convolutions: whether those learn, too. New shapes need them; a style may do without.
    """
    network.requires_grad_(requires_grad=False)
    adapters = nn.ModuleDict()
    for name, layer in network.named_modules():
        wide = isinstance(layer, nn.Conv2d) and convolutions and layer.groups == 1
        if isinstance(layer, nn.Linear) or wide:
            # transformers 5 dropped the prefix that files have.
            flat = name.removeprefix("text_model.").replace(".", "_")
            adapters[prefix + flat] = Adapter(layer, rank, alpha)  # type: ignore[arg-type]
    return adapters


def file_tensors(adapters: nn.ModuleDict) -> dict[str, Tensor]:
    """The adapters' tensors in half precision, by kohya's names."""
    return dict(_tensors(adapters))


def _tensors(adapters: nn.ModuleDict) -> Iterator[tuple[str, Tensor]]:
    for name, adapter in adapters.items():
        if not isinstance(adapter, Adapter):
            raise TypeError(f"{name} is no adapter")
        for part in ("down", "up"):
            weight = getattr(adapter, part).weight.detach().half().contiguous().cpu()
            yield f"{name}.lora_{part}.weight", weight
        yield f"{name}.alpha", torch.tensor(adapter.alpha)


def write_file(
    path: Path, adapters: nn.ModuleDict, *, title: str, captions: Mapping[str, int]
) -> None:
    """Write a ``.safetensors`` file whose metadata tells its rank and what it was trained with.

    It is written beside ``path`` and renamed, so that no reader sees half of it.

    Args:
        captions: the words of the captions, with how often each was there.
    """
    first = next(iter(adapters.values()))
    if not isinstance(first, Adapter):
        raise TypeError("There is nothing to write: no layer has an adapter.")
    told = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(first.up.weight.shape[1]),
        "ss_network_alpha": f"{first.alpha:g}",
        "ss_output_name": title,
        "ss_tag_frequency": json.dumps({"pictures": dict(captions)}),
    }
    part = path.with_suffix(".part")
    save_file(file_tensors(adapters), part, metadata=told)
    part.replace(path)
