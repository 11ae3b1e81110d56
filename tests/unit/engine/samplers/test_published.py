"""What diffusers has not, or not here: published formulas, written again in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from sfumato.engine.samplers import table_for
from sfumato.engine.samplers.grids import Grid, levels
from sfumato.engine.samplers.quantiles import beta_quantiles
from sfumato.engine.schedules import NoiseSchedule
from tests.unit.engine.samplers.running import SHAPE, Network, by_table, network

Denoiser = Callable[[Tensor, float], Tensor]
Draw = Callable[[], Tensor]


def ancestral_step(here: float, there: float) -> tuple[float, float]:
    up = math.sqrt(there**2 * (here**2 - there**2) / here**2)
    return math.sqrt(there**2 - up**2), up


def dpmpp_2s_ancestral(x: Tensor, model: Denoiser, sigmas: list[float], draw: Draw) -> Tensor:
    """k-diffusion's ``sample_dpmpp_2s_ancestral``: DPM-Solver++(2S), arXiv 2211.01095, algorithm 1."""
    for here, there in pairwise(sigmas):
        denoised = model(x, here)
        down, up = ancestral_step(here, there)
        if down == 0:
            x = x + (x - denoised) / here * (down - here)
        else:
            t, t_next = -math.log(here), -math.log(down)
            h = t_next - t
            s = t + h / 2
            x_2 = math.exp(t - s) * x - math.expm1(-h / 2) * denoised
            denoised_2 = model(x_2, math.exp(-s))
            x = math.exp(t - t_next) * x - math.expm1(-h) * denoised_2
        if there > 0:
            x = x + draw() * up
    return x


def dpmpp_sde(x: Tensor, model: Denoiser, sigmas: list[float], draw: Draw) -> Tensor:
    """k-diffusion's ``sample_dpmpp_sde`` (eta 1, r 1/2), its Brownian motion drawn in two pieces:
    from the level to the middle, and from there to the next."""
    for here, there in pairwise(sigmas):
        denoised = model(x, here)
        if there == 0:
            x = x + (x - denoised) / here * (there - here)
            continue
        t, t_next = -math.log(here), -math.log(there)
        middle = math.exp(-(t + (t_next - t) / 2))
        down, up = ancestral_step(here, middle)
        first_piece = draw() * math.sqrt(here - middle)
        x_2 = down / here * x - math.expm1(t + math.log(down)) * denoised
        x_2 = x_2 + first_piece / math.sqrt(here - middle) * up
        denoised_2 = model(x_2, middle)
        down, up = ancestral_step(here, there)
        second_piece = draw() * math.sqrt(middle - there)
        x = down / here * x - math.expm1(t + math.log(down)) * denoised_2
        x = x + (first_piece + second_piece) / math.sqrt(here - there) * up
    return x


def published(
    formula: Callable[[Tensor, Denoiser, list[float], Draw], Tensor],
    schedule: NoiseSchedule,
    steps: int,
    predict: Network,
    spacing: str,
) -> Tensor:
    visited = levels(schedule, steps, spacing, Grid.EULER)
    sigmas = [level.ratio for level in visited]
    generator = torch.Generator().manual_seed(11)

    def draw() -> Tensor:
        return torch.randn(SHAPE, generator=generator).double()

    def denoise(x: Tensor, sigma: float) -> Tensor:
        alpha = 1 / math.sqrt(sigma**2 + 1)
        timestep = torch.tensor([schedule.timestep_of(sigma)])
        output = predict(x * alpha, timestep)
        if schedule.prediction_type == "epsilon":
            return x - sigma * output
        return alpha * (x * alpha) - sigma * alpha * output

    return formula(draw() * sigmas[0], denoise, sigmas, draw)


@pytest.mark.parametrize("spacing", ["uniform", "karras", "align_your_steps"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(
    ("name", "formula"), [("dpmpp_2s_a", dpmpp_2s_ancestral), ("dpmpp_sde", dpmpp_sde)]
)
def test_the_table_ends_where_k_diffusions_formula_ends(
    name: str,
    formula: Callable[[Tensor, Denoiser, list[float], Draw], Tensor],
    prediction: str,
    spacing: str,
) -> None:
    schedule = NoiseSchedule.from_config({"prediction_type": prediction})
    predict = network()
    for steps in (1, 2, 4, 20, 50):
        expected = published(formula, schedule, steps, predict, spacing)
        found = by_table(name, schedule, steps, predict, spacing)
        assert (found - expected).abs().max() < 1e-4 * max(1, expected.abs().max())


@pytest.mark.parametrize("steps", [4, 20, 50])
def test_lms_integrates_lagranges_polynomials(steps: int) -> None:
    """k-diffusion's ``sample_lms`` of order 4, its integrals taken exactly."""
    schedule, predict = NoiseSchedule(), network()
    visited = levels(schedule, steps, "uniform", Grid.EULER)
    sigmas = [level.ratio for level in visited]
    start = torch.randn(SHAPE, generator=torch.Generator().manual_seed(11)).double()
    x, slopes = start * sigmas[0], list[Tensor]()
    for step, here in enumerate(sigmas[:-1]):
        output = predict(x / math.sqrt(here**2 + 1), torch.tensor([visited[step].timestep]))
        slopes.insert(0, output)
        order = min(step + 1, 4)
        for back in range(order):
            basis = np.polynomial.Polynomial([1.0])
            for other in set(range(order)) - {back}:
                gap = sigmas[step - back] - sigmas[step - other]
                basis *= np.polynomial.Polynomial([-sigmas[step - other] / gap, 1 / gap])
            whole = basis.integ()
            x = x + float(whole(sigmas[step + 1]) - whole(here)) * slopes[back]
    # The table begins with the noise rate alone, as diffusers: float32 rounding aside, the same.
    found = by_table("lms", schedule, steps, predict)
    scale = sigmas[0] / (visited[0].sigma / visited[0].alpha)
    assert scale == pytest.approx(1)
    assert (found - x).abs().max() < 1e-4 * max(1, x.abs().max())


def test_quantiles_of_the_beta_distribution() -> None:
    chances = np.array([0.0, 0.1, 0.3, 0.5, 0.9, 1.0])
    # Beta(1/2, 1/2) is the arcsine law; the others are SciPy's beta.ppf(chances, 0.6, 0.6).
    np.testing.assert_allclose(
        beta_quantiles(chances, 0.5), np.sin(np.pi * chances / 2) ** 2, atol=1e-6
    )
    expected = [0.0, 0.03958441, 0.23401700387523572, 0.5, 0.96041559, 1.0]
    np.testing.assert_allclose(beta_quantiles(chances, 0.6), expected, atol=1e-8)


def test_schedules_as_published() -> None:
    schedule = NoiseSchedule()

    def timesteps(spacing: str, steps: int) -> list[float]:
        return [level.timestep for level in levels(schedule, steps, spacing, Grid.EULER)[:-1]]

    def noises(spacing: str, steps: int) -> list[float]:
        return [level.noise for level in levels(schedule, steps, spacing, Grid.EULER)]

    assert timesteps("sgm_uniform", 4) == [999, 749.25, 499.5, 249.75]
    assert timesteps("trailing", 4) == [999, 749, 499, 249]
    assert timesteps("simple", 3) == [999, 666, 333]
    assert timesteps("uniform", 4) == [999, 666, 333, 0]
    published = [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029, 0]
    assert noises("align_your_steps", 11) == pytest.approx(published)
    assert noises("align_your_steps", 21)[1] == pytest.approx(math.sqrt(14.615 * 6.475))
    karras, exponential = noises("karras", 3), noises("exponential", 3)
    assert karras[0] == pytest.approx(exponential[0]) == pytest.approx(14.6146, rel=1e-4)
    assert karras[2] == pytest.approx(exponential[2]) == pytest.approx(0.029167, rel=1e-4)
    assert exponential[1] == pytest.approx(math.sqrt(exponential[0] * exponential[2]))
    roots = [noise ** (1 / 7) for noise in karras]
    assert roots[1] == pytest.approx((roots[0] + roots[2]) / 2)


def test_a_models_config_names_its_schedule() -> None:
    karras = NoiseSchedule.from_config({"use_karras_sigmas": True})
    named = table_for("dpmpp_2m", 8, NoiseSchedule(), "karras")
    assert all(map(torch.equal, table_for("dpmpp_2m", 8, karras).rows, named.rows))
    # diffusers' DDIM knows no such flag, and what a request says comes first.
    for sampler, spacing in (("ddim", None), ("dpmpp_2m", "uniform")):
        plain = table_for(sampler, 8, NoiseSchedule())
        assert all(map(torch.equal, table_for(sampler, 8, karras, spacing).rows, plain.rows))
