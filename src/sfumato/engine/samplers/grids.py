"""The noise levels that a sampler visits: the schedules, and the customs of each kind of solver."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

import numpy as np

from sfumato.engine.samplers.quantiles import beta_quantiles
from sfumato.engine.schedules import Array, Level, NoiseSchedule

#: Where every schedule ends: no noise at all.
END = Level(timestep=0.0, alpha=1.0, sigma=0.0, scale=1.0)

#: https://arxiv.org/abs/2404.14507: levels for ten steps, as its authors published them.
_ALIGN_YOUR_STEPS = {
    "sd1": (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029),
    "sdxl": (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029),
}
#: The paper's value, https://arxiv.org/abs/2206.00364, equation 5.
_RHO = 7.0


class Grid(Enum):
    """A kind of solver, by how diffusers spaces its timesteps and whether it rounds them."""

    EULER = auto()  #: evenly from the first timestep to the last, not rounded
    DPM2 = auto()  #: the same, but Karras' timesteps are rounded
    MULTISTEP = auto()  #: evenly with one to spare, whole timesteps
    UNIPC = auto()  #: the same; of a flow, another range
    DISCRETE = auto()  #: DDIM and its like: leading, whole timesteps
    DISTILLED = auto()  #: a choice of the timesteps that a model was distilled on

    @property
    def whole(self) -> bool:
        """Whether the network is given whole timesteps."""
        return self in (Grid.MULTISTEP, Grid.UNIPC)

    @property
    def even(self) -> bool:
        """Whether the timesteps are evenly spaced down to the last."""
        return self in (Grid.EULER, Grid.DPM2)


def levels(
    schedule: NoiseSchedule, steps: int, name: str, grid: Grid, start: int = 0
) -> list[Level]:
    """The ``steps`` levels that a schedule visits, and :data:`END`.

    Args:
        start: how many of them are left out, the noisiest first.
    """
    return [*_visited(schedule, steps, name, grid)[start:], END]


def previous(
    schedule: NoiseSchedule, steps: int, name: str, start: int = 0
) -> list[tuple[Level, Level]]:
    """Where each step of DDIM and PLMS begins, and where it ends.

    In the uniform schedule it ends as many training timesteps further as a step is wide on the
    whole, wherever the next one begins; the last, at the noise that the model's config says.
    """
    visited = _visited(schedule, steps, name, Grid.DISCRETE)
    if name != "uniform" or schedule.prediction_type == "flow_prediction":
        return list(zip(visited, [*visited[1:], END], strict=True))[start:]
    last = END if schedule.set_alpha_to_one else schedule.level_of(0.0)
    width = schedule.num_train_timesteps // steps
    ends = [at.timestep - width for at in visited]
    return [
        (at, schedule.level_of(end) if end >= 0 else last)
        for at, end in zip(visited[start:], ends[start:], strict=True)
    ]


def _visited(schedule: NoiseSchedule, steps: int, name: str, grid: Grid) -> list[Level]:
    if name == "uniform":
        return _uniform(schedule, steps, grid)
    if name in _TIMESTEPS:
        bare = grid in (Grid.DISCRETE, Grid.DISTILLED)
        times = _TIMESTEPS[name](schedule, steps)
        return [schedule.level_of(time, may_be_bare=bare) for time in times]
    if name == "align_your_steps":
        published = np.array(_ALIGN_YOUR_STEPS[schedule.align_your_steps])
        places = np.linspace(0, len(published) - 1, steps)
        ratios = np.exp(np.interp(places, np.arange(len(published)), np.log(published)))
        return [schedule.level_at_ratio(ratio) for ratio in ratios]
    if grid.even:
        spread = _uniform(schedule, steps, grid)
        most, least = spread[0].noise, spread[-1].noise
    else:
        most, least = schedule.noise_at(schedule.num_train_timesteps - 1), schedule.noise_at(0)
    return [
        schedule.level(noise, _timestep(schedule, noise, name, grid))
        for noise in _NOISES[name](steps, most, least)
    ]


def _timestep(schedule: NoiseSchedule, noise: float, name: str, grid: Grid) -> float:
    """What the network is told: to the nearest whole timestep, or cut to one, as diffusers does."""
    exact = schedule.timestep_of(noise)
    if name == "karras" and (grid.whole or grid is Grid.DPM2):
        cosine = schedule.beta_schedule == "squaredcos_cap_v2"
        if not (cosine and grid is Grid.MULTISTEP):
            return float(np.round(exact))
    if not grid.whole:
        return exact
    # A hair less: diffusers' way through logarithms falls short of the last timestep.
    return max(0.0, float(np.floor(exact - 1e-9)))


def _uniform(schedule: NoiseSchedule, steps: int, grid: Grid) -> list[Level]:
    if schedule.prediction_type == "flow_prediction":
        noises = _uniform_flow(schedule, steps, grid)
        return [schedule.level(noise, _timestep(schedule, noise, "", grid)) for noise in noises]
    if grid is Grid.DISTILLED:
        return [schedule.level_of(time) for time in _distilled(schedule, steps)]
    if grid is Grid.DISCRETE:
        leading = np.round(schedule.timesteps(steps, "leading"))
        return [schedule.level_of(time) for time in leading]
    timesteps = schedule.timesteps(steps, "linspace", spare=0 if grid.even else 1)
    if grid.whole:
        timesteps = np.round(timesteps)
    return [schedule.level_of(time, may_be_bare=False) for time in timesteps]


def _uniform_flow(schedule: NoiseSchedule, steps: int, grid: Grid) -> Array:
    least = 1 / schedule.num_train_timesteps
    if grid is Grid.MULTISTEP:
        spaced = np.linspace(1 - least, 0, steps + 1)[:-1]
    elif grid is Grid.UNIPC:
        spaced = np.linspace(1, least, steps + 1)[:-1]
    else:  # the lowest level is shifted twice, as diffusers does
        spaced = np.linspace(1, float(schedule.shifted(np.array(least))), steps)
    noises = schedule.shifted(spaced)
    if grid is Grid.UNIPC:  # in float32, as diffusers: its log SNR tells the difference
        noises[0] = np.float32(min(noises[0], 1 - 1e-6))
    return noises


def _distilled(schedule: NoiseSchedule, steps: int) -> Array:
    """A model is distilled on ``original_inference_steps`` timesteps; more steps than those widen
    the grid to as many."""
    original = max(schedule.original_inference_steps, steps)
    grid = np.arange(1, original + 1) * (schedule.num_train_timesteps // original) - 1
    chosen = np.floor(np.linspace(0, original, steps, endpoint=False)).astype(int)
    return np.asarray(grid[::-1][chosen], dtype=np.float64)


def _sgm_uniform(schedule: NoiseSchedule, steps: int) -> Array:
    """Evenly, one more than asked for, without the last (Stability's generative-models)."""
    return np.linspace(schedule.num_train_timesteps - 1, 0, steps + 1)[:-1]


def _trailing(schedule: NoiseSchedule, steps: int) -> Array:
    """https://arxiv.org/abs/2305.08891, table 2: always from the very last timestep."""
    count = schedule.num_train_timesteps
    return np.round(np.arange(count, 0, -count / steps))[:steps] - 1


def _simple(schedule: NoiseSchedule, steps: int) -> Array:
    """Every so many training timesteps, cut to whole ones."""
    count = schedule.num_train_timesteps
    return np.asarray(count - 1 - np.floor(np.arange(steps) * (count / steps)))


_TIMESTEPS: dict[str, Callable[[NoiseSchedule, int], Array]] = {
    "sgm_uniform": _sgm_uniform,
    "trailing": _trailing,
    "simple": _simple,
}


def _karras(steps: int, most: float, least: float) -> Array:
    ramp = np.linspace(most ** (1 / _RHO), least ** (1 / _RHO), steps)
    return np.asarray(ramp**_RHO)


def _exponential(steps: int, most: float, least: float) -> Array:
    return np.exp(np.linspace(np.log(most), np.log(least), steps))


def _beta(steps: int, most: float, least: float) -> Array:
    """https://arxiv.org/abs/2407.12173, over the noise as diffusers has it; A1111: over time."""
    return least + beta_quantiles(1 - np.linspace(0, 1, steps), 0.6) * (most - least)


_NOISES: dict[str, Callable[[int, float, float], Array]] = {
    "karras": _karras,
    "exponential": _exponential,
    "beta": _beta,
}
