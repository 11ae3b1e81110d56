"""Solvers of two evaluations a step. The last step, to no noise at all, is Euler's: one evaluation."""

from __future__ import annotations

import math
from itertools import pairwise

from sfumato.engine.samplers.euler import first_order
from sfumato.engine.samplers.grids import Grid, levels
from sfumato.engine.samplers.tables import (
    EARLIER_1,
    ESTIMATE,
    LATENTS,
    NOISE,
    SAVED,
    Evaluation,
    denoised,
)
from sfumato.engine.schedules import Array, Level, NoiseSchedule


def heun(schedule: NoiseSchedule, steps: int, name: str, start: int = 0) -> list[Evaluation]:
    """Heun's method, https://arxiv.org/abs/2206.00364, algorithm 1: a slope at both ends."""
    prediction, made = schedule.prediction_type, list[Evaluation]()
    visited = levels(schedule, steps, name, Grid.EULER, start)
    for at, to in pairwise(visited):
        made.append(
            Evaluation(
                at, to, denoised(prediction, at), first_order(at, to), LATENTS, midway=to.sigma > 0
            )
        )
        if to.sigma == 0:
            break
        here = _slope(at, SAVED, EARLIER_1)
        there = _slope(to, LATENTS, ESTIMATE)
        following = _along(at, to, (here + there) / 2)
        made.append(Evaluation(to, to, denoised(prediction, to), following))
    return made


def dpm2(schedule: NoiseSchedule, steps: int, name: str, start: int = 0) -> list[Evaluation]:
    """DPM-Solver-2, https://arxiv.org/abs/2206.00927, as k-diffusion has it: the slope midway."""
    prediction, made = schedule.prediction_type, list[Evaluation]()
    visited = levels(schedule, steps, name, Grid.DPM2, start)
    for at, to in pairwise(visited):
        if to.sigma == 0:
            made.append(Evaluation(at, to, denoised(prediction, at), first_order(at, to)))
            break
        middle = schedule.level(math.sqrt(at.noise * to.noise))
        made += [
            Evaluation(
                at, middle, denoised(prediction, at), first_order(at, middle), LATENTS, midway=True
            ),
            Evaluation(
                middle,
                to,
                denoised(prediction, middle),
                _along(at, to, _slope(middle, LATENTS, ESTIMATE)),
            ),
        ]
    return made


def dpm2_a(schedule: NoiseSchedule, steps: int, name: str, start: int = 0) -> list[Evaluation]:
    """DPM2 that falls lower, and climbs back with fresh noise."""
    prediction, made = schedule.prediction_type, list[Evaluation]()
    visited = levels(schedule, steps, name, Grid.DPM2, start)
    for at, to in pairwise(visited):
        if to.sigma == 0:
            made.append(Evaluation(at, to, denoised(prediction, at), first_order(at, to)))
            break
        down, up = split(at.ratio, to.ratio)
        middle = schedule.level_at_ratio(math.sqrt(at.ratio * down))
        slope = (LATENTS / middle.alpha - ESTIMATE) / middle.ratio
        following = to.alpha * (SAVED / at.alpha + (down - at.ratio) * slope + up * NOISE)
        made += [
            Evaluation(
                at, middle, denoised(prediction, at), first_order(at, middle), LATENTS, midway=True
            ),
            Evaluation(middle, to, denoised(prediction, middle), following),
        ]
    return made


def dpmpp_2s_a(schedule: NoiseSchedule, steps: int, name: str, start: int = 0) -> list[Evaluation]:
    """DPM-Solver++(2S), https://arxiv.org/abs/2211.01095, algorithm 1, with ancestral noise."""
    prediction, made = schedule.prediction_type, list[Evaluation]()
    visited = levels(schedule, steps, name, Grid.EULER, start)
    for at, to in pairwise(visited):
        if to.sigma == 0:
            made.append(Evaluation(at, to, denoised(prediction, at), first_order(at, to)))
            break
        down, up = split(at.ratio, to.ratio)
        middle = schedule.level_at_ratio(math.sqrt(at.ratio * down))
        shrink = down / at.ratio
        following = to.alpha * (shrink * SAVED / at.alpha + (1 - shrink) * ESTIMATE + up * NOISE)
        made += [
            Evaluation(
                at, middle, denoised(prediction, at), first_order(at, middle), LATENTS, midway=True
            ),
            Evaluation(middle, to, denoised(prediction, middle), following),
        ]
    return made


def dpmpp_sde(schedule: NoiseSchedule, steps: int, name: str, start: int = 0) -> list[Evaluation]:
    """DPM-Solver++ for the diffusion SDE, of order 2 (k-diffusion, eta 1, r 1/2).

    Both evaluations of a step take their noise from one Brownian motion over the noise levels, so
    the second's is partly the first's: what the first drew is read back from where it led.
    """
    prediction, made = schedule.prediction_type, list[Evaluation]()
    visited = levels(schedule, steps, name, Grid.EULER, start)
    for at, to in pairwise(visited):
        if to.sigma == 0:
            made.append(Evaluation(at, to, denoised(prediction, at), first_order(at, to)))
            break
        middle = schedule.level_at_ratio(math.sqrt(at.ratio * to.ratio))
        down, up = split(at.ratio, middle.ratio)
        first = _fallen(at, down, LATENTS, ESTIMATE) + up * NOISE
        drawn = (LATENTS / middle.alpha - _fallen(at, down, SAVED, EARLIER_1)) / up
        down, up = split(at.ratio, to.ratio)
        shared = (at.ratio - middle.ratio) / (at.ratio - to.ratio)
        noise = math.sqrt(shared) * drawn + math.sqrt(1 - shared) * NOISE
        second = _fallen(at, down, SAVED, ESTIMATE) + up * noise
        made += [
            Evaluation(
                at, middle, denoised(prediction, at), middle.alpha * first, LATENTS, midway=True
            ),
            Evaluation(middle, to, denoised(prediction, middle), to.alpha * second),
        ]
    return made


def split(here: float, there: float) -> tuple[float, float]:
    """How far an ancestral step falls, and how much noise takes it back up, as noise over signal."""
    up = there * math.sqrt(max(0.0, 1 - (there / here) ** 2))
    return there**2 / here, up


def _slope(level: Level, latents: Array, estimate: Array) -> Array:
    slope: Array = (latents / level.scale - estimate) / level.noise
    return slope


def _along(at: Level, to: Level, slope: Array) -> Array:
    step: Array = to.scale * (SAVED / at.scale + (to.noise - at.noise) * slope)
    return step


def _fallen(at: Level, down: float, latents: Array, estimate: Array) -> Array:
    """The first-order step to a ratio of ``down``, in the space where the signal is not scaled."""
    shrink = down / at.ratio
    step: Array = shrink * latents / at.alpha + (1 - shrink) * estimate
    return step
