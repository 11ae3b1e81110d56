from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from sfumato.engine import tiles
from sfumato.engine.tiles import Tiling, in_vae, tiled

CPU = torch.device("cpu")


@st.composite
def tilings(draw: st.DrawFn) -> Tiling:
    tile = draw(st.integers(2, 40))
    overlap = draw(st.integers(1, tile - 1))
    margin = draw(st.integers(0, (overlap - 1) // 2))
    grow = draw(st.integers(1, 4))
    return Tiling(tile, overlap, margin, grow=grow)


@given(tilings(), st.integers(1, 300))
def test_tiles_cover_a_side_and_their_weights_add_up_to_one(tiling: Tiling, length: int) -> None:
    spans = tiling.spans(length, CPU)
    sums = torch.zeros(length * tiling.grow)
    for start, end, weights in spans:
        assert 0 <= start < end <= length
        assert end - start == min(tiling.tile, length)
        sums[start * tiling.grow : end * tiling.grow] += weights
    assert torch.allclose(sums, torch.ones_like(sums), atol=1e-6)
    for (_, end, _), (start, _, _) in pairwise(spans):
        assert end - start >= tiling.overlap


@pytest.mark.parametrize(("tile", "overlap", "margin"), [(8, 8, 0), (8, 4, 2), (8, 0, 0)])
def test_what_leaves_no_ramp_is_no_tiling(tile: int, overlap: int, margin: int) -> None:
    with pytest.raises(ValueError, match="overlap"):
        Tiling(tile, overlap, margin)


def convolutions(grow: int, shrink: int) -> nn.Sequential:
    """Reaches 3 cells far."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    if shrink > 1:
        layers = [nn.PixelUnshuffle(shrink)]
    layers += [nn.Conv2d(3 * shrink**2, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 8, 5, padding=2)]
    if grow > 1:
        layers.append(nn.Upsample(scale_factor=grow))
    return nn.Sequential(*layers)


@settings(deadline=None, max_examples=30)
@given(
    st.integers(1, 60), st.integers(1, 60), st.integers(7, 12), st.sampled_from([(1, 2), (2, 1)])
)
def test_a_network_that_sees_no_farther_than_the_margin_answers_as_for_the_whole(
    height: int, width: int, overlap: int, scales: tuple[int, int]
) -> None:
    shrink, grow = scales
    network = convolutions(grow, shrink)
    picture = torch.rand(2, 3, height * shrink, width * shrink)
    tiling = Tiling(24, overlap, 3, shrink, grow)
    with torch.no_grad():
        whole = network(picture)
        parts = tiled(network, picture, tiling, channels=8)
    assert parts.shape == whole.shape
    assert (parts - whole).abs().max() < 1e-5


def test_the_work_ends_after_a_tile_when_it_is_told_to() -> None:
    seen: list[tuple[int, ...]] = []

    def network(tile: Tensor) -> Tensor:
        seen.append(tuple(tile.shape))
        return tile

    def stop() -> None:
        if len(seen) == 2:
            raise InterruptedError

    tiling = Tiling(16, 4)
    with pytest.raises(InterruptedError):
        tiled(network, torch.rand(1, 3, 40, 40), tiling, channels=3, after=stop)
    assert seen == [(1, 3, 16, 16)] * 2
    assert tiling.count(40, 40) == 9


@pytest.mark.parametrize("memory", [None, 1 << 60, 1])
def test_a_vae_is_cut_only_where_the_whole_would_not_fit(
    memory: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "total", lambda device: memory)
    seen: list[int] = []

    def decoder(latents: Tensor) -> Tensor:
        seen.append(latents.shape[0])
        return functional.interpolate(latents[:, :3], scale_factor=8)

    latents = torch.rand(2, 4, 100, 20)
    pixels = in_vae(decoder, latents, channels=3, grow=8, dtype=torch.float16)
    assert torch.allclose(pixels, functional.interpolate(latents[:, :3], scale_factor=8))
    assert seen == ([1, 1, 1, 1] if memory == 1 else [2])
    seen.clear()
    in_vae(decoder, latents[:, :, :64], channels=3, grow=8, dtype=torch.float16)
    assert seen == [2]


def test_one_picture_that_does_not_fit_after_all_is_cut() -> None:
    def decoder(latents: Tensor) -> Tensor:
        if latents.shape[0] > 1 or latents.shape[2] > 64:
            raise torch.OutOfMemoryError
        return latents

    latents = torch.rand(2, 4, 100, 20)
    one = in_vae(decoder, latents[:1], channels=4, dtype=torch.float32)
    assert torch.allclose(one, latents[:1])
    with pytest.raises(torch.OutOfMemoryError):
        in_vae(decoder, latents, channels=4, dtype=torch.float32)
