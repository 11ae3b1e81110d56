"""Runs a network over a large picture tile by tile.

Tiles overlap. At each inner edge the outermost ``margin`` of a tile, where the network missed what
lies beyond, is thrown away, and the rest of the overlap is a ramp from one tile to the next. A
network whose receptive field is no larger than the margin answers as for the whole at once, to
rounding. One that looks at everything, as a VAE's norms and attention do, only comes close.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.engine.memory import total

#: In latent cells: of 8 pixels each, 512 pixels, of which neighbours share a quarter. Smaller tiles
#: would shift colours more, since the VAE's norms see one tile at a time.
_VAE_TILE, _VAE_OVERLAP = 64, 16
#: Of the device's memory, what the whole may take.
_VAE_SHARE = 1 / 3
#: What a decoder holds for each pixel at its peak, in half precision: six tensors of 256 channels.
_BYTES_PER_PIXEL = 6 * 256 * 2

#: (n, channels, h, w) to (n, channels', h', w').
Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Tiling:
    """How to cut, in cells: the pixels, or latent pixels, of the smaller of the network's sides.

    Attributes:
        tile: side of a tile; of the whole where that is shorter.
        overlap: of neighbours, at least; below ``tile``.
        margin: of the overlap, what each throws away; less than half of it.
        shrink, grow: pixels a cell of what goes in, and of what comes out.
    """

    tile: int
    overlap: int
    margin: int = 0
    shrink: int = 1
    grow: int = 1

    def __post_init__(self) -> None:
        if not 0 <= 2 * self.margin < self.overlap < self.tile:
            raise ValueError(f"{self}: 2 * margin < overlap < tile must hold")

    def count(self, height: int, width: int) -> int:
        """Tiles of a picture of so many pixels that goes in."""
        return math.prod(len(self._starts(side // self.shrink)) for side in (height, width))

    def spans(self, length: int, device: torch.device) -> list[tuple[int, int, Tensor]]:
        """Begin, end and weights, by the pixel that comes out, of the tiles along a side of so many
        cells. The weights of all tiles add up to 1 everywhere."""
        tile, starts = min(self.tile, length), self._starts(length)
        ramp = (self.overlap - 2 * self.margin) * self.grow
        rising = torch.cat(
            [torch.zeros(self.margin * self.grow), torch.arange(1, ramp + 1) / (ramp + 1)]
        )
        weights, sums = [], torch.zeros(length * self.grow)
        for start in starts:
            weight = torch.ones(tile * self.grow)
            if start > 0:
                weight[: len(rising)] = rising
            if start + tile < length:
                weight[-len(rising) :] *= rising.flip(0)
            weights.append(weight)
            sums[start * self.grow : (start + tile) * self.grow] += weight
        return [
            (
                start,
                start + tile,
                (weight / sums[start * self.grow : (start + tile) * self.grow]).to(device),
            )
            for start, weight in zip(starts, weights, strict=True)
        ]

    def _starts(self, length: int) -> list[int]:
        if length <= self.tile:
            return [0]
        count = math.ceil((length - self.overlap) / (self.tile - self.overlap))
        return [round(n * (length - self.tile) / (count - 1)) for n in range(count)]


def tiled(
    network: Network,
    given: Tensor,
    tiling: Tiling,
    *,
    channels: int,
    after: Callable[[], None] | None = None,
) -> Tensor:
    """What ``network`` makes of ``given`` (n, channels, h, w), tile by tile: float32, where
    ``given`` lies.

    Args:
        channels: of what comes out.
        after: called after each tile; what it raises ends the work.
    """
    height, width = (side // tiling.shrink for side in given.shape[2:])
    grown = (given.shape[0], channels, height * tiling.grow, width * tiling.grow)
    result = torch.zeros(grown, device=given.device)
    down, across = (tiling.spans(side, given.device) for side in (height, width))
    for top, bottom, by_row in down:
        for left, right, by_column in across:
            rows = slice(top * tiling.shrink, bottom * tiling.shrink)
            columns = slice(left * tiling.shrink, right * tiling.shrink)
            tile = network(given[:, :, rows, columns]).to(result)
            rows = slice(top * tiling.grow, bottom * tiling.grow)
            columns = slice(left * tiling.grow, right * tiling.grow)
            result[:, :, rows, columns] += tile * (by_row[:, None] * by_column)
            if after is not None:
                after()
    return result


def in_vae(
    network: Network,
    given: Tensor,
    *,
    channels: int,
    shrink: int = 1,
    grow: int = 1,
    dtype: torch.dtype,
) -> Tensor:
    """A VAE's encoder or decoder over the whole, or over tiles where that would take more than a
    third of the device's memory.

    How large a picture is and how much memory there is decide, not how much is free: so a picture
    does not depend on what else is drawn. Where memory lacks all the same, one alone is cut too.

    Args:
        shrink, grow: pixels a cell of what goes in, and of what comes out.
        dtype: that the VAE computes in.
    """
    pixels = given.shape[2] * given.shape[3] * grow**2
    need = pixels * _BYTES_PER_PIXEL * dtype.itemsize // 2
    has = total(given.device)
    tiling = Tiling(_VAE_TILE, _VAE_OVERLAP, shrink=shrink, grow=grow)
    many = tiling.count(*given.shape[2:]) > 1
    if not many or has is None or need <= has * _VAE_SHARE:
        try:
            return network(given)
        except torch.OutOfMemoryError:
            if given.shape[0] > 1 or not many:
                raise
    return torch.cat(
        [tiled(network, one, tiling, channels=channels) for one in given.chunk(len(given))]
    )
