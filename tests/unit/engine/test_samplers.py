"""Each table against diffusers' own solver, around a network that is a fixed function."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_euler_ancestral_discrete import (
    EulerAncestralDiscreteScheduler,
)
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_lcm import LCMScheduler
from torch import Tensor

from sfumato.core.samplers import SAMPLERS
from sfumato.engine.samplers import advance, table_for
from sfumato.engine.schedules import NoiseSchedule

# diffusers' own solvers hand tensors to numpy in a way that numpy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

DIFFUSERS = {
    "euler": EulerDiscreteScheduler,
    "euler_a": EulerAncestralDiscreteScheduler,
    "ddim": DDIMScheduler,
    "dpmpp_2m": DPMSolverMultistepScheduler,
    "lcm": LCMScheduler,
}
#: Stable Diffusion's, as its scheduler_config.json has it.
BASE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "clip_sample": False,
    "set_alpha_to_one": False,
}
SHAPE = (1, 4, 8, 8)
Network = Callable[[Tensor, Tensor], Tensor]


def network() -> Network:
    """A bounded, well-mixed stand-in that depends on the latents and the timestep."""
    mix = torch.randn(4, 4, generator=torch.Generator().manual_seed(3)) / 2

    def predict(latents: Tensor, timesteps: Tensor) -> Tensor:
        mixed = torch.einsum("ij,njhw->nihw", mix, latents)
        return torch.tanh(mixed + timesteps.view(-1, 1, 1, 1) / 1000)

    return predict


def by_diffusers(name: str, config: dict[str, object], steps: int, predict: Network) -> Tensor:
    solver = DIFFUSERS[name].from_config(config)
    solver.set_timesteps(steps)
    generator = torch.Generator().manual_seed(11)
    latents = torch.randn(SHAPE, generator=generator) * solver.init_noise_sigma
    takes_generator = name in ("euler_a", "lcm")
    for timestep in solver.timesteps:
        scaled = solver.scale_model_input(latents, timestep)
        output = predict(scaled, timestep.reshape(1))
        extra = {"generator": generator} if takes_generator else {}
        latents = solver.step(output, timestep, latents, **extra).prev_sample
    return latents


def by_table(name: str, config: dict[str, object], steps: int, predict: Network) -> Tensor:
    table = table_for(name, steps, NoiseSchedule.from_config(config))
    generator = torch.Generator().manual_seed(11)
    latents = torch.randn(SHAPE, generator=generator) * table.initial_scale
    before = torch.zeros_like(latents)
    for step in range(steps):
        output = predict(latents, table.timesteps[step : step + 1])
        noise = torch.randn(SHAPE, generator=generator) if table.noisy[step] else None
        row = table.coefficients[step : step + 1]
        latents, before = advance(latents, output, before, noise, row)
    return latents


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 20, 50])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", list(SAMPLERS))
def test_the_table_ends_where_diffusers_solver_ends(name: str, prediction: str, steps: int) -> None:
    config = {**BASE, "prediction_type": prediction}
    predict = network()
    expected = by_diffusers(name, config, steps, predict)
    found = by_table(name, config, steps, predict)
    # The stand-in lets LCM's latents grow into the hundreds; then 1e-4 is of their size.
    assert (found - expected).abs().max() < 1e-4 * max(1, expected.std())


@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize("name", ["euler", "euler_a", "ddim", "dpmpp_2m"])
def test_spacing_and_zero_terminal_snr_follow_the_models_config(
    name: str, spacing: str, zero_snr: bool
) -> None:
    config = {
        **BASE,
        "prediction_type": "v_prediction",
        "timestep_spacing": spacing,
        "rescale_betas_zero_snr": zero_snr,
    }
    predict = network()
    for steps in (4, 12, 20):
        expected = by_diffusers(name, config, steps, predict)
        found = by_table(name, config, steps, predict)
        # diffusers' Euler carries latents of size 4096 in float32 at zero terminal SNR.
        tolerance = 2e-3 if zero_snr and name.startswith("euler") else 1e-4
        assert (found - expected).abs().max() < tolerance


@pytest.mark.parametrize("beta_schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m", "lcm"])
def test_every_beta_schedule_and_a_network_that_predicts_the_picture(
    name: str, beta_schedule: str
) -> None:
    config = {**BASE, "prediction_type": "sample", "beta_schedule": beta_schedule}
    predict = network()
    expected = by_diffusers(name, config, 8, predict)
    assert (by_table(name, config, 8, predict) - expected).abs().max() < 1e-4


def test_a_mixed_batch_is_each_slot_alone() -> None:
    predict = network()
    schedule = NoiseSchedule()
    names = list(SAMPLERS)
    tables = [table_for(name, 6 + n, schedule) for n, name in enumerate(names)]
    latents = torch.randn(len(names), *SHAPE[1:], generator=torch.Generator().manual_seed(1))
    before = torch.randn(latents.shape, generator=torch.Generator().manual_seed(2))
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(3))
    timesteps = torch.stack([table.timesteps[n] for n, table in enumerate(tables)])
    rows = torch.stack([table.coefficients[n] for n, table in enumerate(tables)])
    together = advance(latents, predict(latents, timesteps), before, noise, rows)
    for n in range(len(names)):
        one = slice(n, n + 1)
        output = predict(latents[one], timesteps[one])
        alone = advance(latents[one], output, before[one], noise[one], rows[one])
        for a, b in zip(together, alone, strict=True):
            torch.testing.assert_close(a[one], b, rtol=1e-6, atol=1e-6)


def test_more_steps_than_lcm_was_distilled_on_still_fall() -> None:
    table = table_for("lcm", 150, NoiseSchedule())
    assert (table.timesteps.diff() < 0).all()
    assert table.coefficients.isfinite().all()


@pytest.mark.parametrize("name", list(SAMPLERS))
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
def test_coefficients_are_finite_for_every_step_count(
    name: str, prediction: str, spacing: str
) -> None:
    schedule = NoiseSchedule(
        prediction_type=prediction,  # type: ignore[arg-type]
        timestep_spacing=spacing,  # type: ignore[arg-type]
        rescale_betas_zero_snr=True,
    )
    for steps in (1, 2, 3, 7, 149, 150):
        table = table_for(name, steps, schedule)
        assert table.coefficients.isfinite().all()
        assert len(table.timesteps) == steps == len(table.coefficients)
