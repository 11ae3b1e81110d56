"""Folders of one network, as diffusers and transformers save them: ``config.json`` and weights."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from sfumato.adapters.models.describing import (
    CARD,
    bare,
    header_of,
    incomplete,
    pickle_refusal,
    with_card,
)
from sfumato.adapters.models.manifest import MANIFEST
from sfumato.adapters.models.trees import Tree, read_json
from sfumato.core.errors import ModelUnusable
from sfumato.core.kinds import FAMILY_OF_WIDTH, LATENT_CHANNELS
from sfumato.core.layout import weight_files
from sfumato.core.models import ModelInfo, ModelKind, ModelLayout

_CONFIG = "config.json"
#: Its weights, whole, in parts, or the list of its parts.
_WEIGHTS = re.compile(
    r"(?:diffusion_pytorch_model|pytorch_model|model)"
    r"(?:\.fp16)?(?:-\d+-of-\d+)?(?:\.fp16)?\.(?:safetensors|bin)(?:\.index(?:\.fp16)?\.json)?"
)
_KINDS = {
    "ControlNetModel": ModelKind.CONTROLNET,
    "AutoencoderKL": ModelKind.VAE,
    "StableDiffusionSafetyChecker": ModelKind.SAFETY,
}
#: SDXL's VAE has the shape of SD 1's; this number alone tells them apart.
_XL_SCALING = 0.13025


def is_component(names: Collection[str]) -> bool:
    """Whether a folder with these files is one network's."""
    return _CONFIG in names and any(map(_WEIGHTS.fullmatch, names))


def of_component(name: str) -> bool:
    """Whether a file of this name is part of a network's folder."""
    return name == _CONFIG or _WEIGHTS.fullmatch(name) is not None


def describe_component(tree: Tree, name: str) -> ModelInfo:
    """What a folder's network is for. ``name``: the folder's."""
    config = read_json(tree, _CONFIG)
    what = config.get("_class_name") or next(iter(config.get("architectures") or ()), "network")
    kind = _KINDS.get(what)
    info = bare(name, ModelLayout.DIFFUSERS, kind=kind)
    if kind is None:
        return replace(info, refusal=f"{name} is a {what}, for which this engine has no code.")
    files = {path for path in tree.files if "/" not in path}
    weights = weight_files(files, lambda path: read_json(tree, path))
    if not weights:
        return replace(info, refusal=pickle_refusal(name))
    missing = [path for path in weights if path not in files]
    if missing:
        return replace(info, refusal=incomplete(name, missing))
    info = replace(
        info,
        family=_family(kind, config),
        size_bytes=sum(tree.files[path].size_bytes for path in weights),
        files=tuple(
            tree.files[path]
            for path in sorted(files)
            if path in weights or (path.endswith((".json", ".txt", ".md")) and path != MANIFEST)
        ),
        refusal=_refusal(name, kind, config),
    )
    info = with_card(info, read_json(tree, CARD) if CARD in tree.files else {})
    try:
        shapes = (spec.shape for p in weights for spec in header_of(tree, p).tensors.values())
        return replace(info, memory_bytes=2 * sum(map(math.prod, shapes)))
    except ModelUnusable as error:
        return replace(info, refusal=f"{name} can't be used: {error.message}")


def _family(kind: ModelKind, config: Mapping[str, Any]) -> str:
    if kind is ModelKind.CONTROLNET:
        width = config.get("cross_attention_dim")
        return FAMILY_OF_WIDTH.get(width[0] if isinstance(width, list) else int(width or 0), "")
    if kind is ModelKind.VAE and "scaling_factor" in config:
        return "sdxl" if math.isclose(float(config["scaling_factor"]), _XL_SCALING) else "sd1"
    return ""


def _refusal(name: str, kind: ModelKind, config: Mapping[str, Any]) -> str | None:
    channels = config.get("latent_channels", LATENT_CHANNELS)
    if kind is not ModelKind.VAE or channels == LATENT_CHANNELS:
        return None
    return (
        f"{name} can't be used: it is a VAE of {channels} channels, where Stable Diffusion's has "
        f"{LATENT_CHANNELS}."
    )
