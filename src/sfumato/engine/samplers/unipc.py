"""UniPC: a predictor, and a corrector that makes each point anew once the network has seen it."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from sfumato.engine.samplers.euler import first_order
from sfumato.engine.samplers.grids import Grid, levels
from sfumato.engine.samplers.tables import (
    EARLIER_1,
    EARLIER_2,
    ESTIMATE,
    LATENTS,
    SAVED,
    Evaluation,
    denoised,
)
from sfumato.engine.schedules import Array, Level, NoiseSchedule


def unipc(schedule: NoiseSchedule, steps: int, name: str, start: int = 0) -> list[Evaluation]:
    """UniPC of order 2 with B(h) = e^h - 1, https://arxiv.org/abs/2302.04867, algorithms 5 and 6.

    What is saved is the corrected point that the next is predicted from. First and last step are
    of order 1.
    """
    visited, made = levels(schedule, steps, name, Grid.UNIPC, start), list[Evaluation]()
    order = 1
    for step, (at, to) in enumerate(pairwise(visited)):
        corrected = LATENTS if step == 0 else _corrected(visited, step, order)
        order = min(2, len(visited) - 1 - step, step + 1)
        following = _predicted(visited, step, order, corrected)
        guess = denoised(schedule.prediction_type, at)
        made.append(Evaluation(at, to, guess, following, corrected))
    return made


def _predicted(visited: list[Level], step: int, order: int, corrected: Array) -> Array:
    at, to = visited[step], visited[step + 1]
    plain = first_order(at, to)
    following: Array = plain[0] * corrected + plain[2] * ESTIMATE
    if order == 2:
        width = to.log_snr - at.log_snr
        ratio = (visited[step - 1].log_snr - at.log_snr) / width
        slope = (EARLIER_1 - ESTIMATE) / ratio
        following = following - to.alpha * math.expm1(-width) / 2 * slope
    return following


def _corrected(visited: list[Level], step: int, order: int) -> Array:
    """The point at ``step`` again, from the one before and the estimate made at this one."""
    at, to = visited[step - 1], visited[step]
    width = to.log_snr - at.log_snr
    plain = first_order(at, to)
    moved = plain[0] * SAVED + plain[2] * EARLIER_1
    change = ESTIMATE - EARLIER_1
    if order == 1:
        correction = change / 2
    else:
        ratio = (visited[step - 2].log_snr - at.log_snr) / width
        phi_2 = math.expm1(-width) / -width - 1
        phi_3 = phi_2 / -width - 1 / 2
        right = np.array([phi_2, 2 * phi_3]) / math.expm1(-width)
        older, newer = np.linalg.solve(np.array([[1.0, 1.0], [ratio, 1.0]]), right)
        correction = older * (EARLIER_2 - EARLIER_1) / ratio + newer * change
    point: Array = moved - to.alpha * math.expm1(-width) * correction
    return point
