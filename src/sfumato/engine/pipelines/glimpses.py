"""A rough look at what a pipeline has under way, whatever its latents are."""

from __future__ import annotations

import torch
from torch import Tensor

from sfumato.engine.families.pipeline import LoadedPipeline
from sfumato.engine.previews import picture_url


def glimpse(pipeline: LoadedPipeline, latents: Tensor | None, size: tuple[int, int]) -> str:
    """A data URL of one picture's latents, their three strongest directions as colours.

    No VAE: those of these families are large, and their latents have little in common.

    Args:
        latents: (channels, height, width) or (tokens, channels); None: nothing is known yet.
        size: width and height of the picture in pixels.
    """
    grid = None if latents is None else _grid(pipeline, latents, size)
    if grid is None:
        return picture_url(torch.full((3, 8, 8), 0.5))
    cells = grid.float().cpu().flatten(1).T.nan_to_num()
    centred = cells - cells.mean(dim=0)
    directions = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -3:].flip(1)
    colours = centred @ directions
    spread = colours.std(dim=0).clamp_min(1e-6)
    shown = (colours / (4 * spread) + 0.5).clamp(0, 1)
    shown = shown[:, [n % shown.shape[1] for n in range(3)]]
    return picture_url(shown.T.reshape(3, *grid.shape[1:]))


def _grid(pipeline: LoadedPipeline, latents: Tensor, size: tuple[int, int]) -> Tensor | None:
    """(channels, height, width); None for latents of an unknown form."""
    if latents.ndim == 4 and latents.shape[1] == 1:  # a film of one picture
        latents = latents[:, 0]
    if latents.ndim == 3:
        return latents
    if latents.ndim != 2:
        return None
    cell = pipeline.multiple
    width, height = size[0] // cell, size[1] // cell
    if latents.shape[0] != width * height:
        return None
    return latents.T.reshape(-1, height, width)
