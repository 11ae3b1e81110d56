"""Stable Diffusion 1.x and 2.x and what was distilled from them: turbo, LCM.

One text encoder, a UNet that cross-attends to it, and a VAE with its latents at an eighth of the
picture's size (or what the VAE's own blocks make it). Other families add to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

# From their own modules: the top levels of diffusers and transformers import far more.
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from sfumato.core.errors import ModelUnusable
from sfumato.engine.control import steering
from sfumato.engine.families.vaes import Vae
from sfumato.engine.lean import make_lean
from sfumato.engine.lora import UNET, Adaptable
from sfumato.engine.network import NetworkInput
from sfumato.engine.packing import pack
from sfumato.engine.prompts import PromptEncoder
from sfumato.engine.remembering import remember_prompts
from sfumato.engine.schedules import NoiseSchedule
from sfumato.engine.weights import Placement


class StableDiffusion:
    """A loaded model: networks, schedule and identity.

    Attributes:
        vae: its own.
        vae_upcast: whether VAEs of the family overflow in half precision, unless they tell that
            they don't.
        prompts: encodes prompts for this model.
        schedule: the noise schedule it was trained with.
        hash: SHA-256 of :func:`sfumato.engine.weights.hash_of`.
        adaptables: the networks that LoRAs change, by diffusers' names.
        inpaints: takes the mask and the latents under it beside the latents, as further channels.
        guidance_embedded: distilled to take guidance as an input, so that it needs one row.
    """

    vae_upcast = False

    def __init__(
        self,
        *,
        unet: UNet2DConditionModel,
        vae: Vae,
        prompts: PromptEncoder,
        schedule: NoiseSchedule,
        placement: Placement,
        model_hash: str,
    ) -> None:
        self.inpaints = unet.config.in_channels != vae.channels
        pack(unet, placement)
        remember_prompts(unet)
        make_lean(unet)
        self.adaptables = {UNET: Adaptable(unet), **prompts.adaptables}
        self._unet = unet
        self.vae = vae
        self.prompts = prompts
        self.schedule = schedule
        self.placement = placement
        self.hash = model_hash
        self.latent_channels = vae.channels
        self.latent_scale = vae.cell
        self.embedding_width: int = unet.config.cross_attention_dim
        self._guidance_width: int | None = unet.config.time_cond_proj_dim
        self.guidance_embedded = self._guidance_width is not None

    @property
    def latent_space(self) -> tuple[int, int, float]:
        """What models have in common that can go on with each other's latents: their channels,
        pixels a cell, and scale."""
        return self.latent_channels, self.latent_scale, self.vae.scaling

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """Channels, height and width of the latents of a picture of so many pixels, rounded up."""
        scale = self.latent_scale
        return self.latent_channels, -(-height // scale), -(-width // scale)

    def predict(self, given: NetworkInput) -> Tensor:
        """The network's answer in float32, one a row."""
        condition = None
        if given.guidance is not None and self._guidance_width is not None:
            condition = _guidance_embedding(given.guidance, self._guidance_width)
            condition = condition.to(self.placement.dtype)
        latents = given.latents.to(self.placement.dtype, memory_format=torch.channels_last)
        added = self.added_conditions(given)
        self.adaptables[UNET].use(given.loras)
        (output,) = self._unet(
            latents if given.beside is None else _with_beside(latents, given.beside),
            given.timesteps,
            encoder_hidden_states=given.tokens,
            timestep_cond=condition,
            added_cond_kwargs=added,
            return_dict=False,
            **steering(given, latents, added),
        )
        return output.float(memory_format=torch.contiguous_format)  # type: ignore[no-any-return]

    @property
    def network_config(self) -> Mapping[str, Any]:
        """The network's configuration, in diffusers' words."""
        return self._unet.config  # type: ignore[no-any-return]

    def added_conditions(self, given: NetworkInput) -> dict[str, Any] | None:  # noqa: ARG002
        """What the family's network takes beside latents, time and texts, in diffusers' words."""
        return None


def _with_beside(latents: Tensor, beside: Tensor) -> Tensor:
    """Both in the latents' precision, as one tensor of more channels."""
    joined = torch.cat([latents, beside.to(latents)], dim=1)
    return joined.contiguous(memory_format=torch.channels_last)


def _guidance_embedding(guidance: Tensor, width: int) -> Tensor:
    """Sinusoids of ``guidance - 1`` in thousandths, as LCMs were distilled with.

    https://arxiv.org/abs/2310.04378, section 4.2.
    """
    if width % 2:
        raise ModelUnusable(f"The network's guidance input has {width} channels, an odd number.")
    half = width // 2
    exponents = torch.arange(half, device=guidance.device, dtype=torch.float32) / (half - 1)
    angles = (guidance[:, None] - 1) * 1000 * (10000.0**-exponents)[None]
    return torch.cat([angles.sin(), angles.cos()], dim=1)
