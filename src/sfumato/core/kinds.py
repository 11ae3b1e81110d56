"""What weights are for, told from the header of their file: its tensors' names and shapes.

The names are those that programs write which make such files: kohya's scripts, LyCORIS, diffusers
and PEFT for LoRAs; A1111, kohya's scripts and diffusers for embeddings; the first authors' code
and diffusers for VAEs and ControlNets; ESRGAN's and BasicSR's code for upscalers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from sfumato.core.checkpoints import UNET_PREFIX, VAE_PREFIX, SafetensorsHeader, TensorSpec
from sfumato.core.models import ModelKind

Tensors = Mapping[str, TensorSpec]

#: Width of the text embeddings that a network reads -> the family that was trained on such.
FAMILY_OF_WIDTH = {768: "sd1", 1024: "sd2", 1280: "sdxl_refiner", 2048: "sdxl"}
#: Width of a text encoder's words -> the family whose only or second encoder it is.
_FAMILY_OF_WORDS = {768: "sd1", 1024: "sd2", 1280: "sdxl"}
#: Family of the LoRAs of models whose network is no UNet, as FLUX's and SD 3's.
DIFFUSION_TRANSFORMER = "dit"
LATENT_CHANNELS = 4

_LORA = re.compile(
    r"[._]lora(?:_linear_layer)?[._](?:down|up|mid|A|B)(?:\.|$)"
    r"|\.(?:hada_w[12]_[ab]|lokr_w[12](?:_[ab])?|oft_blocks|oft_diag|dora_scale)$"
    r"|^(?:lora|lycoris)_"
)
#: The key or value of attention to the text, in any program's spelling, and what follows it.
_CROSS = re.compile(r"attn2[._](?:processor[._])?to_[kv](?P<rest>[._].*)")
#: A text encoder's query, key or value.
_WORDS = re.compile(
    r"text_model[._]encoder[._]layers[._]\d+[._]self_attn[._][qkv]_proj(?P<rest>\..*)"
)
_SECOND_ENCODER = re.compile(r"^lora_te2_|^text_encoder_2\.")
#: Of the UNets, only SDXL's have several transformers in one place.
_DEEP = re.compile(r"transformer_blocks[._][1-9]")
_TRANSFORMER = re.compile(
    r"double_blocks|single_blocks|joint_blocks|single_transformer_blocks|^(?:lora_)?transformer[._]"
    r"|^diffusion_model\.(?!(?:input|middle|output|down|mid|up)_block)"
)
_ARCHITECTURES = {
    "stable-diffusion-xl": "sdxl",
    "stable-diffusion-v2": "sd2",
    "stable-diffusion-v1": "sd1",
    "sdxl": "sdxl",
    "sd_v2": "sd2",
    "sd_v1": "sd1",
}

#: Part of a tensor's name -> what the file is, though it can't be used.
_UNUSABLE: Mapping[str, tuple[ModelKind, str]] = {
    "lora_controlnet": (ModelKind.CONTROLNET, "a Control-LoRA"),
    "lllite_unet": (ModelKind.CONTROLNET, "a ControlNet-LLLite"),
    "ip_adapter.": (ModelKind.CONTROLNET, "an IP-Adapter"),
    "adapter.body.": (ModelKind.CONTROLNET, "a T2I-Adapter"),
    "body.0.block1.": (ModelKind.CONTROLNET, "a T2I-Adapter"),
}


@dataclass(frozen=True, slots=True)
class FoundKind:
    """What a file is.

    Attributes:
        family: of the base models that it fits; empty: any, or not known.
        refusal: what it is that can't be used, as a phrase; None: it can.
    """

    kind: ModelKind
    family: str = ""
    refusal: str | None = None


def detect_kind(header: SafetensorsHeader) -> FoundKind | None:
    """What a file is beside a base model; None: a base model, or nothing that is known here."""
    tensors = header.tensors
    for part, (kind, what) in _UNUSABLE.items():
        if any(part in name for name in tensors):
            return FoundKind(kind, refusal=what)
    # Some hold a copy of the base model that they were trained beside.
    if _is_controlnet(tensors):
        return FoundKind(ModelKind.CONTROLNET, FAMILY_OF_WIDTH.get(_cross_width(tensors), ""))
    if any(name.startswith(UNET_PREFIX) for name in tensors):
        return None
    for detect in (_lora, _embedding, _vae, _upscaler, _safety):
        found = detect(header)
        if found is not None:
            return found
    return None


def _is_controlnet(tensors: Tensors) -> bool:
    marks = ("input_hint_block.0.weight", "controlnet_cond_embedding.conv_in.weight")
    return any(name.removeprefix("control_model.") in marks for name in tensors)


# -- LoRAs ---------------------------------------------------------------------------------------


def _lora(header: SafetensorsHeader) -> FoundKind | None:
    if not any(map(_LORA.search, header.tensors)):
        return None
    return FoundKind(ModelKind.LORA, _lora_family(header))


def _lora_family(header: SafetensorsHeader) -> str:
    tensors = header.tensors
    if any(map(_TRANSFORMER.search, tensors)):
        return DIFFUSION_TRANSFORMER
    if any(map(_SECOND_ENCODER.search, tensors)):
        return "sdxl"
    family = FAMILY_OF_WIDTH.get(_width(tensors, _CROSS))
    if family is None and any(map(_DEEP.search, tensors)):
        family = "sdxl"
    if family is None:
        family = _FAMILY_OF_WORDS.get(_width(tensors, _WORDS))
    return family or _told_family(header.metadata)


def _told_family(metadata: Mapping[str, str]) -> str:
    """What the program that made the file wrote down."""
    for key in ("modelspec.architecture", "ss_base_model_version"):
        told = str(metadata.get(key, "")).lower()
        for start, family in _ARCHITECTURES.items():
            if told.startswith(start):
                return family
    return ""


def _width(tensors: Tensors, layer: re.Pattern[str]) -> int:
    """How many numbers such a layer reads, from the first of its factors that tells; else 0."""
    for name in tensors:
        match = layer.search(name)
        if match is None:
            continue
        rest = match.group("rest")
        stem = name[: len(name) - len(rest)]
        for tell in (_of_product, _of_kronecker):
            if width := tell(tensors, stem, rest):
                return width
    return 0


def _of_product(tensors: Tensors, stem: str, rest: str) -> int:
    """The factor that reads has the width as its second side, and so has a whole difference."""
    reads = re.fullmatch(
        r"[._]lora(?:_linear_layer)?[._](?:down|A)(?:\..*)?|\.hada_w1_b|\.diff|\.weight", rest
    )
    shape = tensors[stem + rest].shape
    return shape[1] if reads and len(shape) >= 2 else 0


def _of_kronecker(tensors: Tensors, stem: str, _rest: str) -> int:
    """The widths of a Kronecker product's two factors multiply."""
    sides = []
    for factor in ("lokr_w1", "lokr_w2"):
        found = tensors.get(f"{stem}.{factor}") or tensors.get(f"{stem}.{factor}_b")
        if found is None or len(found.shape) < 2:
            return 0
        sides.append(found.shape[1])
    return sides[0] * sides[1]


def _cross_width(tensors: Tensors) -> int:
    within = {name: spec for name, spec in tensors.items() if not name.startswith(UNET_PREFIX)}
    return _width(within, _CROSS)


# -- the others ----------------------------------------------------------------------------------


def _embedding(header: SafetensorsHeader) -> FoundKind | None:
    tensors = header.tensors
    if {"clip_l", "clip_g"} & set(tensors):
        return FoundKind(ModelKind.EMBEDDING, "sdxl")
    if len(tensors) != 1:
        return None
    ((name, spec),) = tensors.items()
    width = spec.shape[-1] if spec.shape else 0
    rows = spec.shape[0] if len(spec.shape) == 2 else 1
    few = len(spec.shape) in (1, 2) and 0 < rows <= 1024
    if name != "emb_params" and not (few and width in _FAMILY_OF_WORDS):
        return None
    return FoundKind(ModelKind.EMBEDDING, _FAMILY_OF_WORDS.get(width, ""))


def _vae(header: SafetensorsHeader) -> FoundKind | None:
    first = _find(header.tensors, "decoder.conv_in.weight", ("", VAE_PREFIX))
    if first is None or len(first.shape) != 4:
        return None
    channels = first.shape[1]
    refusal = f"a VAE of {channels} channels, where Stable Diffusion's has {LATENT_CHANNELS}"
    return FoundKind(ModelKind.VAE, refusal=None if channels == LATENT_CHANNELS else refusal)


def _upscaler(header: SafetensorsHeader) -> FoundKind | None:
    prefixes = ("", "params.", "params_ema.", "module.", "model.")
    for mark in ("conv_first.weight", "model.0.weight", "body.0.weight"):
        first = _find(header.tensors, mark, prefixes)
        # Colours, or those of 4 or 16 pixels folded into one.
        if first is not None and len(first.shape) == 4 and first.shape[1] in (3, 12, 48):
            return FoundKind(ModelKind.UPSCALER)
    return None


def _safety(header: SafetensorsHeader) -> FoundKind | None:
    marks = {"concept_embeds", "special_care_embeds"}
    return FoundKind(ModelKind.SAFETY) if marks <= set(header.tensors) else None


def _find(tensors: Tensors, name: str, prefixes: tuple[str, ...]) -> TensorSpec | None:
    return next((tensors[p + name] for p in prefixes if p + name in tensors), None)
