"""The networks of ESRGAN and Real-ESRGAN.

https://arxiv.org/abs/1809.00219, https://arxiv.org/abs/2107.10833.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Red, green, blue.
COLOURS = 3


class RRDBNet(nn.Module):
    """Residual dense blocks inside residual blocks, then a doubling for each ``doublings``.

    ``fold`` > 1: so many pixels a side go in as channels of one.
    """

    def __init__(self, *, width: int, growth: int, blocks: int, doublings: int, fold: int) -> None:
        super().__init__()
        self.fold = fold
        self.conv_first = _conv(COLOURS * fold**2, width)
        self.body = nn.Sequential(*(_Block(width, growth) for _ in range(blocks)))
        self.conv_body = _conv(width, width)
        self.conv_up = nn.ModuleList(_conv(width, width) for _ in range(doublings))
        self.conv_hr = _conv(width, width)
        self.conv_last = _conv(width, COLOURS)

    def forward(self, pixels: Tensor) -> Tensor:
        first = self.conv_first(functional.pixel_unshuffle(pixels, self.fold))
        deep = first + self.conv_body(self.body(first))
        for conv in self.conv_up:
            deep = _leaky(conv(functional.interpolate(deep, scale_factor=2, mode="nearest")))
        return self.conv_last(_leaky(self.conv_hr(deep)))  # type: ignore[no-any-return]


class _Block(nn.Module):
    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.rdb1 = _Dense(width, growth)
        self.rdb2 = _Dense(width, growth)
        self.rdb3 = _Dense(width, growth)

    def forward(self, given: Tensor) -> Tensor:
        return given + 0.2 * self.rdb3(self.rdb2(self.rdb1(given)))  # type: ignore[no-any-return]


class _Dense(nn.Module):
    """Five convolutions, each of which sees what all before it made."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.conv1 = _conv(width, growth)
        self.conv2 = _conv(width + growth, growth)
        self.conv3 = _conv(width + 2 * growth, growth)
        self.conv4 = _conv(width + 3 * growth, growth)
        self.conv5 = _conv(width + 4 * growth, width)

    def forward(self, given: Tensor) -> Tensor:
        seen = given
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            seen = torch.cat([seen, _leaky(conv(seen))], dim=1)
        return given + 0.2 * self.conv5(seen)  # type: ignore[no-any-return]


class Compact(nn.Module):
    """SRVGGNetCompact: plain convolutions; what they add to the pixels, repeated, is shuffled out
    at the end."""

    def __init__(self, *, width: int, layers: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        inner: list[nn.Module] = []
        for n in range(layers):
            inner += [_conv(width if n else COLOURS, width), nn.PReLU(width)]
        self.body = nn.Sequential(*inner, _conv(width, COLOURS * scale**2))

    def forward(self, pixels: Tensor) -> Tensor:
        nearest = functional.interpolate(pixels, scale_factor=self.scale, mode="nearest")
        return functional.pixel_shuffle(self.body(pixels), self.scale) + nearest


def _leaky(given: Tensor) -> Tensor:
    return functional.leaky_relu(given, 0.2)


def _conv(channels: int, to: int) -> nn.Conv2d:
    return nn.Conv2d(channels, to, 3, padding=1)
