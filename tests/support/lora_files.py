"""Small LoRA files of every kind, and what each adds to a weight by the formula of its paper."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sfumato.core.models import ModelInfo, ModelKind, ModelLayout

RANK = 3
#: Alpha of a file, so that products count by alpha / rank.
ALPHA = 2.0
Shape = tuple[int, ...]
#: From a layer's weight to the tensors of its change, and the changed weight.
Maker = Callable[[Tensor], tuple[dict[str, Tensor], Tensor]]


def lora(weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    outs, ins, *kernel = weight.shape
    down = _random(RANK, ins, *kernel)
    up = _random(outs, RANK, *[1] * len(kernel))
    changed = (up.flatten(1) @ down.flatten(1)).view(weight.shape)
    parts = {"lora_down.weight": down, "lora_up.weight": up, "alpha": torch.tensor(ALPHA)}
    return parts, weight + ALPHA / RANK * changed


def lora_with_mid(weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    outs, ins, *kernel = weight.shape
    down, mid, up = (
        _random(RANK, ins, 1, 1),
        _random(RANK, RANK, *kernel),
        _random(outs, RANK, 1, 1),
    )
    changed = torch.einsum("or,rskl,si->oikl", up[..., 0, 0], mid, down[..., 0, 0])
    parts = {"lora_down.weight": down, "lora_mid.weight": mid, "lora_up.weight": up}
    return {**parts, "alpha": torch.tensor(ALPHA)}, weight + ALPHA / RANK * changed


def loha(weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    outs, ins = weight.flatten(1).shape
    factors = {f"hada_w{n}_a": _random(outs, RANK) for n in (1, 2)}
    factors |= {f"hada_w{n}_b": _random(RANK, ins) for n in (1, 2)}
    first, second = (factors[f"hada_w{n}_a"] @ factors[f"hada_w{n}_b"] for n in (1, 2))
    changed = (first * second).view(weight.shape)
    return {**factors, "alpha": torch.tensor(ALPHA)}, weight + ALPHA / RANK * changed


def loha_tucker(weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    outs, ins, *kernel = weight.shape
    parts, products = {}, []
    for n in (1, 2):
        core, left, right = _random(RANK, RANK, *kernel), _random(RANK, outs), _random(RANK, ins)
        parts |= {f"hada_t{n}": core, f"hada_w{n}_a": left, f"hada_w{n}_b": right}
        products.append(torch.einsum("ijkl,ip,jr->prkl", core, left, right))
    changed = products[0] * products[1]
    return {**parts, "alpha": torch.tensor(ALPHA)}, weight + ALPHA / RANK * changed


def lokr(weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    outs, ins, *kernel = weight.shape
    outer, inner = _random(2, 2), _random(outs // 2, ins // 2, *kernel)
    changed = torch.kron(outer.view(2, 2, *[1] * len(kernel)), inner)
    return {"lokr_w1": outer, "lokr_w2": inner, "alpha": torch.tensor(ALPHA)}, weight + changed


def lokr_factored(weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    outs, ins, *kernel = weight.shape
    first = _random(2, RANK), _random(RANK, 2)
    second = (
        _random(outs // 2, RANK),
        _random(RANK, ins // 2 * kernel[0] ** 2 if kernel else ins // 2),
    )
    inner = (second[0] @ second[1]).view(outs // 2, ins // 2, *kernel)
    changed = torch.kron((first[0] @ first[1]).view(2, 2, *[1] * len(kernel)), inner)
    parts = {"lokr_w1_a": first[0], "lokr_w1_b": first[1]}
    parts |= {"lokr_w2_a": second[0], "lokr_w2_b": second[1], "alpha": torch.tensor(ALPHA)}
    return parts, weight + ALPHA / RANK * changed


def full(weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    difference = _random(*weight.shape)
    return {"diff": difference}, weight + difference


def ia3_inputs(weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    factors = _random(weight.shape[1])
    along = factors.view(1, -1, *[1] * (weight.ndim - 2))
    return {"weight": factors, "on_input": torch.tensor([True])}, weight + weight * along


def ia3_outputs(weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    factors = _random(weight.shape[0])
    along = factors.view(-1, 1, *[1] * (weight.ndim - 2))
    return {"weight": factors, "on_input": torch.tensor([False])}, weight + weight * along


def dora_outputs(weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    parts, merged = lora(weight)
    lengths = _random(weight.shape[0]).abs().view(-1, *[1] * (weight.ndim - 1))
    norms = merged.flatten(1).norm(dim=1).view(lengths.shape)
    return {**parts, "dora_scale": lengths}, merged * lengths / norms


def dora_inputs(weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    parts, merged = lora(weight)
    lengths = _random(weight.shape[1]).abs().view(1, -1, *[1] * (weight.ndim - 2))
    norms = merged.transpose(0, 1).flatten(1).norm(dim=1).view(lengths.shape)
    return {**parts, "dora_scale": lengths}, merged * lengths / norms


LINEAR: tuple[Maker, ...] = (
    *(lora, loha, lokr, lokr_factored, full),
    *(ia3_inputs, ia3_outputs, dora_outputs, dora_inputs),
)
CONVOLUTION: tuple[Maker, ...] = (*LINEAR, lora_with_mid, loha_tucker)


def file_for(
    path: Path,
    layers: Mapping[str, nn.Module],
    maker: Maker = lora,
    *,
    family: str = "",
    seed: int = 0,
) -> tuple[ModelInfo, dict[str, Tensor]]:
    """Write a file with a change of each layer, and tell the changed weights.

    Args:
        layers: by the names that the file has for them.
    """
    torch.manual_seed(seed)
    tensors, merged = {}, {}
    for name, layer in layers.items():
        parts, merged[name] = maker(layer.weight.detach())
        tensors |= {f"{name}.{part}": tensor for part, tensor in parts.items()}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return lora_info(path, family), merged


def lora_info(path: Path, family: str = "") -> ModelInfo:
    return ModelInfo(path.stem, family, ModelLayout.CHECKPOINT, str(path), kind=ModelKind.LORA)


def _random(*shape: int) -> Tensor:
    return torch.randn(*shape) * 0.3
