"""Solvers of one evaluation a step that look back on earlier ones."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np

from sfumato.engine.samplers.euler import first_order
from sfumato.engine.samplers.grids import Grid, levels, previous
from sfumato.engine.samplers.tables import (
    EARLIER_1,
    EARLIER_2,
    EARLIER_3,
    ESTIMATE,
    LATENTS,
    NOISE,
    SAVED,
    Estimate,
    Evaluation,
    denoised,
)
from sfumato.engine.schedules import Array, Level, NoiseSchedule, Prediction


def lms(schedule: NoiseSchedule, steps: int, name: str, start: int = 0) -> list[Evaluation]:
    """Linear multistep (Adams-Bashforth on uneven steps) of order 4, as k-diffusion has it.

    What is remembered is the slope; Lagrange's polynomials through the last four are integrated.
    """
    visited, made = levels(schedule, steps, name, Grid.EULER, start), list[Evaluation]()
    slopes = (ESTIMATE, EARLIER_1, EARLIER_2, EARLIER_3)
    for step, (at, to) in enumerate(pairwise(visited)):
        known = [visited[step - back].noise for back in range(min(step + 1, 4))]
        moved = LATENTS / at.scale
        for weight, slope in zip(_adams(known, to.noise), slopes, strict=False):
            moved = moved + weight * slope
        guess = denoised(schedule.prediction_type, at)
        slope_of = Estimate((1 / at.scale - guess.latents) / at.noise, -guess.output / at.noise)
        glimpse = LATENTS / to.scale - to.noise * ESTIMATE
        made.append(Evaluation(at, to, slope_of, to.scale * moved, glimpse=glimpse))
    return made


def _adams(known: list[float], end: float) -> list[float]:
    """Integrals from the first of ``known`` to ``end`` of the polynomials that are 1 at one each."""
    points, weights = np.polynomial.legendre.leggauss(2)  # exact up to degree 3
    half = (end - known[0]) / 2
    places = known[0] + half * (points + 1)
    integrals = []
    for one in known:
        factors = [(places - other) / (one - other) for other in known if other != one]
        integrals.append(float(half * (weights * np.prod(factors, axis=0)).sum()))
    return integrals


def plms(schedule: NoiseSchedule, steps: int, name: str, start: int = 0) -> list[Evaluation]:
    """Pseudo linear multistep, https://arxiv.org/abs/2202.09778, without Runge-Kutta steps.

    The first step is taken twice, the second time with the mean of both outputs; what is
    remembered is the network's output. That of the second evaluation is passed over afterwards,
    so the first is saved until three others are there.
    """
    prediction, pairs = schedule.prediction_type, previous(schedule, steps, name, start)
    at, to = pairs[0]
    made = [_plms_step(prediction, at, to, LATENTS, ESTIMATE, saved=LATENTS)]
    if len(pairs) == 1:
        return made
    made[0] = replace(made[0], midway=True)
    second = pairs[1][0]
    if to.timestep != second.timestep:  # where steps are not all as wide as on the whole
        at, to = schedule.level_of(second.timestep + at.timestep - to.timestep), second
    mean = (ESTIMATE + EARLIER_1) / 2
    again = _plms_step(prediction, at, to, SAVED, mean, saved=EARLIER_1)
    made.append(replace(again, at=second))
    combinations = (
        (3 * ESTIMATE - SAVED) / 2,
        (23 * ESTIMATE - 16 * EARLIER_1 + 5 * SAVED) / 12,
        (55 * ESTIMATE - 59 * EARLIER_1 + 37 * EARLIER_2 - 9 * SAVED) / 24,
    )
    settled = (55 * ESTIMATE - 59 * EARLIER_1 + 37 * EARLIER_2 - 9 * EARLIER_3) / 24
    for step, (at, to) in enumerate(pairs[1:]):
        combined = combinations[step] if step < len(combinations) else settled
        made.append(_plms_step(prediction, at, to, LATENTS, combined, saved=SAVED))
    return made


def _plms_step(
    prediction: Prediction,
    at: Level,
    to: Level,
    latents: Array,
    output: Array,
    *,
    saved: Array,
) -> Evaluation:
    """From the combined output, both the finished latents and the noise; then DDIM's step."""
    guess = denoised(prediction, at)
    finished = guess.latents * latents + guess.output * output
    noise = (latents - at.alpha * finished) / at.sigma
    after = denoised(prediction, to)
    glimpse = after.latents * LATENTS + after.output * ESTIMATE
    following = to.alpha * finished + to.sigma * noise
    return Evaluation(at, to, Estimate(0.0, 1.0), following, saved, glimpse)


def dpmpp_2m(schedule: NoiseSchedule, steps: int, name: str, start: int = 0) -> list[Evaluation]:
    """DPM-Solver++(2M), midpoint form, https://arxiv.org/abs/2211.01095, algorithm 2.

    The first step has no estimate to look back on, and the last, to no noise at all, needs none:
    both are of order 1.
    """
    visited, made = levels(schedule, steps, name, Grid.MULTISTEP, start), list[Evaluation]()
    for step, (at, to) in enumerate(pairwise(visited)):
        following = first_order(at, to)
        if step > 0 and to.sigma > 0:
            width = to.log_snr - at.log_snr
            gain = -to.alpha * math.expm1(-width)
            following = following + gain / 2 * _difference(visited, step, width)
        made.append(Evaluation(at, to, denoised(schedule.prediction_type, at), following))
    return made


def dpmpp_2m_sde(
    schedule: NoiseSchedule, steps: int, name: str, start: int = 0
) -> list[Evaluation]:
    """DPM-Solver++(2M) for the diffusion SDE (k-diffusion, eta 1, midpoint)."""
    visited, made = levels(schedule, steps, name, Grid.MULTISTEP, start), list[Evaluation]()
    for step, (at, to) in enumerate(pairwise(visited)):
        following = _sde(at, to)
        if step > 0 and to.sigma > 0:
            width = to.log_snr - at.log_snr
            gain = -to.alpha * math.expm1(-2 * width)
            following = following + gain / 2 * _difference(visited, step, width)
        made.append(Evaluation(at, to, denoised(schedule.prediction_type, at), following))
    return made


def dpmpp_3m_sde(
    schedule: NoiseSchedule, steps: int, name: str, start: int = 0
) -> list[Evaluation]:
    """The same of order 3, with diffusers' customs: under 15 steps the last but one is of order 2."""
    visited, made = levels(schedule, steps, name, Grid.MULTISTEP, start), list[Evaluation]()
    for step, (at, to) in enumerate(pairwise(visited)):
        following = _sde(at, to)
        if step > 0 and to.sigma > 0:
            width = to.log_snr - at.log_snr
            gain = -math.expm1(-2 * width)
            slope = _difference(visited, step, width)
            if step == 1 or (step == len(visited) - 3 and steps < 15):
                following = following + to.alpha * gain / 2 * slope
            else:
                before, oldest = visited[step - 1], visited[step - 2]
                near = (at.log_snr - before.log_snr) / width
                far = (before.log_snr - oldest.log_snr) / width
                bend = (slope - (EARLIER_1 - EARLIER_2) / far) / (near + far)
                double = 2 * width
                following = following + to.alpha * (
                    (1 - gain / double) * (slope + near * bend)
                    + ((gain - double) / double**2 - 0.5) * bend
                )
        made.append(Evaluation(at, to, denoised(schedule.prediction_type, at), following))
    return made


def _difference(visited: list[Level], step: int, width: float) -> Array:
    """How the estimate changed over the step before, per width of this one, in log SNR."""
    back = visited[step].log_snr - visited[step - 1].log_snr
    change: Array = (ESTIMATE - EARLIER_1) * (width / back)
    return change


def _sde(at: Level, to: Level) -> Array:
    """The first-order step of the SDE; without noise at its end, the estimate itself."""
    if to.sigma == 0:
        return ESTIMATE * to.alpha
    fall = math.exp(at.log_snr - to.log_snr)
    step: Array = (
        to.sigma / at.sigma * fall * LATENTS
        + to.alpha * (1 - fall**2) * ESTIMATE
        + to.sigma * math.sqrt(1 - fall**2) * NOISE
    )
    return step
