"""What the weights beside base models are, each in one file: LoRAs, embeddings, VAEs and the like.

The header of a file decides. The folder that it lies in, as A1111 and ComfyUI name theirs, decides
only where there is no header to read, or none that tells.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from sfumato.core.checkpoints import UNET_PREFIX, SafetensorsHeader
from sfumato.core.finding import KIND_WORDS
from sfumato.core.kinds import FoundKind, detect_kind
from sfumato.core.models import ModelInfo, ModelKind

_KIND_OF_FOLDER = {
    **dict.fromkeys(("lora", "loras", "lycoris"), ModelKind.LORA),
    **dict.fromkeys(("embeddings", "embedding", "textual_inversion"), ModelKind.EMBEDDING),
    **dict.fromkeys(("controlnet", "controlnets", "t2i_adapter"), ModelKind.CONTROLNET),
    **dict.fromkeys(("vae", "vaes"), ModelKind.VAE),
    **dict.fromkeys(
        ("esrgan", "realesrgan", "swinir", "dat", "upscale_models", "upscalers"), ModelKind.UPSCALER
    ),
}
#: Where models that are added lie, below the folder of base models.
SHELF_FOLDERS: Mapping[ModelKind, str] = {
    ModelKind.BASE: "",
    ModelKind.LORA: "loras/",
    ModelKind.EMBEDDING: "embeddings/",
    ModelKind.CONTROLNET: "controlnets/",
    ModelKind.VAE: "vaes/",
    ModelKind.UPSCALER: "upscalers/",
    ModelKind.SAFETY: "safety/",
}
_BASE_FOLDERS = frozenset(("stable-diffusion", "checkpoints"))
#: How many folders above a file may tell its kind.
_REACH = 3
#: Names that programs give to every file, so that the folder's tells more.
_NO_NAMES = frozenset(
    ("pytorch_lora_weights", "adapter_model", "diffusion_pytorch_model", "learned_embeds")
)
#: Of the words that a LoRA was trained with, so many of the commonest are told.
_TRIGGERS = 8
_MAX_TITLE, _MAX_DESCRIPTION = 200, 2000
#: Bytes of a weight in half precision.
_WEIGHT_BYTES = 2


def hinted_kind(place: str) -> ModelKind | None:
    """The kind that a file's folders tell, the nearest first; None: they don't.

    Args:
        place: the file's path, as far as it is known.
    """
    path = PurePosixPath(place)
    if path.stem.endswith(".vae"):
        return ModelKind.VAE
    for folder in reversed(path.parts[:-1][-_REACH:]):
        name = folder.lower()
        if name in _BASE_FOLDERS:
            return ModelKind.BASE
        if name in _KIND_OF_FOLDER:
            return _KIND_OF_FOLDER[name]
    return None


def find_kind(header: SafetensorsHeader, place: str) -> FoundKind | None:
    """What a file is beside a base model; None: one, or nothing that is known."""
    found = detect_kind(header)
    if found is not None or any(name.startswith(UNET_PREFIX) for name in header.tensors):
        return found
    hint = hinted_kind(place)
    if hint is None or hint is ModelKind.BASE:
        return None
    if hint is ModelKind.UPSCALER:
        return FoundKind(hint)  # there are many architectures; the engine tells when it reads it
    return FoundKind(hint, refusal=f"no {KIND_WORDS[hint]} that this engine knows")


def describe_extra(
    info: ModelInfo, header: SafetensorsHeader, found: FoundKind, place: str
) -> ModelInfo:
    """``info`` of a file, with what its header tells."""
    path = PurePosixPath(place)
    name, folder = info.name, path.parent.name
    if name in _NO_NAMES and folder and folder.lower() not in _KIND_OF_FOLDER:
        name = folder
    refusal = None
    if found.refusal is not None:
        refusal = f"{path.name} can't be used: it is {found.refusal}."
    told = header.metadata
    return replace(
        info,
        name=name,
        kind=found.kind,
        family=found.family,
        title=_text(told, "modelspec.title", "ss_output_name")[:_MAX_TITLE] or name,
        description=" ".join(_description(told))[:_MAX_DESCRIPTION],
        license=_text(told, "modelspec.license")[:_MAX_TITLE],
        vocabulary=_trained_words(told),
        memory_bytes=_WEIGHT_BYTES * sum(math.prod(spec.shape) for spec in header.tensors.values()),
        refusal=refusal,
    )


def with_a1111_card(info: ModelInfo, card: Mapping[str, Any]) -> ModelInfo:
    """``info`` with the words that A1111's pages keep beside a LoRA to be put into the prompt."""
    words = card.get("activation text")
    if info.kind is not ModelKind.LORA or not isinstance(words, str) or not words.strip():
        return info
    told = f"{info.description} Activation text: {words.strip()}."
    return replace(info, description=told.strip()[:_MAX_DESCRIPTION])


def _description(metadata: Mapping[str, str]) -> Iterator[str]:
    if told := _text(metadata, "modelspec.description"):
        yield told
    triggers = _text(metadata, "modelspec.trigger_phrase") or ", ".join(_common_tags(metadata))
    if triggers:
        yield f"Trained with: {triggers}."


def _trained_words(metadata: Mapping[str, str]) -> frozenset[str] | None:
    """Every word of those captions and of the phrase that its author names; None: none is told."""
    phrases = [*_tags(metadata), _text(metadata, "modelspec.trigger_phrase")]
    words = {word for phrase in phrases for word in re.findall(r"[^\W\d_]+", phrase.casefold())}
    return frozenset(words) or None


def _common_tags(metadata: Mapping[str, str]) -> list[str]:
    """The commonest words of the captions that it was trained with."""
    return [word for word, _count in _tags(metadata).most_common(_TRIGGERS)]


def _tags(metadata: Mapping[str, str]) -> Counter[str]:
    """What its captions said and how often, as kohya's scripts count it: a JSON object of
    ``{folder: {word: count}}``."""
    try:
        folders = json.loads(metadata.get("ss_tag_frequency", "{}"))
        counts = Counter[str]()
        for words in folders.values():
            for word, count in words.items():
                counts[word.strip()] += int(count)
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return Counter()
    return counts


def _text(metadata: Mapping[str, str], *keys: str) -> str:
    """The first of the keys that says something."""
    found = (" ".join(str(metadata.get(key, "")).split()) for key in keys)
    return next((text for text in found if text and text != "None"), "")
