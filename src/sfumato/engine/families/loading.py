"""Stable Diffusion from disk: a diffusers folder, or one file as A1111 users have it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor
from transformers.models.clip.configuration_clip import CLIPTextConfig
from transformers.models.clip.modeling_clip import CLIPTextModel

from sfumato.core.checkpoints import (
    CLIP_PREFIX,
    OPEN_CLIP_PREFIX,
    UNET_PREFIX,
    VAE_PREFIX,
    detect_family,
    named_prediction,
)
from sfumato.core.errors import ModelRefused, ModelUnusable
from sfumato.engine import convert
from sfumato.engine.families import configs
from sfumato.engine.families.sd import StableDiffusion
from sfumato.engine.prompts import ClipTokenizer, PromptEncoder
from sfumato.engine.schedules import NoiseSchedule
from sfumato.engine.weights import (
    Placement,
    build,
    component_files,
    hash_of,
    header_of,
    read_json,
    read_tensors,
)

#: The VAE's attention had other names until diffusers 0.15; old folders still have them.
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


@dataclass(frozen=True, slots=True)
class Part:
    """One network: its configuration, its weights, and the file or folder to name in errors."""

    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    source: Path


def load_folder(path: Path, placement: Placement) -> StableDiffusion:
    """A model in diffusers' folder layout.

    Raises:
        ModelUnusable: naming the file and what is wrong with it.
    """
    files = {name: component_files(path / name) for name in ("unet", "vae", "text_encoder")}
    unet, vae, text = (
        Part(read_json(path / name / "config.json"), read_tensors(found), path / name)
        for name, found in files.items()
    )
    return _assemble(
        unet=unet,
        vae=replace(vae, tensors=_renamed_attention(vae.tensors)),
        text=text,
        tokenizer=ClipTokenizer.from_folder(path / "tokenizer"),
        schedule=NoiseSchedule.from_config(read_json(path / "scheduler/scheduler_config.json")),
        placement=placement,
        model_hash=hash_of([file for found in files.values() for file in found]),
    )


def load_checkpoint(path: Path, placement: Placement) -> StableDiffusion:
    """A model in one ``.safetensors`` file.

    Such a file does not say what the network predicts. ``<name>.json`` or ``<name>.yaml`` beside
    it may; else SD 1 predicts noise, and SD 2 is probed as A1111 does.

    Raises:
        ModelUnusable: naming the file and what is wrong with it.
    """
    try:
        family = detect_family(header_of(path))
        tensors = read_tensors([path])
        unet, vae, text = _checkpoint_parts(tensors, family, path)
    except (ModelRefused, ModelUnusable) as error:
        message = error.message
        named = message if str(path) in message else f"{path} can't be used: {message}"
        raise ModelUnusable(named) from None
    prediction = _named_prediction(path)
    model = _assemble(
        unet=unet,
        vae=vae,
        text=text,
        tokenizer=ClipTokenizer.bundled(pad="<|endoftext|>" if family == "sd1" else "!"),
        schedule=NoiseSchedule.from_config({"prediction_type": prediction or "epsilon"}),
        placement=placement,
        model_hash=hash_of([path]),
    )
    if prediction is None and family == "sd2" and predicts_v(model):
        model.schedule = replace(model.schedule, prediction_type="v_prediction")
    return model


@torch.inference_mode()
def predicts_v(model: StableDiffusion) -> bool:
    """Whether a network of SD 2 predicts v rather than noise, by A1111's probe.

    At the last timestep a network that predicts noise gives back about what it is shown, one
    that predicts v something far darker (``is_using_v_parameterization_for_sd2`` in A1111).
    """
    device, width = model.placement.device, model.embedding_width
    shown = torch.full((1, model.latent_channels, 8, 8), 0.5, device=device)
    embeddings = torch.full((1, 2, width), 0.5, device=device, dtype=model.placement.dtype)
    answer = model.predict(shown, torch.tensor([999.0], device=device), embeddings, None)
    return bool((answer - shown).mean() < -1)


def _checkpoint_parts(
    tensors: Mapping[str, Tensor], family: str, path: Path
) -> tuple[Part, Part, Part]:
    unet, vae = _below(UNET_PREFIX, tensors), _below(VAE_PREFIX, tensors)
    if family == "sd1":
        text = convert.clip_tensors(_below(CLIP_PREFIX, tensors))
    else:
        text = convert.open_clip_tensors(_below(OPEN_CLIP_PREFIX, tensors))
    return (
        Part(configs.unet_config(_shapes(unet), family), convert.unet_tensors(unet), path),
        Part(configs.vae_config(_shapes(vae)), convert.vae_tensors(vae), path),
        Part(configs.text_config(_shapes(text), family), text, path),
    )


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _shapes(tensors: Mapping[str, Tensor]) -> configs.Shapes:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _named_prediction(path: Path) -> str | None:
    sidecar, yaml = path.with_suffix(".json"), path.with_suffix(".yaml")
    return named_prediction(
        read_json(sidecar) if sidecar.is_file() else {},
        yaml.read_text(encoding="utf-8", errors="replace") if yaml.is_file() else "",
    )


def _assemble(
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
    return StableDiffusion(
        unet=build(
            lambda: UNet2DConditionModel.from_config(dict(unet.config)),
            unet.tensors,
            unet.source,
            placement,
        ),
        vae=build(
            lambda: AutoencoderKL.from_config(dict(vae.config)),
            vae.tensors,
            vae.source,
            placement,
        ),
        prompts=_prompt_encoder(text, tokenizer, placement),
        schedule=schedule,
        placement=placement,
        model_hash=model_hash,
    )


def _prompt_encoder(text: Part, tokenizer: ClipTokenizer, placement: Placement) -> PromptEncoder:
    config = CLIPTextConfig.from_dict(dict(text.config))
    # transformers 5 dropped the prefix that every file on disk still has.
    bare = convert.clip_tensors(text.tensors)
    both = {**bare, **{f"text_model.{name}": tensor for name, tensor in bare.items()}}
    network = build(lambda: CLIPTextModel(config), both, text.source, placement)
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
            new = ".".join([*path, _OLD_ATTENTION[layer], kind])
            renamed[new] = tensor.flatten(1) if kind == "weight" else tensor
        else:
            renamed[name] = tensor
    return renamed
