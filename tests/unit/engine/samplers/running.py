"""A stand-in for the network, and a table run around it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from sfumato.engine.samplers import Coefficients, State, advance, table_for
from sfumato.engine.schedules import NoiseSchedule

#: Stable Diffusion's, as its scheduler_config.json has it.
BASE: Mapping[str, object] = {
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
        mixed = torch.einsum("ij,njhw->nihw", mix.to(latents), latents)
        return torch.tanh(mixed + timesteps.to(latents).view(-1, 1, 1, 1) / 1000)

    return predict


def by_table(
    name: str, schedule: NoiseSchedule, steps: int, predict: Network, spacing: str | None = None
) -> Tensor:
    """Where the table ends, its noise drawn from seed 11."""
    table = table_for(name, steps, schedule, spacing)
    generator = torch.Generator().manual_seed(11)
    state = State(torch.randn(SHAPE, generator=generator) * table.initial_scale)
    for row in range(len(table)):
        coefficients = Coefficients.gather([(table, row)])
        output = predict(state.latents, coefficients.timesteps)
        noise = torch.randn(SHAPE, generator=generator) if table.noisy(row) else None
        state = advance(state, output, noise, coefficients, table.memory)
    return state.latents
