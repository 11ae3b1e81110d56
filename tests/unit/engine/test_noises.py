"""Variations: noise between two noises."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from sfumato.core.edits import Variation
from sfumato.core.models import ModelInfo, ModelLayout
from sfumato.engine.noises import first_noise, noise_source
from tests.support.rendering import task_of

SHAPE = (4, 16, 8)
MODEL = ModelInfo("any", "sd1", ModelLayout.DIFFUSERS, "/nowhere")
Array = npt.NDArray[np.float64]


def noise(seed: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=noise_source(seed))


def begun(variation: Variation | None, *, seed: int = 7, index: int = 0) -> torch.Tensor:
    task = task_of(MODEL, seed=seed, index=index, variation=variation)
    return first_noise(task, SHAPE, noise_source(task.seed), torch.device("cpu"))


def a1111(part: float, low: Array, high: Array) -> Array:
    """``slerp`` of A1111's modules/rng.py, in float64."""
    low_unit = low / np.linalg.norm(low, axis=1, keepdims=True)
    high_unit = high / np.linalg.norm(high, axis=1, keepdims=True)
    omega = np.arccos((low_unit * high_unit).sum(1))
    weights = np.sin(np.stack([(1 - part) * omega, part * omega])) / np.sin(omega)
    return np.asarray(weights[0][:, None] * low + weights[1][:, None] * high)


@pytest.mark.parametrize("index", [0, 3])
@pytest.mark.parametrize("strength", [0.05, 0.5, 0.9])
def test_the_noise_is_a1111s_between_two_seeds(strength: float, index: int) -> None:
    found = begun(Variation(100, strength), index=index)
    own, other = noise(7).double().numpy(), noise(100 + index).double().numpy()
    expected = a1111(strength, own, other)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-5)
    assert found.std() == pytest.approx(1, abs=0.1)


def test_its_ends_are_the_two_seeds_own() -> None:
    assert torch.equal(begun(Variation(100, 0.0)), noise(7))
    assert torch.equal(begun(None), noise(7))
    torch.testing.assert_close(begun(Variation(100, 1.0)), noise(100))
    assert torch.equal(begun(None, index=2), noise(9))
    assert torch.equal(begun(Variation(100, 0.0), index=2), noise(9)), "it is no variation"


def test_a_variation_towards_itself_changes_nothing() -> None:
    torch.testing.assert_close(begun(Variation(7, 0.4)), noise(7))


def test_the_last_seed_of_all_goes_on_from_the_first() -> None:
    found = begun(Variation(2**64 - 1, 1.0), index=2)
    torch.testing.assert_close(found, noise(1))
