"""Fills holes in pictures with what is around them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def fill_around(picture: Tensor, hole: Tensor) -> Tensor:
    """Colours from around a hole, the more blurred the farther away: each level of a pyramid, half
    as large as the one before, averages what is known and lends it to what is not.

    A1111's ``fill`` lays copies blurred by 2 to 256 pixels over each other to the same end.

    Args:
        picture: float32 (3, h, w).
        hole: float32 (1, h, w): 1 is unknown, 0 known.
    """
    known = 1 - hole
    height, width = picture.shape[1:]
    if bool((known == 1).all()):
        return picture
    if max(height, width) == 1:
        # Nothing at all is known: grey.
        return torch.where(known > 0, picture, torch.full_like(picture, 0.5))
    edges = (0, width % 2, 0, height % 2)
    weighed = functional.pad(torch.cat([picture * known, known]), edges)
    sums = functional.avg_pool2d(weighed[None], 2)[0]
    weights = sums[3:]
    means = torch.where(weights > 0, sums[:3] / weights.clamp_min(1e-12), 0.5)
    # What is known to a quarter is known well enough to lend to others.
    coarse = fill_around(means, 1 - (weights * 4).clamp_max(1))
    around = functional.interpolate(
        coarse[None], size=(height + edges[3], width + edges[1]), mode="bilinear"
    )[0, :, :height, :width]
    return torch.lerp(around, picture, known)
