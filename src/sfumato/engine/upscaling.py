"""Enlarges pictures with an upscaler's network, tile by tile."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from sfumato.core.errors import NumericalError
from sfumato.engine.resampling import lanczos
from sfumato.engine.tiles import Tiling, tiled
from sfumato.engine.upscalers import Upscaler

#: In pixels that go in. What an ESRGAN makes of a pixel hardly depends on any more than eight away.
_TILE, _OVERLAP, _MARGIN = 256, 32, 8


@torch.inference_mode()
def upscale(
    pixels: Tensor,
    upscaler: Upscaler,
    scale: float,
    *,
    after: Callable[[int, int], None] | None = None,
) -> Tensor:
    """A picture ``scale`` times as wide and high.

    The network runs as often as it takes to get there; what it does beyond that is resampled down,
    before its last run where there are several, so that none is for nothing.

    Args:
        pixels: (3, h, w) in 0 … 1, on any device.
        scale: 1 to 8.
        after: told after each tile how many of how many are done; what it raises ends the work.

    Returns:
        float32 (3, round(h · scale), round(w · scale)) in 0 … 1 on the CPU.

    Raises:
        NumericalError: the network answered with numbers that are not finite.
    """
    height, width = (round(side * scale) for side in pixels.shape[1:])
    pixels = pixels.detach().float().cpu()
    sizes = _sizes(pixels.shape[1:], (height, width), upscaler.scale)
    total = sum(_tiling(upscaler).count(*_folded(size, upscaler.fold)) for size in sizes)
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        if after is not None:
            after(done, total)

    for high, wide in sizes:
        pixels = _enlarged(lanczos(pixels, wide, high), upscaler, count)
    return lanczos(pixels, width, height)


def _sizes(size: torch.Size, wanted: tuple[int, int], scale: int) -> list[tuple[int, int]]:
    """Heights and widths of what goes into each run; none where nothing has to be done."""
    now = (size[0], size[1])
    if scale > 1 and now == wanted:
        return []
    sizes = [now]
    enough = (math.ceil(wanted[0] / scale), math.ceil(wanted[1] / scale))
    while scale > 1 and (now[0] < enough[0] or now[1] < enough[1]):
        now = (min(now[0] * scale, enough[0]), min(now[1] * scale, enough[1]))
        sizes.append(now)
    return sizes


def _enlarged(pixels: Tensor, upscaler: Upscaler, count: Callable[[], None]) -> Tensor:
    """One run."""
    height, width = pixels.shape[1:]
    high, wide = _folded((height, width), upscaler.fold)
    padded = functional.pad(pixels[None], (0, wide - width, 0, high - height), mode="replicate")
    result = tiled(upscaler, padded, _tiling(upscaler), channels=3, after=count)[0]
    result = result[:, : height * upscaler.scale, : width * upscaler.scale]
    if not result.isfinite().all():
        raise NumericalError(
            f"The upscaler {upscaler.name!r} answered with numbers that are not finite. Another "
            "precision may help."
        )
    return result.clamp_(0, 1)


def _tiling(upscaler: Upscaler) -> Tiling:
    """Tiles begin where whole folds do, so that each pixel is folded as in the whole."""
    fold = upscaler.fold
    tile, overlap, margin = (-(-side // fold) for side in (_TILE, _OVERLAP, _MARGIN))
    return Tiling(tile, overlap, margin, shrink=fold, grow=fold * upscaler.scale)


def _folded(size: tuple[int, int], fold: int) -> tuple[int, int]:
    return size[0] + -size[0] % fold, size[1] + -size[1] % fold
