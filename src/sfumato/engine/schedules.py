"""The noise schedule that a model was trained with, and the timesteps that samplers visit.

Everything here is float64: the numbers become coefficients of :mod:`sfumato.engine.samplers`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sfumato.core.errors import ModelUnusable

Array = npt.NDArray[np.float64]
Prediction = Literal["epsilon", "v_prediction", "sample"]
Spacing = Literal["linspace", "leading", "trailing"]

#: What stands in for a signal rate of exactly 0, as in diffusers: half precision's least number.
_LEAST_ALPHA_CUMPROD = 2.0**-24


@dataclass(frozen=True)
class NoiseSchedule:
    """A variance-preserving schedule: ``x_t = alpha_t · x_0 + sigma_t · noise``.

    The fields bear the names and defaults of Stable Diffusion's ``scheduler_config.json``.

    Attributes:
        timestep_spacing: None: each sampler's own custom.
        set_alpha_to_one: whether DDIM's last step ends free of noise.
        original_inference_steps, timestep_scaling: LCM's alone.
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

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> NoiseSchedule:
        """From the content of a ``scheduler_config.json``; keys of no concern are left aside.

        Raises:
            ModelUnusable: for a schedule that this engine has no formula for.
        """
        known = {item.name for item in fields(cls)}
        schedule = cls(**{key: value for key, value in config.items() if key in known})
        choices = {
            "beta_schedule": ("linear", "scaled_linear", "squaredcos_cap_v2"),
            "prediction_type": ("epsilon", "v_prediction", "sample"),
            "timestep_spacing": (None, "linspace", "leading", "trailing"),
        }
        for name, accepted in choices.items():
            value = getattr(schedule, name)
            if value not in accepted:
                raise ModelUnusable(
                    f"scheduler_config.json names {name} {value!r}, which this engine can't follow.",
                    accepted=[choice for choice in accepted if choice],
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

    def sigmas(self, timesteps: Array) -> Array:
        """Noise over signal, ``sigma_t / alpha_t``, at timesteps that may lie between two."""
        product = self.alphas_cumprod
        if self.rescale_betas_zero_snr:
            product = np.append(product[:-1], _LEAST_ALPHA_CUMPROD)
        ratio = np.sqrt((1 - product) / product)
        between: Array = np.interp(timesteps, np.arange(len(ratio)), ratio)
        return between

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
