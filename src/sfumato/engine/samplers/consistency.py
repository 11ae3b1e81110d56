"""Samplers of models that were distilled to jump: LCM and TCD."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from sfumato.engine.samplers.grids import Grid, levels
from sfumato.engine.samplers.tables import ESTIMATE, LATENTS, NOISE, Evaluation, denoised
from sfumato.engine.schedules import NoiseSchedule

#: How much of a step TCD's noise makes up, the paper's gamma: diffusers' default.
_GAMMA = 0.3


def lcm(schedule: NoiseSchedule, steps: int, name: str, start: int = 0) -> list[Evaluation]:
    """Latent consistency, https://arxiv.org/abs/2310.04378: jump to x_0, then noise it again."""
    visited, made = levels(schedule, steps, name, Grid.DISTILLED, start), list[Evaluation]()
    for at, to in pairwise(visited):
        scaled = at.timestep * schedule.timestep_scaling
        skip = 0.25 / (scaled**2 + 0.25)
        out = scaled / math.sqrt(scaled**2 + 0.25)
        following = to.alpha * (skip * LATENTS + out * ESTIMATE) + to.sigma * NOISE
        made.append(Evaluation(at, to, denoised(schedule.prediction_type, at), following))
    return made


def tcd(schedule: NoiseSchedule, steps: int, name: str, start: int = 0) -> list[Evaluation]:
    """Trajectory consistency, https://arxiv.org/abs/2402.19159, algorithm 4: jump below the next
    timestep, then noise up to it. It ends at the first of the training timesteps.
    """
    visited, made = levels(schedule, steps, name, Grid.DISTILLED, start), list[Evaluation]()
    visited[-1] = schedule.level_of(0.0)
    for at, to in pairwise(visited):
        last = to is visited[-1]
        below = to if last else schedule.level_of(np.floor((1 - _GAMMA) * to.timestep))
        climb = to.alpha / below.alpha
        up = math.sqrt(max(0.0, to.sigma**2 - (climb * below.sigma) ** 2))
        noise = (LATENTS - at.alpha * ESTIMATE) / at.sigma
        following = to.alpha * ESTIMATE + climb * below.sigma * noise + up * NOISE
        made.append(Evaluation(at, to, denoised(schedule.prediction_type, at), following))
    return made
