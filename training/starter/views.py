"""What one training step looks at: latents of some pictures, and a caption of each as tokens."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import CLIPTokenizer

from training.starter.captions import caption
from training.starter.world import Scene

#: Captions that each picture has, and the share of views without any, for guidance.
CAPTIONS = 8
EMPTY = 0.1


def token_table(
    scenes: Sequence[Scene], tokenizer: CLIPTokenizer, seed: int, path: Path | None = None
) -> NDArray[np.int16]:
    """(n, CAPTIONS, tokens): captions of each scene, kept at ``path`` for the next slice.

    Speaking and reading a caption takes longer than a picture's share of a GPU's step.
    """
    if path is not None and path.exists():
        kept: NDArray[np.int16] = np.load(path)
        if len(kept) == len(scenes):
            return kept
    rng = random.Random(f"captions {seed}")
    texts = [caption(scene, rng, empty=0) for scene in scenes for _ in range(CAPTIONS)]
    table = _read(tokenizer, texts).astype(np.int16).reshape(len(scenes), CAPTIONS, -1)
    if path is not None:
        np.save(path, table)
    return table


class Views:
    """Random views of a set. A GPU holds all latents, a CPU maps them."""

    def __init__(
        self,
        latents: NDArray[np.float16],
        table: NDArray[np.int16],
        tokenizer: CLIPTokenizer,
        device: str = "cpu",
    ) -> None:
        self._device, self._mapped = device, latents
        self._held = None if device == "cpu" else torch.from_numpy(np.array(latents)).to(device)
        self._table = torch.from_numpy(table).to(device)
        self._nothing = torch.from_numpy(_read(tokenizer, [""])).to(device)

    def some(self, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """(count, 4, h, w) latents and (count, tokens) ids, some of them of the empty caption."""

        def numbers(below: int) -> Tensor:
            return torch.randint(below, (count,), generator=rng, device=self._device)

        which, said = numbers(len(self._table)), numbers(CAPTIONS)
        mute = torch.rand(count, 1, generator=rng, device=self._device) < EMPTY
        ids = torch.where(mute, self._nothing, self._table[which, said].long())
        if self._held is None:
            return torch.from_numpy(self._mapped[which.numpy()]).float(), ids
        return self._held[which].float(), ids


def _read(tokenizer: CLIPTokenizer, texts: list[str]) -> NDArray[np.int64]:
    found = tokenizer(texts, padding="max_length", truncation=True, return_tensors="np")
    ids: NDArray[np.int64] = found["input_ids"].astype(np.int64)
    return ids
