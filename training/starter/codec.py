"""The latents: a linear code of 8 x 8 pixel patches, fixed before any network is trained.

A learned encoder would have to be trained before the diffusion model, and be run over the whole set:
on a CPU that takes longer than the diffusion model has. The principal components of flat art's
patches are there in seconds and cost a matrix product. Each patch keeps its mean colour and the
directions in which it changes; with its neighbours' colours that says where an edge lies, and
the decoder, which is learned, draws it. The VAE's encoder learns to give the same code, so that
pictures can be edited.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.starter.common import save_checkpoint
from training.starter.models import FACTOR, LATENT_CHANNELS

#: A component's deviation among latents: this power of the one it has among pixels. Whitening (0)
#: would make noise as important as shapes; none (1) would hide edges from the loss.
_POWER = 0.5
#: No component is scaled below this.
_LEAST = 0.35


@dataclass(frozen=True)
class Codec:
    """``components`` (channels, 3 * 8 * 8) of patches in [-1, 1]; ``mean`` and ``scale`` (channels,)."""

    components: Tensor
    mean: Tensor
    scale: Tensor

    def encode(self, images: Tensor) -> Tensor:
        """(n, 3, h, w) in [-1, 1] to (n, channels, h / 8, w / 8)."""
        n, _, h, w = images.shape
        kernel = self.components.view(-1, 3, FACTOR, FACTOR)
        found = torch.nn.functional.conv2d(images, kernel.to(images.device), stride=FACTOR)
        mean, scale = (t.to(images.device).view(1, -1, 1, 1) for t in (self.mean, self.scale))
        return (found.view(n, -1, h // FACTOR, w // FACTOR) - mean) * scale

    def parts(self) -> dict[str, Tensor]:
        return {"components": self.components, "mean": self.mean, "scale": self.scale}

    def save(self, path: Path) -> None:
        save_checkpoint(path, self.parts())

    @classmethod
    def load(cls, path: Path) -> Codec:
        return cls(**torch.load(path, map_location="cpu", weights_only=True))


def to_images(pixels: NDArray[np.uint8]) -> Tensor:
    """(n, h, w, 3) bytes to (n, 3, h, w) floats in [-1, 1]."""
    return torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1


def fit_codec(pixels: NDArray[np.uint8], *, pictures: int = 600) -> Codec:
    """The first principal components of all patches of some pictures of a set."""
    images = to_images(pixels[:: max(1, len(pixels) // pictures)][:pictures])
    patches = torch.nn.functional.unfold(images, FACTOR, stride=FACTOR)
    flat = patches.transpose(1, 2).reshape(-1, patches.shape[1])
    centre = flat.mean(dim=0)
    covariance = torch.cov(flat.T)
    values, vectors = torch.linalg.eigh(covariance)
    components = vectors.flip(1)[:, :LATENT_CHANNELS].T.clone()
    deviation = values.flip(0)[:LATENT_CHANNELS].clamp(min=1e-6).sqrt()
    # The three largest are the mean colour; they set what counts as large.
    wanted = (deviation / deviation[:3].mean()).pow(_POWER).clamp(_LEAST, 1.0)
    return Codec(components, components @ centre, wanted / deviation)


def codec_of(work: Path, pixels: NDArray[np.uint8]) -> Codec:
    """The codec kept in ``work``, fitted and kept there the first time."""
    path = work / "codec.pt"
    if not path.exists():
        fit_codec(pixels).save(path)
    return Codec.load(path)


def encode_set(work: Path, pixels: NDArray[np.uint8], *, chunk: int = 200) -> NDArray[np.float16]:
    """The latents of a set, (n, channels, h / 8, w / 8); kept in ``work``."""
    path = work / "latents.npy"
    if path.exists():
        kept: NDArray[np.float16] = np.load(path, mmap_mode="r")
        if len(kept) == len(pixels):
            return kept
    codec = codec_of(work, pixels)
    starts = range(0, len(pixels), chunk)
    parts = [codec.encode(to_images(pixels[at : at + chunk])).half().numpy() for at in starts]
    np.save(path, np.concatenate(parts))
    found: NDArray[np.float16] = np.load(path, mmap_mode="r")
    return found
