"""A model put together from its networks' configurations and weights, wherever they came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor
from transformers.models.clip.configuration_clip import CLIPTextConfig
from transformers.models.clip.modeling_clip import CLIPTextModel

from sfumato.core.errors import ModelUnusable
from sfumato.engine import convert
from sfumato.engine.families.sd import StableDiffusion
from sfumato.engine.families.sdxl import StableDiffusionXL
from sfumato.engine.families.vaes import build_vae
from sfumato.engine.prompts import ClipTokenizer, PromptEncoder
from sfumato.engine.schedules import NoiseSchedule
from sfumato.engine.text_encoders import TextEncoder
from sfumato.engine.weights import Placement, build

#: SDXL was trained on the text encoders' last layer but one, without their final norm.
_XL_LAYER = 2
_PROJECTION = "text_projection.weight"


@dataclass(frozen=True, slots=True)
class Part:
    """One network: its configuration, its weights, and the file or folder to name in errors.

    Both are as diffusers and transformers name them.
    """

    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    source: Path


@dataclass(frozen=True, slots=True)
class Parts:
    """A whole model.

    Attributes:
        texts: the text encoders, each with its tokenizer.
        schedule: content of a ``scheduler_config.json``.
        zeros_for_empty: as of :class:`sfumato.engine.prompts.PromptEncoder`, for SDXL.
    """

    unet: Part
    vae: Part
    texts: Sequence[tuple[Part, ClipTokenizer]]
    schedule: Mapping[str, Any]
    zeros_for_empty: bool
    model_hash: str


def assemble(parts: Parts, placement: Placement) -> StableDiffusion:
    """The model in memory.

    Raises:
        ModelUnusable: naming the part and what is wrong with it.
    """
    xl = parts.unet.config.get("addition_embed_type") == "text_time"
    unet, vae = parts.unet, parts.vae
    schedule = {**parts.schedule, "align_your_steps": "sdxl" if xl else "sd1"}
    prompts = PromptEncoder(
        parts.texts[0][1],
        _text_encoders(parts.texts, placement, xl=xl),
        zeros_for_empty=xl and parts.zeros_for_empty,
    )
    width = parts.unet.config.get("cross_attention_dim")
    if isinstance(width, int) and width != prompts.width:
        raise ModelUnusable(
            f"{unet.source} reads texts {width} wide, its text encoders answer {prompts.width} wide."
        )
    channels, latents = unet.config.get("in_channels", 4), vae.config.get("latent_channels", 4)
    if channels not in (latents, 2 * latents + 1):
        raise ModelUnusable(
            f"{unet.source} takes {channels} channels; text to image has {latents}, inpainting "
            f"{2 * latents + 1}."
        )
    family = StableDiffusionXL if xl else StableDiffusion
    return family(
        unet=build(
            lambda: UNet2DConditionModel.from_config(dict(unet.config)),
            unet.tensors,
            unet.source,
            placement,
        ),
        vae=build_vae(vae.config, vae.tensors, vae.source, placement, upcast=family.vae_upcast),
        prompts=prompts,
        schedule=NoiseSchedule.from_config(schedule),
        placement=placement,
        model_hash=parts.model_hash,
    )


def _text_encoders(
    texts: Sequence[tuple[Part, ClipTokenizer]], placement: Placement, *, xl: bool
) -> list[TextEncoder]:
    """SDXL's last text encoder, or only one, sums the text up."""
    last = texts[-1][0]
    return [
        TextEncoder(
            tokenizer,
            _clip(part, placement),
            int(part.config.get("max_position_embeddings", 77)),
            layer=_XL_LAYER if xl else 1,
            normed=not xl,
            projection=_projection(part, placement) if xl and part is last else None,
        )
        for part, tokenizer in texts
    ]


def _clip(text: Part, placement: Placement) -> CLIPTextModel:
    config = CLIPTextConfig.from_dict(dict(text.config))
    # transformers 5 dropped the prefix that every file on disk still has.
    bare = convert.clip_tensors(text.tensors)
    both = {**bare, **{f"text_model.{name}": tensor for name, tensor in bare.items()}}
    network = build(lambda: CLIPTextModel(config), both, text.source, placement)
    for module in network.modules():
        # Not among the weights, so still without values.
        if isinstance(getattr(module, "position_ids", None), Tensor):
            positions = torch.arange(config.max_position_embeddings, device=placement.device)
            module.register_buffer("position_ids", positions.expand(1, -1), persistent=False)
    return network


def _projection(text: Part, placement: Placement) -> Tensor:
    projection = text.tensors.get(_PROJECTION)
    if projection is None:
        raise ModelUnusable(f"{text.source} lacks 1 tensor(s): {_PROJECTION}.")
    width = CLIPTextConfig.from_dict(dict(text.config)).hidden_size
    if projection.ndim != 2 or projection.shape[1] != width:
        raise ModelUnusable(
            f"{text.source} has tensors of a wrong shape: {_PROJECTION} is "
            f"{tuple(projection.shape)}, not (…, {width})."
        )
    return projection.to(placement.device, placement.dtype)
