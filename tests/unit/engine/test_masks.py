"""Masks in the latents."""

from __future__ import annotations

import torch

from sfumato.engine.masks import Kept, hard, latent_mask, seen_through
from sfumato.engine.samplers import Mixture


def spot(height: int, width: int, top: int, left: int) -> torch.Tensor:
    mask = torch.zeros(1, height, width)
    mask[0, top, left] = 1
    return mask


def test_every_cell_below_a_pixel_of_the_mask_is_redrawn() -> None:
    cells = latent_mask(spot(32, 48, 9, 40), 8)
    assert cells.shape == (1, 4, 6)
    assert cells.sum() == cells[0, 1, 5] == 1


def test_a_picture_that_ends_within_a_cell_has_that_cell() -> None:
    cells = latent_mask(spot(20, 28, 19, 27), 8)
    assert cells.shape == (1, 3, 4)
    assert cells.sum() == cells[0, 2, 3] == 1


def test_a_blurred_mask_ends_at_half_of_its_greatest_value() -> None:
    assert hard(torch.tensor([[[0.1, 0.49, 0.5, 1.0]]])).tolist() == [[[0, 0, 1, 1]]]
    assert hard(torch.tensor([[[0.0, 0.1, 0.15, 0.2]]])).tolist() == [[[0, 1, 1, 1]]]
    assert not hard(torch.zeros(1, 2, 2)).any()


def test_what_is_redrawn_is_seen_grey() -> None:
    seen = seen_through(torch.full((3, 1, 2), 0.9), torch.tensor([[[0.0, 1.0]]]))
    assert seen[:, 0].tolist() == [[0.8999999761581421, 0.5]] * 3


def test_what_is_kept_is_put_back_as_noisy_as_the_rest_even_over_nan() -> None:
    shape = (2, 1, 3)
    mask = torch.tensor([[[True, False, False]]])
    kept = Kept(torch.full(shape, 2.0), torch.full(shape, 10.0), mask)
    latents = torch.tensor([5.0, 6.0, torch.nan]).expand(shape).clone()
    kept.put_back(latents, Mixture(0.5, 0.1))
    assert latents.tolist() == [[[5.0, 2.0, 2.0]]] * 2
