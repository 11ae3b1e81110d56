"""The noise schedule that a model was trained with, and the timesteps that samplers visit.

Everything here is float64: the numbers become coefficients of :mod:`sfumato.engine.samplers`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sfumato.core.errors import ModelUnusable

Array = npt.NDArray[np.float64]
Prediction = Literal["epsilon", "v_prediction", "sample", "flow_prediction"]
Spacing = Literal["linspace", "leading", "trailing"]

#: What stands in for a signal rate of exactly 0, as in diffusers: half precision's least number.
_LEAST_ALPHA_CUMPROD = 2.0**-24

#: diffusers' flags, and the schedules that they ask for.
_SCHEDULE_FLAGS = {
    "use_karras_sigmas": "karras",
    "use_exponential_sigmas": "exponential",
    "use_beta_sigmas": "beta",
}


@dataclass(frozen=True)
class Level:
    """A noise level: ``x = alpha · x_0 + sigma · noise``.

    Attributes:
        timestep: what the network is told.
        scale: of the latents over those whose slope ``dx/dnoise`` Heun and his like follow:
            alpha where the variance is preserved, 1 in a flow.
    """

    timestep: float
    alpha: float
    sigma: float
    scale: float

    @property
    def noise(self) -> float:
        return self.sigma / self.scale

    @property
    def ratio(self) -> float:
        """Noise over signal."""
        return self.sigma / self.alpha

    @property
    def log_snr(self) -> float:
        """Half the logarithm of the signal-to-noise ratio, DPM-Solver's lambda."""
        return math.log(self.alpha / self.sigma)


@dataclass(frozen=True)
class NoiseSchedule:
    """How signal and noise mix: ``x_t = alpha_t · x_0 + sigma_t · noise``.

    Variance-preserving, or, for ``flow_prediction``, straight: ``alpha_t = 1 - sigma_t``. The
    fields bear the names and defaults of Stable Diffusion's ``scheduler_config.json``.

    What is called *noise* below is the quantity that schedules are spaced in: ``sigma / alpha``,
    in a flow ``sigma``.

    Attributes:
        timestep_spacing: None: each sampler's own custom.
        set_alpha_to_one: whether DDIM's last step ends free of noise.
        original_inference_steps, timestep_scaling: LCM's and TCD's alone.
        shift: of a flow, towards more noise; 1: none.
        default_schedule: what a request gets that names no schedule.
        align_your_steps: which of the published schedules fits the model.
    """

    num_train_timesteps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "scaled_linear"
    prediction_type: Prediction = "epsilon"
    timestep_spacing: Spacing | None = None
    steps_offset: int = 1
    rescale_betas_zero_snr: bool = False
    set_alpha_to_one: bool = False
    original_inference_steps: int = 50
    timestep_scaling: float = 10.0
    shift: float = 1.0
    default_schedule: str = "uniform"
    align_your_steps: Literal["sd1", "sdxl"] = "sd1"

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> NoiseSchedule:
        """From the content of a ``scheduler_config.json``; keys of no concern are left aside.

        Raises:
            ModelUnusable: for a schedule that this engine has no formula for.
        """
        known = {item.name for item in fields(cls)}
        given = {key: value for key, value in config.items() if key in known}
        for flag, name in _SCHEDULE_FLAGS.items():
            if config.get(flag):
                given["default_schedule"] = name
        if str(config.get("_class_name")).startswith("FlowMatch") or config.get("use_flow_sigmas"):
            given["prediction_type"] = "flow_prediction"
            given["shift"] = config.get("shift", config.get("flow_shift", 1.0))
            if config.get("use_dynamic_shifting"):
                raise ModelUnusable(
                    "scheduler_config.json shifts the noise by the picture's size "
                    "(use_dynamic_shifting), which this engine can't follow."
                )
        schedule = cls(**given)
        choices = {
            "beta_schedule": ("linear", "scaled_linear", "squaredcos_cap_v2"),
            "prediction_type": ("epsilon", "v_prediction", "sample", "flow_prediction"),
            "timestep_spacing": (None, "linspace", "leading", "trailing"),
        }
        for name, accepted in choices.items():
            value = getattr(schedule, name)
            if value not in accepted:
                raise ModelUnusable(
                    f"scheduler_config.json names {name} {value!r}, which this engine can't follow.",
                    accepted=[choice for choice in accepted if choice],
                )
        if str(config.get("_class_name")).startswith("EDM"):
            raise ModelUnusable(
                "scheduler_config.json names a noise without timesteps (EDM), which this engine "
                "can't follow."
            )
        if config.get("trained_betas") is not None:
            raise ModelUnusable(
                "scheduler_config.json lists its own betas, which are not supported."
            )
        return schedule

    @cached_property
    def alphas_cumprod(self) -> Array:
        """Squared signal rate at each of the training timesteps, falling from almost 1."""
        count = self.num_train_timesteps
        if self.beta_schedule == "linear":
            betas = np.linspace(self.beta_start, self.beta_end, count)
        elif self.beta_schedule == "scaled_linear":
            betas = np.linspace(self.beta_start**0.5, self.beta_end**0.5, count) ** 2
        else:
            # Nichol and Dhariwal's cosine, https://arxiv.org/abs/2102.09672, equation 17.
            cosine = np.cos((np.arange(count + 1) / count + 0.008) / 1.008 * np.pi / 2) ** 2
            betas = np.minimum(1 - cosine[1:] / cosine[:-1], 0.999)
        product: Array = np.cumprod(1 - betas, dtype=np.float64)
        if not self.rescale_betas_zero_snr:
            return product
        # https://arxiv.org/abs/2305.08891, algorithm 1: shift and scale so that the end is pure noise.
        root = np.sqrt(product)
        rescaled: Array = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
        return rescaled

    @cached_property
    def _noises(self) -> Array:
        """The noise at each of the training timesteps, rising."""
        if self.prediction_type == "flow_prediction":
            return self.shifted(
                np.arange(1, self.num_train_timesteps + 1) / self.num_train_timesteps
            )
        product = self.alphas_cumprod
        if self.rescale_betas_zero_snr:
            product = np.append(product[:-1], _LEAST_ALPHA_CUMPROD)
        noises: Array = np.sqrt((1 - product) / product)
        return noises

    def shifted(self, sigmas: Array) -> Array:
        """https://arxiv.org/abs/2403.03206, equation 23."""
        moved: Array = self.shift * sigmas / (1 + (self.shift - 1) * sigmas)
        return moved

    def noise_at(self, timestep: float) -> float:
        """The noise at a training timestep, or between two."""
        return float(np.interp(timestep, np.arange(len(self._noises)), self._noises))

    def timestep_of(self, noise: float) -> float:
        """The timestep that the network is told for a noise, as k-diffusion reads it back."""
        if self.prediction_type == "flow_prediction":
            return noise * self.num_train_timesteps
        logs = np.log(self._noises)
        return float(np.interp(np.log(max(noise, 1e-10)), logs, np.arange(len(logs))))

    def level(self, noise: float, timestep: float | None = None) -> Level:
        """The level of this noise."""
        timestep = self.timestep_of(noise) if timestep is None else timestep
        if self.prediction_type == "flow_prediction":
            # A signal rate of exactly 0 would have no ratio.
            return Level(float(timestep), max(1 - noise, _LEAST_ALPHA_CUMPROD), noise, 1.0)
        alpha = 1 / math.sqrt(noise**2 + 1)
        return Level(float(timestep), alpha, noise * alpha, alpha)

    def level_at_ratio(self, ratio: float) -> Level:
        """The level of this noise over signal."""
        flow = self.prediction_type == "flow_prediction"
        return self.level(ratio / (1 + ratio) if flow else ratio)

    def level_of(self, timestep: float, *, may_be_bare: bool = True) -> Level:
        """The level at a training timestep.

        Args:
            may_be_bare: whether its signal rate may be 0, of no logarithm and no ratio.
        """
        if self.prediction_type == "flow_prediction":
            return self.level(self.noise_at(timestep))
        ends = timestep == self.num_train_timesteps - 1 and self.prediction_type != "epsilon"
        if self.rescale_betas_zero_snr and ends and may_be_bare:
            return Level(float(timestep), 0.0, 1.0, 0.0)
        return self.level(self.noise_at(timestep), timestep)

    @property
    def begins_scaled(self) -> bool:
        """Whether the Euler samplers begin without signal, with the noise rate alone."""
        return self.timestep_spacing != "leading" and self.prediction_type != "flow_prediction"

    def timesteps(self, steps: int, default: Spacing, *, spare: int = 0) -> Array:
        """``steps`` timesteps, falling: table 2 of https://arxiv.org/abs/2305.08891.

        Args:
            default: the spacing where the model names none.
            spare: how many further timesteps to space for and leave out at the end; DPM++ asks 1.
        """
        count, spacing = self.num_train_timesteps, self.timestep_spacing or default
        if spacing == "trailing":
            spaced = np.round(np.arange(count, 0, -count / steps)) - 1
        elif spacing == "leading":
            ratio = count // (steps + spare)
            spaced = np.arange(steps + spare)[::-1] * ratio + float(self.steps_offset)
        else:
            spaced = np.linspace(0, count - 1, steps + spare)[::-1]
        return np.array(spaced[:steps], dtype=np.float64)
