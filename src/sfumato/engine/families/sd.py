"""Stable Diffusion 1.x and 2.x and what was distilled from them: turbo, LCM.

One text encoder, a UNet that cross-attends to it, and a VAE with its latents at an eighth of the
picture's size (or what the VAE's own blocks make it).
"""

from __future__ import annotations

import torch

# From their own modules: the top levels of diffusers and transformers import far more.
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from sfumato.core.errors import ModelUnusable
from sfumato.engine.packing import pack
from sfumato.engine.prompts import PromptEncoder
from sfumato.engine.remembering import remember_prompts
from sfumato.engine.schedules import NoiseSchedule
from sfumato.engine.weights import Placement


class StableDiffusion:
    """A loaded model: networks, schedule and identity.

    Attributes:
        prompts: encodes prompts for this model.
        schedule: the noise schedule it was trained with.
        hash: SHA-256 of :func:`sfumato.engine.weights.hash_of`.
        guidance_embedded: distilled to take guidance as an input, so that it needs one row.
    """

    def __init__(
        self,
        *,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL,
        prompts: PromptEncoder,
        schedule: NoiseSchedule,
        placement: Placement,
        model_hash: str,
    ) -> None:
        for network in (unet, vae):
            pack(network, placement)
        remember_prompts(unet)
        self._unet = unet
        self._vae = vae
        self.prompts = prompts
        self.schedule = schedule
        self.placement = placement
        self.hash = model_hash
        self.latent_channels: int = vae.config.latent_channels
        self.latent_scale: int = 2 ** (len(vae.config.block_out_channels) - 1)
        self.embedding_width: int = unet.config.cross_attention_dim
        self._guidance_width: int | None = unet.config.time_cond_proj_dim
        self.guidance_embedded = self._guidance_width is not None

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """Channels, height and width of the latents of a picture of so many pixels, rounded up."""
        scale = self.latent_scale
        return self.latent_channels, -(-height // scale), -(-width // scale)

    def predict(
        self, latents: Tensor, timesteps: Tensor, embeddings: Tensor, guidance: Tensor | None
    ) -> Tensor:
        """The network's answer in float32.

        Args:
            latents: float32 (rows, channels, height, width).
            timesteps: float32 (rows,).
            embeddings: (rows, tokens, width).
            guidance: float32 (rows,), for a model that has it embedded.
        """
        condition = None
        if guidance is not None and self._guidance_width is not None:
            condition = _guidance_embedding(guidance, self._guidance_width)
            condition = condition.to(self.placement.dtype)
        (output,) = self._unet(
            latents.to(self.placement.dtype, memory_format=torch.channels_last),
            timesteps,
            encoder_hidden_states=embeddings,
            timestep_cond=condition,
            return_dict=False,
        )
        return output.float(memory_format=torch.contiguous_format)  # type: ignore[no-any-return]

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (n, channels, h, w) to pixels (n, 3, height, width), float32 in 0 … 1."""
        config = self._vae.config
        unscaled = latents / config.scaling_factor + (getattr(config, "shift_factor", None) or 0.0)
        scaled = unscaled.to(self.placement.dtype, memory_format=torch.channels_last)
        (pixels,) = self._vae.decode(scaled, return_dict=False)
        return (pixels.float() / 2 + 0.5).clamp_(0, 1)  # type: ignore[no-any-return]


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
