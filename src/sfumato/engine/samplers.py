"""Every sampler is a table of coefficients, one row a step, applied to the whole batch at once.

All tables work in the variance-preserving space, where the network takes the latents as they are::

    denoised = from_latents · x + from_output · network(x, timestep)
    x'       = keep · x + toward · denoised + history · denoised_before + noise · fresh_noise

Built in float64, stored and applied in float32. In this space Euler and DDIM are one formula on
different timesteps, and DPM++ 2M adds the term for the step before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from sfumato.core.samplers import resolve_sampler
from sfumato.engine.schedules import Array, NoiseSchedule, Prediction


@dataclass(frozen=True, eq=False)
class SamplerTable:
    """What one sampler does in each of its steps.

    Attributes:
        timesteps: float32 of shape (steps,), for the network.
        initial_scale: of the unit noise that the latents begin as.
        coefficients: float32 of shape (steps, 6), columns ``from_latents``, ``from_output``,
            ``keep``, ``toward``, ``history``, ``noise``.
        noisy: for each step, whether it draws fresh noise.
    """

    timesteps: Tensor
    initial_scale: float
    coefficients: Tensor
    noisy: tuple[bool, ...]


@dataclass(frozen=True)
class _Steps:
    """Float64 columns of the second formula; ``alpha`` and ``sigma`` are the rates at each step."""

    timesteps: Array
    alpha: Array
    sigma: Array
    keep: Array
    toward: Array
    history: Array | None = None
    noise: Array | None = None
    initial_scale: float = 1.0


def advance(
    latents: Tensor, output: Tensor, before: Tensor, noise: Tensor | None, coefficients: Tensor
) -> tuple[Tensor, Tensor]:
    """One step of a mixed batch.

    Args:
        latents, output, before: float32 of shape (n, channels, height, width); ``before`` is the
            estimate that the last step returned, zeros at the first.
        noise: the same shape, or None when no slot draws any.
        coefficients: of shape (n, 6), each slot's row for its own step.

    Returns:
        The next latents, and the estimate of the denoised latents that led there.
    """
    columns = coefficients[:, :, None, None, None].unbind(1)
    from_latents, from_output, keep, toward, history, fresh = columns
    denoised = (from_latents * latents).addcmul_(from_output, output)
    following = (keep * latents).addcmul_(toward, denoised).addcmul_(history, before)
    if noise is not None:
        following.addcmul_(fresh, noise)
    return following, denoised


@lru_cache(maxsize=256)
def table_for(sampler: str, steps: int, schedule: NoiseSchedule) -> SamplerTable:
    """The table of ``sampler`` for ``steps`` steps of a model of this schedule.

    Raises:
        UnknownSampler: no such sampler.
    """
    made = _BUILDERS[resolve_sampler(sampler)](schedule, steps)
    from_latents, from_output = _denoising(schedule.prediction_type, made.alpha, made.sigma)
    zeros = np.zeros(steps)
    history = zeros if made.history is None else made.history
    noise = zeros if made.noise is None else made.noise
    columns = [from_latents, from_output, made.keep, made.toward, history, noise]
    return SamplerTable(
        timesteps=torch.from_numpy(made.timesteps).float(),
        initial_scale=made.initial_scale,
        coefficients=torch.from_numpy(np.stack(columns, axis=1)).float(),
        noisy=tuple(bool(value) for value in noise),
    )


def _denoising(prediction: Prediction, alpha: Array, sigma: Array) -> tuple[Array, Array]:
    """How the estimate of ``x_0`` follows from the latents and what the network predicts."""
    if prediction == "epsilon":
        return 1 / alpha, -sigma / alpha
    if prediction == "v_prediction":
        return alpha, -sigma
    return np.zeros_like(alpha), np.ones_like(alpha)


def _rates(ratio: Array) -> tuple[Array, Array]:
    """Signal and noise rate of a given noise over signal."""
    alpha = 1 / np.sqrt(ratio**2 + 1)
    return alpha, ratio * alpha


def _euler(schedule: NoiseSchedule, steps: int) -> _Steps:
    timesteps = schedule.timesteps(steps, "linspace")
    ratio = np.append(schedule.sigmas(timesteps), 0.0)
    alpha, sigma = _rates(ratio)
    shrink = ratio[1:] / ratio[:-1]
    return _Steps(
        timesteps,
        alpha[:-1],
        sigma[:-1],
        keep=alpha[1:] / alpha[:-1] * shrink,
        toward=alpha[1:] * (1 - shrink),
        initial_scale=_euler_start(schedule, ratio),
    )


def _euler_a(schedule: NoiseSchedule, steps: int) -> _Steps:
    """As Euler, but falls lower and climbs back with fresh noise."""
    timesteps = schedule.timesteps(steps, "linspace")
    ratio = np.append(schedule.sigmas(timesteps), 0.0)
    alpha, sigma = _rates(ratio)
    here, there = ratio[:-1], ratio[1:]
    up = np.sqrt(there**2 * (here**2 - there**2) / here**2)
    shrink = np.sqrt(there**2 - up**2) / here
    return _Steps(
        timesteps,
        alpha[:-1],
        sigma[:-1],
        keep=alpha[1:] / alpha[:-1] * shrink,
        toward=alpha[1:] * (1 - shrink),
        noise=alpha[1:] * up,
        initial_scale=_euler_start(schedule, ratio),
    )


def _euler_start(schedule: NoiseSchedule, ratio: Array) -> float:
    """The Euler samplers begin without signal: with the noise rate alone, but for "leading"."""
    leading = schedule.timestep_spacing == "leading"
    return 1.0 if leading else float(_rates(ratio.max(keepdims=True))[1][0])


def _ddim(schedule: NoiseSchedule, steps: int) -> _Steps:
    """DDIM without noise (eta 0), https://arxiv.org/abs/2010.02502, equation 12."""
    timesteps = np.round(schedule.timesteps(steps, "leading"))
    product = _finite_rates(schedule)
    visited = timesteps.astype(int)
    previous = visited - schedule.num_train_timesteps // steps
    last = 1.0 if schedule.set_alpha_to_one else product[0]
    here = product[visited]
    there = np.where(previous >= 0, product[np.maximum(previous, 0)], last)
    alpha, sigma = np.sqrt(here), np.sqrt(1 - here)
    keep = np.sqrt(1 - there) / sigma
    return _Steps(timesteps, alpha, sigma, keep=keep, toward=np.sqrt(there) - alpha * keep)


def _dpmpp_2m(schedule: NoiseSchedule, steps: int) -> _Steps:
    """DPM-Solver++ of order 2, midpoint form, https://arxiv.org/abs/2211.01095, algorithm 2.

    The first step has no estimate to look back on, and the last, to no noise at all, needs none:
    both are of order 1.
    """
    timesteps = np.round(schedule.timesteps(steps, "linspace", spare=1))
    ratio = np.append(schedule.sigmas(timesteps), 0.0)
    alpha, sigma = _rates(ratio)
    toward = alpha[1:] * (1 - ratio[1:] / ratio[:-1])
    history = np.zeros(steps)
    if steps > 2:
        log_snr = -np.log(ratio[:-1])
        width = np.diff(log_snr)
        history[1:-1] = -toward[1:-1] * width[1:] / width[:-1] / 2
    return _Steps(
        timesteps,
        alpha[:-1],
        sigma[:-1],
        keep=sigma[1:] / sigma[:-1],
        toward=toward - history,
        history=history,
    )


def _lcm(schedule: NoiseSchedule, steps: int) -> _Steps:
    """Latent consistency, https://arxiv.org/abs/2310.04378: jump to x_0, then noise it again.

    A model is distilled on ``original_inference_steps`` timesteps; more steps than those widen
    the grid to as many.
    """
    original = max(schedule.original_inference_steps, steps)
    grid = np.arange(1, original + 1) * (schedule.num_train_timesteps // original) - 1
    chosen = np.floor(np.linspace(0, original, steps, endpoint=False)).astype(int)
    visited = grid[::-1][chosen]
    here = _finite_rates(schedule)[visited]
    alpha, sigma = np.sqrt(here), np.sqrt(1 - here)
    scaled = visited * schedule.timestep_scaling
    skip = 0.25 / (scaled**2 + 0.25)
    out = scaled / np.sqrt(scaled**2 + 0.25)
    signal, noise = np.append(alpha[1:], 1.0), np.append(sigma[1:], 0.0)
    return _Steps(
        visited.astype(np.float64),
        alpha,
        sigma,
        keep=signal * skip,
        toward=signal * out,
        noise=noise,
    )


def _finite_rates(schedule: NoiseSchedule) -> Array:
    """Squared signal rates; a rate of 0 is lifted only where epsilon would divide by it."""
    product = schedule.alphas_cumprod
    least = 2.0**-24 if schedule.prediction_type == "epsilon" else 0.0
    lifted: Array = np.maximum(product, least)
    return lifted


_BUILDERS: dict[str, Callable[[NoiseSchedule, int], _Steps]] = {
    "euler": _euler,
    "euler_a": _euler_a,
    "ddim": _ddim,
    "dpmpp_2m": _dpmpp_2m,
    "lcm": _lcm,
}
