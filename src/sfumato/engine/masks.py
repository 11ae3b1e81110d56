"""Masks in the latents: what is redrawn, what is kept, and what a network for inpainting sees."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from sfumato.engine.samplers import Mixture


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """What a slot keeps of its picture, put back at the end of every step.

    A step of several evaluations is not disturbed between them.

    Attributes:
        picture: float32 (channels, height, width), finished latents.
        noise: the same, what they are mixed with on the way; that of the beginning.
        mask: bool (1, height, width): True is redrawn.
    """

    picture: Tensor
    noise: Tensor
    mask: Tensor

    def put_back(self, latents: Tensor, reached: Mixture) -> None:
        """Overwrite what is kept of latents that are as noisy as ``reached`` says.

        A slot's own tensors alone are used, so that neighbours don't change a bit.
        """
        known = reached.signal * self.picture + reached.noise * self.noise
        torch.where(self.mask, latents, known, out=latents)


def hard(mask: Tensor) -> Tensor:
    """A mask of 0 … 1 as 0 and 1: from half of its greatest value on."""
    return (mask >= mask.max().clamp_min(1e-6) / 2).float()


def latent_mask(mask: Tensor, scale: int) -> Tensor:
    """Which latent cells are redrawn: those below any pixel that is.

    Args:
        mask: float32 (1, height, width), 0 and 1.
        scale: pixels a side of a latent cell.

    Returns:
        float32 (1, h, w), 0 and 1.
    """
    return functional.max_pool2d(mask[None], scale, ceil_mode=True)[0]


def seen_through(picture: Tensor, mask: Tensor) -> Tensor:
    """What a network for inpainting is shown: the picture, grey where it is redrawn.

    Args:
        picture: float32 (3, height, width) in 0 … 1.
        mask: float32 (1, height, width), 0 and 1.
    """
    return torch.where(mask > 0, 0.5, picture)
