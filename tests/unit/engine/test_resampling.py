from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato.engine.images import fit
from sfumato.engine.resampling import cover, lanczos, to_tensor
from tests.support.pictures import noise


def test_a_picture_becomes_a_tensor_and_back() -> None:
    picture = noise(9, 5)
    pixels = to_tensor(picture)
    assert pixels.shape == (3, 5, 9)
    assert np.array_equal((pixels * 255).permute(1, 2, 0).numpy(), np.asarray(picture))
    assert to_tensor(noise(9, 5, "L")).shape == (1, 5, 9)


def test_the_size_it_has_already_changes_nothing() -> None:
    pixels = torch.rand(3, 7, 9)
    assert torch.equal(lanczos(pixels, 9, 7), pixels)
    assert torch.equal(cover(pixels, 9, 7), pixels)


@pytest.mark.parametrize("size", [(40, 40), (90, 30), (12, 50), (63, 41)])
def test_proportions_are_kept_as_in_the_file(size: tuple[int, int]) -> None:
    # Where nothing is near black or white: between its passes Pillow cuts off what overshoots.
    picture = Image.eval(noise(60, 40), lambda value: 96 + value // 4)
    expected = to_tensor(fit(picture, *size))
    assert (cover(to_tensor(picture), *size) - expected).abs().max() < 1.5 / 255


def test_colours_stay_between_black_and_white() -> None:
    edge = torch.zeros(3, 16, 16)
    edge[:, :, 8:] = 1
    larger = lanczos(edge, 64, 64)
    assert larger.min() == 0
    assert larger.max() == 1
    assert larger.shape == (3, 64, 64)
    assert Image.fromarray(larger[0].numpy()).size == (64, 64)
