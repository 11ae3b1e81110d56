"""Stable Diffusion from disk: a diffusers folder, or one file as A1111 users have it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfumato.core.checkpoints import (
    CLIP_PREFIX,
    OPEN_CLIP_PREFIX,
    REFINER_PREFIX,
    UNET_PREFIX,
    VAE_PREFIX,
    XL_CLIP_PREFIX,
    XL_OPEN_CLIP_PREFIX,
    detect_family,
    marked_schedule,
    named_prediction,
)
from sfumato.core.errors import ModelRefused, ModelUnusable
from sfumato.core.layout import TEXT_ENCODERS, networks_of
from sfumato.engine import convert
from sfumato.engine.families import configs
from sfumato.engine.families.parts import Part, Parts, assemble
from sfumato.engine.families.sd import StableDiffusion
from sfumato.engine.families.vaes import renamed_attention
from sfumato.engine.network import NetworkInput
from sfumato.engine.prompts import ClipTokenizer
from sfumato.engine.weights import (
    Placement,
    component_files,
    hash_of,
    header_of,
    read_json,
    read_tensors,
)

_TOKENIZERS = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}
#: Where each family's checkpoints keep their text encoders.
_TEXTS = {
    "sd1": (CLIP_PREFIX,),
    "sd2": (OPEN_CLIP_PREFIX,),
    "sdxl": (XL_CLIP_PREFIX, XL_OPEN_CLIP_PREFIX),
    "sdxl_refiner": (REFINER_PREFIX,),
}
_OF_OPENAI = frozenset((CLIP_PREFIX, XL_CLIP_PREFIX))


def load_folder(path: Path, placement: Placement) -> StableDiffusion:
    """A model in diffusers' folder layout.

    Raises:
        ModelUnusable: naming the file and what is wrong with it.
    """
    index_file = path / "model_index.json"
    index = read_json(index_file) if index_file.is_file() else {}
    files = {name: component_files(path / name) for name in networks_of(index)}
    networks = {
        name: Part(read_json(path / name / "config.json"), read_tensors(found), path / name)
        for name, found in files.items()
    }
    vae = networks["vae"]
    parts = Parts(
        unet=networks["unet"],
        vae=replace(vae, tensors=renamed_attention(vae.tensors)),
        texts=[
            (networks[name], ClipTokenizer.from_folder(path / _TOKENIZERS[name]))
            for name in TEXT_ENCODERS
            if name in networks
        ],
        schedule=read_json(path / "scheduler/scheduler_config.json"),
        zeros_for_empty=bool(index.get("force_zeros_for_empty_prompt", True)),
        model_hash=hash_of([file for found in files.values() for file in found]),
    )
    return assemble(parts, placement)


def load_checkpoint(path: Path, placement: Placement) -> StableDiffusion:
    """A model in one ``.safetensors`` file.

    Such a file does not say what the network predicts. ``<name>.json`` or ``<name>.yaml`` beside
    it may, and SDXL's trainers leave a mark in it; else SD 1 and SDXL predict noise, and SD 2 is
    probed as A1111 does.

    Raises:
        ModelUnusable: naming the file and what is wrong with it.
    """
    prediction = _named_prediction(path)
    try:
        header = header_of(path)
        family = detect_family(header)
        schedule = marked_schedule(header)
        if prediction is not None:
            schedule["prediction_type"] = prediction
        parts = _parts_of(read_tensors([path]), family, schedule, path)
    except (ModelRefused, ModelUnusable) as error:
        message = error.message
        named = message if str(path) in message else f"{path} can't be used: {message}"
        raise ModelUnusable(named) from None
    model = assemble(parts, placement)
    unknown = "prediction_type" not in schedule
    if unknown and family == "sd2" and not model.inpaints and predicts_v(model):
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
    answer = model.predict(NetworkInput(shown, torch.tensor([999.0], device=device), embeddings))
    return bool((answer - shown).mean() < -1)


def _parts_of(
    tensors: Mapping[str, Tensor], family: str, schedule: Mapping[str, Any], path: Path
) -> Parts:
    unet, vae = _below(UNET_PREFIX, tensors), _below(VAE_PREFIX, tensors)
    prefixes = _TEXTS[family]
    texts = [
        _text_of(_below(prefix, tensors), path, of_openai=prefix in _OF_OPENAI, family=family)
        for prefix in prefixes
    ]
    return Parts(
        unet=Part(configs.unet_config(_shapes(unet), family), convert.unet_tensors(unet), path),
        vae=Part(configs.vae_config(_shapes(vae), family), convert.vae_tensors(vae), path),
        texts=texts,
        schedule=schedule,
        # As the index of SDXL's folder says, and that of its refiner.
        zeros_for_empty=family == "sdxl",
        model_hash=hash_of([path]),
    )


def _text_of(
    tensors: Mapping[str, Tensor], path: Path, *, of_openai: bool, family: str
) -> tuple[Part, ClipTokenizer]:
    if of_openai:
        text = convert.clip_tensors(tensors)
    else:
        text = convert.open_clip_tensors(tensors, summed_up=family.startswith("sdxl"))
    config = configs.text_config(_shapes(text), open_clip=not of_openai)
    tokenizer = ClipTokenizer.bundled(pad="<|endoftext|>" if of_openai else "!")
    return Part(config, text, path), tokenizer


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
