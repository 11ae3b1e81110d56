from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from sfumato.core.errors import ModelRefused, ModelUnusable, NumericalError
from sfumato.core.models import ModelInfo, ModelKind, ModelLayout
from sfumato.engine.upscalers import Upscaler, load_upscaler
from sfumato.engine.upscaling import upscale
from sfumato.engine.weights import Placement
from tests.support.tiny_upscalers import (
    State,
    make_compact,
    make_rrdb,
    respelled,
    run_compact,
    run_rrdb,
    write_upscaler,
)

CPU = Placement(torch.device("cpu"), torch.float32)


def loaded(folder: Path, state: State) -> Upscaler:
    return load_upscaler(write_upscaler(folder, state), CPU)


@pytest.mark.parametrize("spelling", ["first", "trunk", "body"])
@pytest.mark.parametrize(("doublings", "fold"), [(2, 1), (1, 1), (3, 1), (2, 2), (2, 4)])
@pytest.mark.parametrize("wrapper", ["", "params_ema."])
def test_every_spelling_of_esrgan_computes_what_was_published(
    spelling: str, doublings: int, fold: int, wrapper: str, tmp_path: Path
) -> None:
    state = make_rrdb(doublings, fold)
    named = {wrapper + name: tensor for name, tensor in respelled(state, spelling).items()}
    upscaler = loaded(tmp_path, named)
    assert (upscaler.scale, upscaler.fold) == (2**doublings // fold, fold)
    assert upscaler.size == 4 * sum(tensor.numel() for tensor in state.values())
    pixels = torch.rand(1, 3, 12, 16)
    expected = run_rrdb(state, pixels, doublings, fold)
    with torch.no_grad():
        assert (upscaler(pixels) - expected).abs().max() < 1e-5
    assert expected.std() > 0.01


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_compact_network_computes_what_was_published(scale: int, tmp_path: Path) -> None:
    state = make_compact(scale)
    named = {f"params.{name}": tensor for name, tensor in state.items()}
    upscaler = loaded(tmp_path, named)
    assert upscaler.scale == scale
    pixels = torch.rand(2, 3, 9, 7)
    with torch.no_grad():
        assert (upscaler(pixels) - run_compact(state, pixels, scale)).abs().max() < 1e-5


@pytest.mark.parametrize("size", [(300, 270), (257, 40)])
def test_no_seam_is_left_where_tiles_meet(size: tuple[int, int], tmp_path: Path) -> None:
    state = make_compact(2)
    pixels = torch.rand(3, *size)
    whole = run_compact(state, pixels[None], 2)[0].clamp(0, 1)
    assert (upscale(pixels, loaded(tmp_path, state), 2) - whole).abs().max() < 1e-5


@pytest.mark.parametrize(("doublings", "fold"), [(1, 1), (2, 2)])
def test_a_deep_network_sees_hardly_farther_than_tiles_overlap(
    doublings: int, fold: int, tmp_path: Path
) -> None:
    state = make_rrdb(doublings, fold)
    pixels = torch.rand(3, 271, 61)
    edges = (0, -61 % fold, 0, -271 % fold)
    padded = functional.pad(pixels[None], edges, mode="replicate")
    with torch.no_grad():
        whole = run_rrdb(state, padded, doublings, fold)[0, :, :542, :122].clamp(0, 1)
    enlarged = upscale(pixels, loaded(tmp_path, state), 2)
    assert (enlarged - whole).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("scale", "size", "runs"),
    [
        (1.0, (20, 28), 0),
        (1.5, (30, 42), 1),
        (2.0, (40, 56), 1),
        (3.0, (60, 84), 2),
        (4.0, (80, 112), 2),
        (8.0, (160, 224), 3),
    ],
)
def test_the_network_runs_as_often_as_it_takes(
    scale: float, size: tuple[int, int], runs: int, tmp_path: Path
) -> None:
    pixels = torch.rand(3, 20, 28)
    seen: list[tuple[int, int]] = []
    enlarged = upscale(
        pixels, loaded(tmp_path, make_compact(2)), scale, after=lambda *tiles: seen.append(tiles)
    )
    assert enlarged.shape == (3, *size)
    assert enlarged.min() >= 0
    assert enlarged.max() <= 1
    assert seen == [(n + 1, runs) for n in range(runs)]
    if not runs:
        assert torch.equal(enlarged, pixels)


def test_a_network_that_only_restores_runs_once(tmp_path: Path) -> None:
    state = make_compact(1)
    pixels = torch.rand(3, 20, 28)
    restored = upscale(pixels, loaded(tmp_path, state), 1.0)
    assert (restored - run_compact(state, pixels[None], 1)[0].clamp(0, 1)).abs().max() < 1e-5
    assert upscale(pixels, loaded(tmp_path, state), 2.0).shape == (3, 40, 56)


def test_it_ends_between_tiles_when_it_is_told_to(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    def stop(done: int, total: int) -> None:
        seen.append((done, total))
        if done == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        upscale(torch.rand(3, 300, 300), loaded(tmp_path, make_compact(2)), 2, after=stop)
    assert seen == [(1, 4), (2, 4)]


def test_numbers_that_are_not_finite_are_told(tmp_path: Path) -> None:
    state = make_compact(2)
    state["body.0.bias"][0] = float("nan")
    with pytest.raises(NumericalError, match="'tiny'"):
        upscale(torch.rand(3, 16, 16), loaded(tmp_path, state), 2)


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    path = tmp_path / "tiny.pth"
    path.write_bytes(b"\x80\x02}q\x00.")
    info = ModelInfo("tiny", "", ModelLayout.CHECKPOINT, str(path), kind=ModelKind.UPSCALER)
    with pytest.raises(ModelRefused, match="convert"):
        load_upscaler(info, CPU)


def test_what_is_no_esrgan_needs_spandrel(tmp_path: Path) -> None:
    for state in ({"conv_first.weight": torch.zeros(4, 3, 3, 3)}, _plus()):
        with pytest.raises((ModelRefused, ModelUnusable), match="spandrel"):
            loaded(tmp_path, state)


def _plus() -> State:
    """ESRGAN+, which has one convolution more under the same names."""
    return {**make_rrdb(), "model.1.sub.0.RDB1.conv1x1.weight": torch.zeros(4, 8, 1, 1)}


def test_a_file_that_lacks_tensors_or_colours_is_unusable(tmp_path: Path) -> None:
    state = make_rrdb()
    del state["model.1.sub.1.RDB2.conv3.0.bias"]
    with pytest.raises(ModelUnusable, match="lacks 1 tensor"):
        loaded(tmp_path, state)
    grey = {**make_rrdb(), "model.0.weight": torch.zeros(8, 1, 3, 3)}
    with pytest.raises(ModelUnusable, match="1 channels"):
        loaded(tmp_path, grey)
