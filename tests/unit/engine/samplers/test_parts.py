"""Tables that begin midway, as image-to-image takes them, and tables that end midway."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato.core.samplers import SAMPLERS, SCHEDULES
from sfumato.engine.samplers import Coefficients, SamplerTable, State, advance, table_for
from sfumato.engine.schedules import NoiseSchedule
from tests.unit.engine.samplers.running import BASE, SHAPE, Network, network
from tests.unit.engine.samplers.test_against_diffusers import DIFFUSERS, check, quiet, solver_of

pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")
__all__ = ["quiet"]

PICTURE = torch.randn(SHAPE, generator=torch.Generator().manual_seed(5))


def run_table(
    table: SamplerTable, latents: Tensor, generator: torch.Generator, predict: Network
) -> Iterator[Tensor]:
    """The latents after each evaluation."""
    state = State(latents)
    for row in range(len(table)):
        coefficients = Coefficients.gather([(table, row)])
        output = predict(state.latents, coefficients.timesteps)
        noise = torch.randn(SHAPE, generator=generator) if table.noisy(row) else None
        state = advance(state, output, noise, coefficients, table.memory)
        yield state.latents


def begun(table: SamplerTable, generator: torch.Generator) -> Tensor:
    noise = torch.randn(SHAPE, generator=generator)
    return table.begins.signal * PICTURE + table.begins.noise * noise


def by_diffusers(solver: Any, steps: int, start: int, predict: Network) -> Tensor:
    """As the image-to-image pipelines do it."""
    solver.set_timesteps(steps)
    timesteps = solver.timesteps[start * solver.order :]
    if type(solver).__name__ == "PNDMScheduler" and start:
        # The pipelines take its doubled timestep for a step of its own, and come out one level too
        # noisy. Here it is doubled where the solver begins.
        plain = torch.cat([solver.timesteps[:1], solver.timesteps[2:]])[start:]
        timesteps = torch.cat([plain[:1], plain[1:2], plain[1:]])
    if type(solver).__name__ == "LMSDiscreteScheduler":
        # With an index to begin at it takes weights for outputs that it has not got. So it is given
        # a shorter grid, as k-diffusion's is.
        solver.sigmas, solver.timesteps = solver.sigmas[start:], timesteps
        solver.set_begin_index(0)
    elif hasattr(solver, "set_begin_index"):
        solver.set_begin_index(start * solver.order)
    generator = torch.Generator().manual_seed(11)
    noise = torch.randn(SHAPE, generator=generator)
    latents = solver.add_noise(PICTURE, noise, timesteps[:1])
    draws = "generator" in inspect.signature(solver.step).parameters
    extra = {"generator": generator} if draws else {}
    for timestep in timesteps:
        output = predict(solver.scale_model_input(latents, timestep), timestep.reshape(1))
        latents = solver.step(output, timestep, latents, **extra).prev_sample
    return latents


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", list(DIFFUSERS))
def test_it_ends_where_diffusers_image_to_image_ends(name: str, prediction: str) -> None:
    config: Mapping[str, object] = {**BASE, "prediction_type": prediction}
    predict = network()
    for steps, start in ((4, 1), (4, 3), (20, 5), (20, 12), (50, 40)):
        expected = by_diffusers(solver_of(name, config), steps, start, predict)
        table = table_for(name, steps, NoiseSchedule.from_config(config), start=start)
        generator = torch.Generator().manual_seed(11)
        *_, found = run_table(table, begun(table, generator), generator, predict)
        check(found, expected)


@pytest.mark.parametrize("flag", ["use_karras_sigmas", "use_exponential_sigmas"])
@pytest.mark.parametrize("name", ["euler", "heun", "dpmpp_2m", "dpmpp_2m_sde", "unipc"])
def test_schedules_that_a_models_config_names(name: str, flag: str) -> None:
    config: Mapping[str, object] = {**BASE, flag: True}
    predict = network()
    for steps, start in ((4, 2), (20, 9)):
        expected = by_diffusers(solver_of(name, config), steps, start, predict)
        table = table_for(name, steps, NoiseSchedule.from_config(config), start=start)
        generator = torch.Generator().manual_seed(11)
        *_, found = run_table(table, begun(table, generator), generator, predict)
        check(found, expected)


@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
@pytest.mark.parametrize("name", list(DIFFUSERS))
def test_spacing_follows_the_models_config(name: str, spacing: str) -> None:
    config: Mapping[str, object] = {**BASE, "timestep_spacing": spacing}
    if "timestep_spacing" not in inspect.signature(type(solver_of(name, config))).parameters:
        pytest.skip("diffusers' solver takes no such config")
    predict = network()
    for steps, start in ((2, 1), (4, 2), (20, 9)):
        expected = by_diffusers(solver_of(name, config), steps, start, predict)
        table = table_for(name, steps, NoiseSchedule.from_config(config), start=start)
        generator = torch.Generator().manual_seed(11)
        *_, found = run_table(table, begun(table, generator), generator, predict)
        check(found, expected)


@pytest.mark.parametrize("spacing", [None, *SCHEDULES])
@pytest.mark.parametrize("name", list(SAMPLERS))
def test_noise_falls_from_step_to_step_and_ends_at_none(name: str, spacing: str | None) -> None:
    for prediction in ("sample", "flow_prediction"):
        schedule = NoiseSchedule(prediction_type=prediction)  # type: ignore[arg-type]
        for start in (0, 3):
            table = table_for(name, 8, schedule, spacing, start=start)
            levels = [table.begins, *(level for level in table.reached if level)]
            noises = [level.noise for level in levels]
            assert noises == sorted(noises, reverse=True)
            assert len(levels) == 8 - start + 1
            assert levels[-1] == (1.0, 0.0)


def test_the_latents_are_mixed_as_the_table_says() -> None:
    """A deterministic solver around a perfect network never leaves picture and noise."""
    schedule = NoiseSchedule(prediction_type="sample")
    for name in ("ddim", "euler", "heun", "dpm2", "dpmpp_2m", "unipc", "lms"):
        table = table_for(name, 8, schedule, "karras", start=2)
        generator = torch.Generator().manual_seed(3)
        noise = torch.randn(SHAPE, generator=generator)
        latents = table.begins.signal * PICTURE + table.begins.noise * noise
        path = run_table(table, latents, generator, lambda *_: PICTURE)
        for level, found in zip(table.reached[:-1], path, strict=False):
            if level is not None:
                expected = level.signal * PICTURE + level.noise * noise
                torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_a_table_that_ends_midway_is_the_whole_ones_first_part(name: str) -> None:
    schedule = NoiseSchedule()
    whole, part = table_for(name, 8, schedule), table_for(name, 8, schedule, stop=5)
    assert len(part) < len(whole)
    assert part.reached[-1] is not None
    assert part.reached == whole.reached[: len(part)]
    assert len([level for level in part.reached if level]) == 5
    assert torch.equal(torch.stack(part.rows), torch.stack(whole.rows[: len(part)]))
    rest = table_for(name, 8, schedule, start=5)
    assert rest.begins.noise == pytest.approx(part.reached[-1].noise, rel=0.05)
