"""A rough look at a slot under way: a linear map from latents to colours, no VAE."""

from __future__ import annotations

import base64
import io

import torch
from PIL import Image
from torch import Tensor

from sfumato.engine.families.vaes import Vae
from sfumato.engine.images import to_image

_LONGEST_SIDE, _MOSAIC_SIDE = 96, 8
_QUALITY = 70
#: The fit decodes so many smooth latents of so many cells a side.
_SAMPLES, _CELLS, _PATCHES = 4, 8, 4


def fit_colours(vae: Vae) -> Tensor:
    """Least-squares map from latents to red, green and blue, of shape (channels + 1, 3).

    Decodes a few smooth random latents and asks which colour each latent
    cell became on average; the last row is the constant.
    """
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(_SAMPLES, vae.channels, _PATCHES, _PATCHES, generator=generator)
    patches = patches.to(vae.device)
    latents = torch.nn.functional.interpolate(patches, size=_CELLS, mode="bilinear")
    pixels = torch.nn.functional.adaptive_avg_pool2d(vae.decode(latents), _CELLS)
    cells = _with_constant(latents)
    colours = pixels.movedim(1, -1).reshape(-1, 3)
    solution: Tensor = torch.linalg.lstsq(cells.cpu(), colours.cpu()).solution
    return solution.to(latents.device)


def preview(denoised: Tensor, colours: Tensor, *, mosaic: bool = False) -> str:
    """A WebP data URL, at most 96 pixels a side, of an estimate (channels, height, width).

    Args:
        mosaic: 8 pixels a side, which tell that there is progress and hardly what it shows: for
            pictures that nobody may see before they were checked.
    """
    height, width = denoised.shape[1:]
    pixels = (_with_constant(denoised[None]) @ colours).clamp_(0, 1)
    shown = pixels.nan_to_num().reshape(height, width, 3).movedim(-1, 0)
    return picture_url(shown, longest=_MOSAIC_SIDE if mosaic else _LONGEST_SIDE)


def picture_url(pixels: Tensor, *, longest: int = _LONGEST_SIDE) -> str:
    """A WebP data URL of pixels (3, height, width) in 0 … 1, at most ``longest`` a side."""
    image = to_image(pixels)
    image.thumbnail((longest, longest), Image.Resampling.BILINEAR)
    target = io.BytesIO()
    image.save(target, "WEBP", quality=_QUALITY)
    return "data:image/webp;base64," + base64.b64encode(target.getvalue()).decode()


def _with_constant(latents: Tensor) -> Tensor:
    """Latents (n, channels, h, w) as rows of (n·h·w, channels + 1), the last column 1."""
    rows = latents.movedim(1, -1).reshape(-1, latents.shape[1])
    return torch.cat([rows, torch.ones_like(rows[:, :1])], dim=1)
