"""The latents' linear code, on pictures whose content is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from training.starter.codec import Codec, codec_of, encode_set, fit_codec, to_images
from training.starter.models import FACTOR, LATENT_CHANNELS


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    """Pictures of two colours with an edge somewhere between them."""
    rng = np.random.default_rng(0)
    found = np.empty((60, 64, 64, 3), np.uint8)
    for picture in found:
        left, right = rng.integers(0, 256, (2, 3))
        edge = rng.integers(8, 56)
        picture[:, :edge], picture[:, edge:] = left, right
    return found


def decoded(codec: Codec, latents: torch.Tensor) -> torch.Tensor:
    """What the components alone say of the pictures: the best linear answer, patch by patch."""
    code = latents / codec.scale.view(1, -1, 1, 1) + codec.mean.view(1, -1, 1, 1)
    patches = torch.einsum("nchw,cp->nphw", code, codec.components)
    side = latents.shape[-1] * FACTOR
    return torch.nn.functional.fold(patches.flatten(2), (side, side), FACTOR, stride=FACTOR)


def test_a_code_tells_the_picture_that_it_was_made_of(pixels: NDArray[np.uint8]) -> None:
    codec, images = fit_codec(pixels), to_images(pixels)
    latents = codec.encode(images)
    assert latents.shape == (60, LATENT_CHANNELS, 8, 8)
    off = (decoded(codec, latents) - images).square().mean()
    assert off < 0.02 * images.var()


def test_latents_are_centred_and_no_channel_is_lost(pixels: NDArray[np.uint8]) -> None:
    latents = fit_codec(pixels).encode(to_images(pixels))
    assert latents.mean(dim=(0, 2, 3)).abs().max() < 0.05
    assert latents.std(dim=(0, 2, 3)).min() > 0.1


def test_the_first_codec_of_a_run_stays_its_codec(
    pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    first = codec_of(tmp_path, pixels)
    again = codec_of(tmp_path, pixels[::-1])
    torch.testing.assert_close(first.components, again.components, rtol=0, atol=0)
    kept = encode_set(tmp_path, pixels, chunk=7)
    expected = first.encode(to_images(pixels)).half().numpy()
    np.testing.assert_array_equal(kept, expected)
    np.testing.assert_array_equal(encode_set(tmp_path, pixels), expected)
