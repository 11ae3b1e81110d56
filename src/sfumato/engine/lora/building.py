"""One layer's change from the tensors that a file has for it, their shapes checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from torch import Tensor, nn

from sfumato.engine.lora.changes import (
    Change,
    Decomposed,
    Full,
    Hadamard,
    Kronecker,
    Layer,
    LowRank,
    Stretched,
    tucker,
)
from sfumato.engine.weights import Placement

Parts = Mapping[str, Tensor]
#: From a change's rank to the factor of its product, where the tensors do not say.
Factor = Callable[[int], float]

#: What a network's first convolution reads: latents alone, or with the mask and what is under it.
_LATENT_CHANNELS, _INPAINTING_CHANNELS = 4, 9


class Misshapen(Exception):
    """The change is for a layer of another shape; the message tells of which."""


class Unknown(Exception):
    """The change is of no known kind; the message goes on from "its change of this layer"."""


def build_change(layer: Layer, parts: Parts, factor: Factor, placement: Placement) -> Change:
    """The change that the parts are.

    Args:
        parts: by the names of :mod:`.names`.

    Raises:
        Misshapen, Unknown: see there.
    """
    kinds = {
        "down": _low_rank,
        "up": _low_rank,
        "hada_w1_a": _hadamard,
        "lokr_w1": _kronecker,
        "lokr_w1_a": _kronecker,
        "diff": _full,
        "diff_b": _full,
        "on_input": _stretched,
    }
    build = next((kinds[part] for part in kinds if part in parts), None)
    left = dict(parts)
    lengths = [left.pop(part, None) for part in ("dora_scale", "magnitude")]
    said = {part: _number(left.pop(part), part) for part in ("alpha", "scale") if part in left}
    if "scale" in said:
        factor = _constant(said["scale"])
    elif "alpha" in said:
        factor = _by_rank(said["alpha"])
    flat = [part for part, tensor in left.items() if tensor.ndim == 0 and part != "on_input"]
    if build is None or flat:
        raise Unknown(f"has {_listed(parts)}, which together are no change that is known")
    change = build(layer, left, factor, placement)
    if left:
        raise Unknown(f"has {_listed(left)} beside what it should have")
    for column_wise, found in zip((True, False), lengths, strict=True):
        if found is not None:
            change = _decomposed(layer, change, found, may_be_input=column_wise)
    return change


def words(shape: tuple[int, ...]) -> str:
    """A layer's shape for a person."""
    if len(shape) not in (2, 4):
        return f"the shape {shape}"
    kernel = f" and a kernel of {shape[2]}×{shape[3]}" if len(shape) == 4 else ""
    return f"{shape[1]} inputs, {shape[0]} outputs{kernel}"


def _low_rank(layer: Layer, parts: dict[str, Tensor], factor: Factor, to: Placement) -> Change:
    down, up = _widened(layer, _taken(parts, "down")), _taken(parts, "up")
    mid = parts.pop("mid", None)
    ranks = [down.shape[0], up.shape[1], *(mid.shape[:2] if mid is not None else ())]
    if len({*ranks}) > 1 or not ranks[0] or (mid is not None and mid.ndim != 4):
        raise Unknown(f"has factors that do not fit each other: {_shapes(down, up, mid)}")
    kernel = (down if mid is None else mid).shape[2:]
    _check(layer, (up.shape[0], down.shape[1], *kernel))
    if mid is not None and tuple(down.shape[2:]) not in ((), (1, 1)):
        raise Unknown(f"has factors that do not fit each other: {_shapes(down, up, mid)}")
    if tuple(up.shape[2:]) not in ((), (1, 1)):
        raise Unknown(f"has factors that do not fit each other: {_shapes(down, up)}")
    return LowRank(
        _placed(_like(layer, down), to),
        _placed(_like(layer, up), to),
        None if mid is None else _placed(mid, to),
        factor(ranks[0]),
    )


def _hadamard(layer: Layer, parts: dict[str, Tensor], factor: Factor, to: Placement) -> Change:
    first = _taken(parts, "hada_w1_a"), _taken(parts, "hada_w1_b")
    second = _taken(parts, "hada_w2_a"), _taken(parts, "hada_w2_b")
    cores = None
    if "hada_t1" in parts:
        cores = _taken(parts, "hada_t1", 4), _taken(parts, "hada_t2", 4)
    found: tuple[int, ...]
    for n, (left, right) in enumerate((first, second)):
        if cores is None:
            fits, found = left.shape[1] == right.shape[0], (left.shape[0], right.shape[1])
            wanted: tuple[int, ...] = (layer.shape[0], math.prod(layer.shape[1:]))
        else:
            fits = tuple(cores[n].shape[:2]) == (left.shape[0], right.shape[0])
            found = (left.shape[1], right.shape[1], *cores[n].shape[2:])
            wanted = layer.shape
        if not fits:
            raise Unknown(f"has factors that do not fit each other: {_shapes(left, right)}")
        if found != wanted:
            raise Misshapen(words(found))
    return Hadamard(
        (_placed(first[0], to), _placed(first[1], to)),
        (_placed(second[0], to), _placed(second[1], to)),
        None if cores is None else (_placed(cores[0], to), _placed(cores[1], to)),
        factor(first[1].shape[0]),
    )


def _kronecker(layer: Layer, parts: dict[str, Tensor], factor: Factor, to: Placement) -> Change:
    ranks = [parts[part].shape[0] for part in ("lokr_w2_b", "lokr_w1_b") if part in parts]
    outer, inner = _factor(layer, parts, "lokr_w1"), _factor(layer, parts, "lokr_w2")
    if outer.ndim != 2 or inner.ndim not in (2, 4):
        raise Unknown(f"has factors that do not fit each other: {_shapes(outer, inner)}")
    area = math.prod(layer.shape[2:])
    if layer.geometry is not None and inner.ndim == 2:
        if inner.shape[1] % area:
            raise Misshapen(words((outer.shape[0] * inner.shape[0], inner.shape[1])))
        inner = inner.reshape(inner.shape[0], inner.shape[1] // area, *layer.shape[2:])
    sides = (outer.shape[0] * inner.shape[0], outer.shape[1] * inner.shape[1])
    _check(layer, (*sides, *inner.shape[2:]))
    return Kronecker(
        _placed(outer, to),
        _placed(_like(layer, inner), to),
        factor(ranks[0]) if ranks else 1.0,
    )


def _factor(layer: Layer, parts: dict[str, Tensor], name: str) -> Tensor:
    """One of LoKr's two factors, which may itself be a product."""
    if name in parts:
        return parts.pop(name)
    left, right = _taken(parts, f"{name}_a").float(), _taken(parts, f"{name}_b").float()
    core = parts.pop("lokr_t2", None) if name == "lokr_w2" else None
    if core is None:
        fits, found = left.shape[1] == right.shape[0], (left.shape[0], right.shape[1])
    else:
        fits = core.ndim == 4 and tuple(core.shape[:2]) == (left.shape[0], right.shape[0])
        found = (left.shape[1], right.shape[1] * math.prod(core.shape[2:]))
    if not fits:
        raise Unknown(f"has factors that do not fit each other: {_shapes(core, left, right)}")
    # Before it is computed: of small factors a product may be larger than all memory.
    if found[0] > layer.shape[0] or found[1] > math.prod(layer.shape[1:]):
        raise Misshapen(words(found))
    return left @ right if core is None else tucker(core.float(), left, right)


def _full(layer: Layer, parts: dict[str, Tensor], _factor: Factor, to: Placement) -> Change:
    difference, bias = parts.pop("diff", None), parts.pop("diff_b", None)
    if difference is not None:
        difference = _widened(layer, difference)
        _check(layer, tuple(difference.shape))
        difference = _placed(_like(layer, difference), to)
    if bias is not None:
        if tuple(bias.shape) != layer.shape[:1]:
            raise Misshapen(f"{bias.numel()} outputs")
        bias = _placed(bias, to)
    return Full(difference, bias)


def _stretched(layer: Layer, parts: dict[str, Tensor], _factor: Factor, to: Placement) -> Change:
    on_input = bool(_number(parts.pop("on_input"), "on_input"))
    factors = parts.pop("weight", None)
    if factors is None:
        raise Unknown("lacks 'weight'")
    if factors.numel() != layer.shape[int(on_input)]:
        raise Misshapen(f"{factors.numel()} {'inputs' if on_input else 'outputs'}")
    return Stretched(_placed(factors.flatten(), to), on_input)


def _decomposed(layer: Layer, change: Change, lengths: Tensor, *, may_be_input: bool) -> Change:
    """``may_be_input``: LyCORIS has one for each input or each output, peft for each output."""
    outs, ins = layer.shape[:2]
    on_input = may_be_input and lengths.shape[:1] == (1,) and outs != 1
    if lengths.numel() != (ins if on_input else outs):
        raise Misshapen(f"{lengths.numel()} {'inputs' if on_input else 'outputs'}")
    return Decomposed.of(change, lengths.flatten(), layer, on_input=on_input)


def _taken(parts: dict[str, Tensor], name: str, ndim: int | None = None) -> Tensor:
    """A part of 2 or 4 dimensions, or of exactly so many."""
    tensor = parts.pop(name, None)
    if tensor is None:
        raise Unknown(f"lacks {name!r}")
    if tensor.ndim not in ((2, 4) if ndim is None else (ndim,)):
        raise Unknown(f"has {name!r} of shape {tuple(tensor.shape)}")
    return tensor


def _widened(layer: Layer, tensor: Tensor) -> Tensor:
    """With zeros for the channels that a network for inpainting takes beside the latents, where
    the LoRA's did not."""
    if (*tensor.shape[1:2], *layer.shape[1:2]) != (_LATENT_CHANNELS, _INPAINTING_CHANNELS):
        return tensor
    beyond = [0] * (2 * tensor.ndim - 3) + [_INPAINTING_CHANNELS - _LATENT_CHANNELS]
    return nn.functional.pad(tensor, beyond)


def _check(layer: Layer, found: tuple[int, ...]) -> None:
    """A kernel of 1×1 is as good as none."""
    plain = [shape if shape[2:] != (1, 1) else shape[:2] for shape in (found, layer.shape)]
    if plain[0] != plain[1]:
        raise Misshapen(words(found))


def _like(layer: Layer, tensor: Tensor) -> Tensor:
    """With as many dimensions as the layer's weight; what is added or dropped is 1."""
    if layer.geometry is None:
        return tensor.flatten(1)
    return tensor[..., None, None] if tensor.ndim == 2 else tensor


def _placed(tensor: Tensor, to: Placement) -> Tensor:
    """A copy: what is read of a file is the file itself, which others may write to."""
    return tensor.to(to.device, to.dtype, copy=True).contiguous()


def _number(tensor: Tensor, name: str) -> float:
    number = float(tensor.flatten()[0]) if tensor.numel() == 1 else math.nan
    if not math.isfinite(number):
        raise Unknown(f"has {name!r}, which is not a number")
    return number


def _constant(number: float) -> Factor:
    return lambda _rank: number


def _by_rank(alpha: float) -> Factor:
    return lambda rank: alpha / rank


def _listed(parts: Parts) -> str:
    return ", ".join(map(repr, sorted(parts)))


def _shapes(*tensors: Tensor | None) -> str:
    return ", ".join(str(tuple(tensor.shape)) for tensor in tensors if tensor is not None)
