"""Solvers of one evaluation a step that look back on none: Euler, DDIM, and the ancestral ones."""

from __future__ import annotations

import math
from itertools import pairwise

from sfumato.engine.samplers.grids import Grid, levels, previous
from sfumato.engine.samplers.tables import ESTIMATE, LATENTS, NOISE, Evaluation, denoised
from sfumato.engine.schedules import Array, Level, NoiseSchedule


def euler(schedule: NoiseSchedule, steps: int, name: str, start: int = 0) -> list[Evaluation]:
    """Euler's method, https://arxiv.org/abs/2206.00364, algorithm 1 without its correction."""
    visited = levels(schedule, steps, name, Grid.EULER, start)
    return [
        Evaluation(at, to, denoised(schedule.prediction_type, at), first_order(at, to))
        for at, to in pairwise(visited)
    ]


def ddim(schedule: NoiseSchedule, steps: int, name: str, start: int = 0) -> list[Evaluation]:
    """DDIM without noise (eta 0), https://arxiv.org/abs/2010.02502, equation 12."""
    prediction = schedule.prediction_type
    return [
        Evaluation(at, to, denoised(prediction, at), first_order(at, to))
        for at, to in previous(schedule, steps, name, start)
    ]


def euler_a(schedule: NoiseSchedule, steps: int, name: str, start: int = 0) -> list[Evaluation]:
    """Euler's method with fresh noise: falls lower, and climbs back (k-diffusion, eta 1)."""
    visited = levels(schedule, steps, name, Grid.EULER, start)
    return [
        Evaluation(at, to, denoised(schedule.prediction_type, at), ancestral(at, to))
        for at, to in pairwise(visited)
    ]


def ddpm(schedule: NoiseSchedule, steps: int, name: str, start: int = 0) -> list[Evaluation]:
    """Ancestral sampling with the small variance, https://arxiv.org/abs/2006.11239, equation 7.

    It is Euler a's step, on timesteps of its own.
    """
    visited = levels(schedule, steps, name, Grid.DISCRETE, start)
    return [
        Evaluation(at, to, denoised(schedule.prediction_type, at), ancestral(at, to))
        for at, to in pairwise(visited)
    ]


def first_order(at: Level, to: Level) -> Array:
    """Straight on from ``at`` to ``to``: the noise falls, and the estimate takes its place."""
    keep = to.sigma / at.sigma
    step: Array = keep * LATENTS + (to.alpha - at.alpha * keep) * ESTIMATE
    return step


def ancestral(at: Level, to: Level) -> Array:
    """The posterior of ``to`` given ``at`` and the estimate; written so that alpha may be 0."""
    shrink = to.sigma * at.alpha / (at.sigma * to.alpha)
    step: Array = (
        shrink * to.sigma / at.sigma * LATENTS
        + to.alpha * (1 - shrink**2) * ESTIMATE
        + to.sigma * math.sqrt(max(0.0, 1 - shrink**2)) * NOISE
    )
    return step
