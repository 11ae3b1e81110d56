"""Stable Diffusion 1.x and 2.x and what was distilled from them: turbo, LCM.

One text encoder, a UNet that cross-attends to it, and a VAE with its latents at an eighth of the
picture's size (or what the VAE's own blocks make it).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

# From their own modules: diffusers' and transformers' top levels would import far more.
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor
from transformers.models.clip.configuration_clip import CLIPTextConfig
from transformers.models.clip.modeling_clip import CLIPTextModel

from sfumato.core.errors import ModelUnusable
from sfumato.engine.prompts import ClipTokenizer, PromptEncoder
from sfumato.engine.schedules import NoiseSchedule
from sfumato.engine.weights import (
    Placement,
    build,
    component_files,
    hash_of,
    read_json,
    read_tensors,
)

#: The VAE's attention had other names until diffusers 0.15; old folders still have them.
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


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
        self._unet = unet
        self._vae = vae
        self.prompts = prompts
        self.schedule = schedule
        self.placement = placement
        self.hash = model_hash
        self.latent_channels: int = vae.config.latent_channels
        self.latent_scale: int = 2 ** (len(vae.config.block_out_channels) - 1)
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
            latents.to(self.placement.dtype),
            timesteps,
            encoder_hidden_states=embeddings,
            timestep_cond=condition,
            return_dict=False,
        )
        return output.float()  # type: ignore[no-any-return]

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (n, channels, h, w) to pixels (n, 3, height, width), float32 in 0 … 1."""
        config = self._vae.config
        unscaled = latents / config.scaling_factor + (getattr(config, "shift_factor", None) or 0.0)
        (pixels,) = self._vae.decode(unscaled.to(self.placement.dtype), return_dict=False)
        return (pixels.float() / 2 + 0.5).clamp_(0, 1)  # type: ignore[no-any-return]


def load_folder(path: Path, placement: Placement) -> StableDiffusion:
    """A model in diffusers' folder layout.

    Raises:
        ModelUnusable: naming the file and what is wrong with it.
    """
    files = {part: component_files(path / part) for part in ("unet", "vae", "text_encoder")}
    configs = {part: read_json(path / part / "config.json") for part in files}
    tensors = {part: read_tensors(found) for part, found in files.items()}
    return assemble(
        unet=(configs["unet"], tensors["unet"], path / "unet"),
        vae=(configs["vae"], _renamed_attention(tensors["vae"]), path / "vae"),
        text=(configs["text_encoder"], tensors["text_encoder"], path / "text_encoder"),
        tokenizer=ClipTokenizer.from_folder(path / "tokenizer"),
        schedule=NoiseSchedule.from_config(read_json(path / "scheduler/scheduler_config.json")),
        placement=placement,
        model_hash=hash_of([file for found in files.values() for file in found]),
    )


#: The configuration of a network, its weights, and the file or folder to name in errors.
Part = tuple[Mapping[str, Any], Mapping[str, Tensor], Path]


def assemble(
    *,
    unet: Part,
    vae: Part,
    text: Part,
    tokenizer: ClipTokenizer,
    schedule: NoiseSchedule,
    placement: Placement,
    model_hash: str,
) -> StableDiffusion:
    """A model from configurations and weights under diffusers' names."""
    unet_config, unet_tensors, unet_source = unet
    vae_config, vae_tensors, vae_source = vae
    return StableDiffusion(
        unet=build(
            lambda: UNet2DConditionModel.from_config(dict(unet_config)),
            unet_tensors,
            unet_source,
            placement,
        ),
        vae=build(
            lambda: AutoencoderKL.from_config(dict(vae_config)), vae_tensors, vae_source, placement
        ),
        prompts=_prompt_encoder(text, tokenizer, placement),
        schedule=schedule,
        placement=placement,
        model_hash=model_hash,
    )


def _prompt_encoder(text: Part, tokenizer: ClipTokenizer, placement: Placement) -> PromptEncoder:
    raw, tensors, source = text
    config = CLIPTextConfig.from_dict(dict(raw))
    # transformers 5 dropped the prefix that every file on disk still has.
    bare = {name.removeprefix("text_model."): tensor for name, tensor in tensors.items()}
    both = {**bare, **{f"text_model.{name}": tensor for name, tensor in bare.items()}}
    network = build(lambda: CLIPTextModel(config), both, source, placement)
    length = config.max_position_embeddings
    for module in network.modules():
        # Not among the weights, so still without values.
        if isinstance(getattr(module, "position_ids", None), Tensor):
            positions = torch.arange(length, device=placement.device).expand(1, -1)
            module.register_buffer("position_ids", positions, persistent=False)
    return PromptEncoder(tokenizer, network, length)


def _renamed_attention(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in tensors.items():
        *path, layer, kind = name.split(".")
        if "attentions" in path and layer in _OLD_ATTENTION:
            name = ".".join([*path, _OLD_ATTENTION[layer], kind])
            tensor = tensor.flatten(1) if kind == "weight" else tensor
        renamed[name] = tensor
    return renamed


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
