"""Small random upscalers, as files of any spelling, and what they compute, written anew from the
papers' published code as plain convolutions."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from sfumato.core.models import ModelInfo, ModelKind, ModelLayout

State = dict[str, Tensor]
WIDTH, GROWTH, BLOCKS = 8, 4, 2


def make_rrdb(doublings: int = 2, fold: int = 1) -> State:
    """Random weights under the names of ESRGAN's first release."""
    generator = torch.Generator().manual_seed(3)
    state: State = {}

    def add(name: str, given: int, made: int) -> None:
        weight = torch.randn(made, given, 3, 3, generator=generator)
        state[f"{name}.weight"] = weight * (0.7 / (9 * given) ** 0.5)
        state[f"{name}.bias"] = torch.randn(made, generator=generator) * 0.05

    add("model.0", 3 * fold**2, WIDTH)
    for block in range(BLOCKS):
        for dense in (1, 2, 3):
            for n in range(5):
                name = f"model.1.sub.{block}.RDB{dense}.conv{n + 1}.0"
                add(name, WIDTH + n * GROWTH, WIDTH if n == 4 else GROWTH)
    add(f"model.1.sub.{BLOCKS}", WIDTH, WIDTH)
    for n in range(1, doublings + 1):
        add(f"model.{3 * n}", WIDTH, WIDTH)
    add(f"model.{3 * doublings + 2}", WIDTH, WIDTH)
    add(f"model.{3 * doublings + 4}", WIDTH, 3)
    return state


def run_rrdb(state: State, pixels: Tensor, doublings: int = 2, fold: int = 1) -> Tensor:
    def conv(name: str, given: Tensor) -> Tensor:
        return functional.conv2d(given, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)

    def leaky(given: Tensor) -> Tensor:
        return torch.where(given > 0, given, given * 0.2)

    first = conv("model.0", functional.pixel_unshuffle(pixels, fold))
    deep = first
    for block in range(BLOCKS):
        before_block = deep
        for dense in (1, 2, 3):
            seen = [deep]
            for n in range(1, 5):
                name = f"model.1.sub.{block}.RDB{dense}.conv{n}.0"
                seen.append(leaky(conv(name, torch.cat(seen, 1))))
            last = conv(f"model.1.sub.{block}.RDB{dense}.conv5.0", torch.cat(seen, 1))
            deep = deep + 0.2 * last
        deep = before_block + 0.2 * deep
    deep = first + conv(f"model.1.sub.{BLOCKS}", deep)
    for n in range(1, doublings + 1):
        deep = leaky(conv(f"model.{3 * n}", deep.repeat_interleave(2, 2).repeat_interleave(2, 3)))
    return conv(f"model.{3 * doublings + 4}", leaky(conv(f"model.{3 * doublings + 2}", deep)))


def respelled(state: State, spelling: str) -> State:
    """The same under the names of BSRGAN (``trunk``) or Real-ESRGAN (``body``)."""
    if spelling == "first":
        return state
    trunk = spelling == "trunk"
    ends = sorted(
        {int(found[1]) for name in state if (found := re.match(r"model\.(\d+)\.[wb]", name))}
    )
    _, *ups, hr, last = ends
    names = {
        f"model.{place}": f"{'upconv' if trunk else 'conv_up'}{n + 1}"
        for n, place in enumerate(ups)
    }
    names |= {
        "model.0": "conv_first",
        f"model.1.sub.{BLOCKS}": "trunk_conv" if trunk else "conv_body",
        f"model.{hr}": "HRconv" if trunk else "conv_hr",
        f"model.{last}": "conv_last",
    }
    inner = r"RRDB_trunk.\1.RDB\2.conv\3" if trunk else r"body.\1.rdb\2.conv\3"

    def new(name: str) -> str:
        stem, kind = name.rsplit(".", 1)
        stem = names.get(stem) or re.sub(r"model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0", inner, stem)
        return f"{stem}.{kind}"

    return {new(name): tensor for name, tensor in state.items()}


def make_compact(scale: int = 4, layers: int = 3) -> State:
    generator = torch.Generator().manual_seed(4)
    state: State = {}
    for n in range(layers + 1):
        given, made = 3 if n == 0 else WIDTH, 3 * scale**2 if n == layers else WIDTH
        weight = torch.randn(made, given, 3, 3, generator=generator)
        state[f"body.{2 * n}.weight"] = weight * (0.5 / (9 * given) ** 0.5)
        state[f"body.{2 * n}.bias"] = torch.randn(made, generator=generator) * 0.05
        if n < layers:
            state[f"body.{2 * n + 1}.weight"] = torch.rand(WIDTH, generator=generator)
    return state


def run_compact(state: State, pixels: Tensor, scale: int = 4, layers: int = 3) -> Tensor:
    made = pixels
    for n in range(layers + 1):
        weight, bias = state[f"body.{2 * n}.weight"], state[f"body.{2 * n}.bias"]
        made = functional.conv2d(made, weight, bias, padding=1)
        if n < layers:
            slope = state[f"body.{2 * n + 1}.weight"].reshape(1, -1, 1, 1)
            made = torch.where(made > 0, made, made * slope)
    rows, columns = pixels.shape[2:]
    shuffled = made.reshape(-1, 3, scale, scale, rows, columns).permute(0, 1, 4, 2, 5, 3)
    nearest = pixels.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    return shuffled.reshape(-1, 3, rows * scale, columns * scale) + nearest


def write_upscaler(folder: Path, state: State, name: str = "tiny") -> ModelInfo:
    path = folder / f"{name}.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, path)
    return ModelInfo(name, "", ModelLayout.CHECKPOINT, str(path), kind=ModelKind.UPSCALER)
