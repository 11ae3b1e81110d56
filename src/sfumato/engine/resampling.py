"""Between tensors of pixels and Pillow, and from one size to another."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def to_tensor(image: Image.Image) -> Tensor:
    """A picture of 8 bits a channel as float32 (channels, height, width) in 0 … 1."""
    values = np.array(image)
    if values.ndim == 2:
        values = values[:, :, None]
    return torch.from_numpy(values).permute(2, 0, 1).float().div_(255)


def lanczos(
    pixels: Tensor, width: int, height: int, box: tuple[float, float, float, float] | None = None
) -> Tensor:
    """Pixels (channels, h, w) in 0 … 1 at another size; on the CPU, in float32.

    Args:
        box: left, top, right and bottom of the part to take; None: all.
    """
    pixels = pixels.detach().float().cpu()
    if box is None and pixels.shape[1:] == (height, width):
        return pixels
    channels = [
        np.asarray(
            Image.fromarray(channel.numpy()).resize(
                (width, height), Image.Resampling.LANCZOS, box=box
            )
        )
        for channel in pixels
    ]
    return torch.from_numpy(np.stack(channels)).clamp_(0, 1)


def cover(pixels: Tensor, width: int, height: int) -> Tensor:
    """As :func:`lanczos`, proportions kept: what sticks out is cut off on both sides alike."""
    high, wide = pixels.shape[1:]
    scale = min(wide / width, high / height)
    if (round(width * scale), round(height * scale)) == (wide, high):
        return lanczos(pixels, width, height)
    left, top = (wide - width * scale) / 2, (high - height * scale) / 2
    return lanczos(pixels, width, height, (left, top, wide - left, high - top))
