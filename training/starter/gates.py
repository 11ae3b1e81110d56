"""What the judge's opinions of many pictures say of the model that made them.

Every figure comes with what it is worth: its ceiling (real renders), chance, and the same with
prompts and pictures shuffled.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from training.starter.judge_model import Judge, verdicts
from training.starter.world import Scene

#: Renders are compared at this side, so that a shift of some pixels still counts as near.
COPY_SIDE = 16
#: What a prompt asks for; style and colour are not among it.
ASKED = ("place", "time", "object")


def recall_at_one(judge: Judge, seen: dict[str, Tensor], scenes: Sequence[Scene]) -> float:
    """Share of prompts for which, of all pictures, their own is thought the likeliest.

    A picture's score for a prompt is the log-probability that the judge gives to the prompt's place,
    time and object together. Pictures that tie share the point.
    """
    wanted = judge.targets(scenes)
    scores = torch.zeros(len(scenes), len(scenes))
    for head in ASKED:
        scores += seen[head][:, wanted[head].clamp(min=0)].T
    best = scores.amax(dim=1, keepdim=True)
    ties = (scores >= best - 1e-6).float()
    return round((ties.diagonal() / ties.sum(dim=1)).mean().item(), 4)


def distinct(scenes: Sequence[Scene], count: int) -> list[int]:
    """Places in ``scenes`` of the first ``count`` whose combination no earlier one has."""
    first: dict[tuple[str, str, str], int] = {}
    for place, scene in enumerate(scenes):
        first.setdefault((scene.place, scene.time, scene.thing), place)
    return list(first.values())[:count]


def all_right(judge: Judge, seen: dict[str, Tensor], scenes: Sequence[Scene]) -> float:
    """Share of what the prompts ask for, class by class, that the pictures show."""
    right = verdicts(judge, seen, scenes)
    return round(torch.stack([right[head] for head in ASKED]).nanmean().item(), 4)


def copying(
    pictures: NDArray[np.uint8], fresh: NDArray[np.uint8], training: NDArray[np.uint8]
) -> dict[str, float]:
    """How near pictures come to their nearest training render, beside fresh renders that are new.

    A model that copies lies nearer than new renders do. Distances are root mean squares of pixels
    at a side of 16, of 0 to 255.
    """
    stored = _small(training)
    made, new = (_nearest(_small(pixels), stored) for pixels in (pictures, fresh))
    return {
        "nearest": round(made.median().item(), 2),
        "nearest_of_fresh_renders": round(new.median().item(), 2),
        # 0.01 of the fresh renders lie nearer than this by its making.
        "share_nearer_than_1_percent": round((made < new.quantile(0.01)).float().mean().item(), 4),
    }


def spread(pixels: NDArray[np.uint8]) -> float:
    """Mean distance of two pictures, root mean square of pixels, of 0 to 255."""
    flat = _small(pixels, side=32)
    found = torch.pdist(flat) / flat.shape[1] ** 0.5
    return round(found.mean().item(), 2)


def _small(pixels: NDArray[np.uint8], side: int = COPY_SIDE, chunk: int = 1000) -> Tensor:
    """(n, s, s, 3) bytes to (n, 3 * side * side)."""
    parts = []
    for at in range(0, len(pixels), chunk):
        images = torch.from_numpy(np.array(pixels[at : at + chunk])).permute(0, 3, 1, 2).float()
        parts.append(F.interpolate(images, (side, side), mode="area").flatten(1))
    return torch.cat(parts)


def _nearest(pictures: Tensor, stored: Tensor) -> Tensor:
    return torch.cdist(pictures, stored).amin(dim=1) / pictures.shape[1] ** 0.5
