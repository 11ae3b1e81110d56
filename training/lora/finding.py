"""Whether a drawing is in a picture: normalised cross-correlation, no network and no training."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

#: Pictures and drawing are compared at this side: what is left is shape and colour, not edges.
SIDE = 48
#: Heights of the drawing that are tried, as shares of the picture's.
HEIGHTS = (0.56, 0.62, 0.68, 0.74)
#: Correlation from which on the drawing counts as found: midway between 0.83, the least of 60
#: renders with the example's beacon, and 0.45, the most of 60 without.
FOUND = 0.64


class Template:
    """A drawing with transparency, looked for at every place and some sizes."""

    def __init__(self, drawing: Image.Image) -> None:
        self._kernels = [_kernel(drawing, round(height * SIDE)) for height in HEIGHTS]

    def scores(self, pixels: NDArray[np.uint8]) -> Tensor:
        """(n, side, side, 3) bytes to (n,): the best correlation, -1 to 1, of each picture."""
        images = torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).float() / 255
        images = F.interpolate(images, (SIDE, SIDE), mode="area")
        best = [_correlation(images, *kernel).amax(dim=(1, 2, 3)) for kernel in self._kernels]
        return torch.stack(best).amax(dim=0)

    def share(self, pixels: NDArray[np.uint8]) -> float:
        """The share of the pictures in which the drawing is found."""
        return round((self.scores(pixels) >= FOUND).float().mean().item(), 3)


def _kernel(drawing: Image.Image, height: int) -> tuple[Tensor, Tensor]:
    """The drawing less its mean, and where it is drawn: (1, 3, h, w) each."""
    width = round(height * drawing.width / drawing.height)
    scaled = np.asarray(drawing.resize((width, height), Image.Resampling.BOX), dtype=np.float32)
    values = torch.from_numpy(scaled / 255).permute(2, 0, 1)[None]
    mask = values[:, 3:].expand(-1, 3, -1, -1)
    mean = (values[:, :3] * mask).sum() / mask.sum()
    return (values[:, :3] - mean) * mask, mask


def _correlation(images: Tensor, kernel: Tensor, mask: Tensor) -> Tensor:
    """Pearson's, over the drawing's own pixels and channels, at every place."""
    weight = mask.sum()
    total, squares = F.conv2d(images, mask), F.conv2d(images.square(), mask)
    spread = (squares - total.square() / weight).clamp(min=1e-4).sqrt()
    return F.conv2d(images, kernel) / (
        spread * (kernel.square() / mask.clamp(min=1e-4)).sum().sqrt()
    )
