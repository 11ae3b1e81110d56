"""What holds for every table, whatever the solver."""

from __future__ import annotations

import itertools

import pytest
import torch

from sfumato.core.samplers import SAMPLERS, SCHEDULES
from sfumato.engine.samplers import Coefficients, State, advance, table_for
from sfumato.engine.schedules import NoiseSchedule
from tests.unit.engine.samplers.running import SHAPE, by_table, network

TWICE = {"heun", "dpm2", "dpm2_a", "dpmpp_2s_a", "dpmpp_sde"}


def evaluations(name: str, steps: int) -> int:
    """The last step, to no noise at all, is one evaluation."""
    if name in TWICE:
        return 2 * steps - 1
    return steps + 1 if name == "plms" and steps > 1 else steps


@pytest.mark.parametrize("name", list(SAMPLERS))
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample", "flow_prediction"])
def test_coefficients_are_finite_for_every_schedule_and_step_count(
    name: str, prediction: str
) -> None:
    for spacing, zero_snr, config in itertools.product(
        [None, *SCHEDULES], [False, True], ["leading", "linspace", "trailing"]
    ):
        schedule = NoiseSchedule(
            prediction_type=prediction,  # type: ignore[arg-type]
            timestep_spacing=config,  # type: ignore[arg-type]
            rescale_betas_zero_snr=zero_snr,
        )
        for steps in (1, 2, 3, 7) if zero_snr or config != "linspace" else (1, 2, 3, 150):
            table = table_for(name, steps, schedule, spacing)
            assert torch.stack(table.rows).isfinite().all(), (spacing, zero_snr, config, steps)
            assert len(table) == evaluations(name, steps) == len(table.glimpses)


@pytest.mark.parametrize("spacing", list(SCHEDULES))
@pytest.mark.parametrize("name", list(SAMPLERS))
def test_a_network_that_knows_the_picture_ends_at_it(name: str, spacing: str) -> None:
    """Whatever the noise and the levels: all that is left is the last one's, if any."""
    schedule = NoiseSchedule(prediction_type="sample")
    picture = torch.randn(SHAPE, generator=torch.Generator().manual_seed(5))
    for steps in (2, 10):
        found = by_table(name, schedule, steps, lambda *_: picture, spacing)
        # DDIM, PLMS and TCD end at the first training timestep's noise rate, 0.029.
        assert (found - picture).abs().max() < 0.15


def test_a_mixed_batch_is_each_slot_alone() -> None:
    predict, schedule = network(), NoiseSchedule()
    names = list(SAMPLERS)
    tables = [table_for(name, 6, schedule) for name in names]
    memory = max(table.memory for table in tables)
    shape = (len(names), *SHAPE[1:])
    noise_of = torch.Generator().manual_seed(2)
    state = State(torch.randn(shape, generator=torch.Generator().manual_seed(1)))
    alone = [State(state.latents[n : n + 1]) for n in range(len(names))]
    for row in range(min(map(len, tables))):
        noise = torch.randn(shape, generator=noise_of)
        places = [(table, row) for table in tables]
        coefficients = Coefficients.gather(places)
        output = predict(state.latents, coefficients.timesteps)
        state = advance(state, output, noise, coefficients, memory)
        for n, place in enumerate(places):
            own = Coefficients.gather([place])
            drawn = noise[n : n + 1] if place[0].noisy(row) else None
            answer = predict(alone[n].latents, own.timesteps)
            alone[n] = advance(alone[n], answer, drawn, own, place[0].memory)
            torch.testing.assert_close(
                state.latents[n : n + 1], alone[n].latents, rtol=1e-4, atol=1e-4
            )


def test_columns_that_no_slot_needs_are_left_out() -> None:
    table = table_for("euler", 4, NoiseSchedule())
    coefficients = Coefficients.gather([(table, 0), (table, 2)])
    assert sum(column is not None for column in coefficients.columns[3:10]) == 2
    assert not coefficients.saves
    assert table.memory == 1


def test_more_steps_than_a_model_was_distilled_on_still_fall() -> None:
    for name in ("lcm", "tcd"):
        table = table_for(name, 150, NoiseSchedule())
        timesteps = [table.timestep(row) for row in range(len(table))]
        assert timesteps == sorted(set(timesteps), reverse=True)
