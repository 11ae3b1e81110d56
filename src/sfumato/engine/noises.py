"""Where a picture's noise comes from."""

from __future__ import annotations

import torch
from torch import Tensor

from sfumato.core.ports import ImageTask

#: Above this cosine two noises count as one, and lie on a line rather than on a circle.
_SAME = 0.9995


def noise_source(seed: int) -> torch.Generator:
    """A CPU generator, so that neither device nor batch neighbours change the noise.

    Takes every seed of 64 bits, but torch's CPU generator tells apart only their low 32 bits:
    seeds that differ by a multiple of 2**32 draw the same noise, here as in diffusers.
    """
    return torch.Generator("cpu").manual_seed(seed)


def draw(shape: tuple[int, ...], generator: torch.Generator, device: torch.device) -> Tensor:
    """Unit noise in float32."""
    return torch.randn(shape, generator=generator).to(device)


def first_noise(
    task: ImageTask, shape: tuple[int, ...], generator: torch.Generator, device: torch.device
) -> Tensor:
    """The noise that a picture begins with, its variation's on the way to that of another seed."""
    noise = torch.randn(shape, generator=generator)
    variation = task.request.variation
    if variation is not None and variation.strength > 0:
        other = noise_source((variation.seed + task.index) % 2**64)
        noise = slerp(noise, torch.randn(shape, generator=other), variation.strength)
    return noise.to(device)


def slerp(low: Tensor, high: Tensor, part: float) -> Tensor:
    """Along the circle from one noise to another, so that what lies between is as strong.

    A1111's formula, which takes the columns of a channel for the vectors.

    Args:
        low, high: float32 (channels, height, width).
        part: 0, all of ``low``, to 1, all of ``high``.
    """
    cosine = (low * high).sum(1) / (low.norm(dim=1) * high.norm(dim=1))
    if cosine.mean() > _SAME:
        return torch.lerp(low, high, part)
    angle = torch.acos(cosine)
    of_low = torch.sin((1 - part) * angle) / torch.sin(angle)
    of_high = torch.sin(part * angle) / torch.sin(angle)
    return of_low.unsqueeze(1) * low + of_high.unsqueeze(1) * high
