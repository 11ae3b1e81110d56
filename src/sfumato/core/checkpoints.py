"""Reading the header of a ``.safetensors`` file: which tensors it promises, and whose they are.

A file begins with the header's length (8 bytes, little-endian), then the header: a JSON object of
``name: {dtype, shape, data_offsets}``. The tensors' bytes follow, without gaps.
Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from sfumato.core.errors import ModelRefused, ModelUnusable

#: The format's own cap on a header.
_MAX_HEADER_BYTES = 100_000_000
_DTYPE_BITS = {"BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8}
_DTYPE_BITS |= dict.fromkeys(("I16", "U16", "F16", "BF16"), 16)
_DTYPE_BITS |= dict.fromkeys(("I32", "U32", "F32"), 32) | dict.fromkeys(("I64", "U64", "F64"), 64)

#: A1111 users' checkpoints keep the networks' tensors below these prefixes.
UNET_PREFIX = "model.diffusion_model."
VAE_PREFIX = "first_stage_model."
CLIP_PREFIX = "cond_stage_model.transformer."
OPEN_CLIP_PREFIX = "cond_stage_model.model."
#: SDXL's first and second text encoder, and its refiner's only one.
XL_CLIP_PREFIX = "conditioner.embedders.0.transformer."
XL_OPEN_CLIP_PREFIX = "conditioner.embedders.1.model."
REFINER_PREFIX = "conditioner.embedders.0.model."
_DRAWING = (UNET_PREFIX, VAE_PREFIX, "cond_stage_model.", "conditioner.embedders.")
#: The text encoder that only this family keeps there.
_FAMILIES = {
    XL_CLIP_PREFIX: "sdxl",
    REFINER_PREFIX: "sdxl_refiner",
    OPEN_CLIP_PREFIX: "sd2",
    CLIP_PREFIX: "sd1",
}
#: Latents, mask, and the latents of what the mask leaves.
INPAINTING_CHANNELS = 9
_FIRST_CONVOLUTION = UNET_PREFIX + "input_blocks.0.0.weight"

#: Part of a tensor's name -> what the file then is; for files that this engine can't draw with.
_FOREIGN = {
    "edm_vpred.": "a model of continuous noise (EDM), as CosXL",
    "edm_mean": "a model of continuous noise (EDM), as Playground 2.5",
    "joint_blocks.": "a Stable Diffusion 3 checkpoint",
    "double_blocks.": "a Flux checkpoint",
    "control_model.": "a ControlNet",
    "lora_": "a LoRA, which changes a model but is none",
    ".lora_A.": "a LoRA, which changes a model but is none",
}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SafetensorsHeader:
    """What a file promises. ``digest_bytes``: the header as it stands in the file."""

    tensors: Mapping[str, TensorSpec]
    metadata: Mapping[str, str]
    digest_bytes: bytes


def read_header(stream: BinaryIO, size: int) -> SafetensorsHeader:
    """The header of a safetensors stream, checked against the stream's ``size`` in bytes.

    Raises:
        ModelUnusable: saying what is wrong; the message does not know the file's name.
    """
    prefix = stream.read(8)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < 8 or not 2 <= length <= _MAX_HEADER_BYTES:
        raise ModelUnusable("it is not a safetensors file: it has no header.")
    raw = stream.read(length)
    if len(raw) < length:
        raise ModelUnusable(f"it is truncated: its header has {len(raw):,} of {length:,} bytes.")
    try:
        content = json.loads(raw)
        metadata = content.pop("__metadata__", {})
        entries = {name: _entry(entry) for name, entry in content.items()}
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        raise ModelUnusable("it is corrupt: its header is not a list of tensors.") from None
    end = 0
    for name, (spec, start, stop) in sorted(entries.items(), key=lambda item: item[1][1:]):
        if start != end or stop - start != _size(spec):
            raise ModelUnusable(f"it is corrupt: the place of tensor {name!r} is impossible.")
        end = stop
    expected = 8 + length + end
    if size != expected:
        state = "truncated" if size < expected else "corrupt"
        raise ModelUnusable(f"it is {state}: it has {size:,} bytes, its header says {expected:,}.")
    return SafetensorsHeader({name: spec for name, (spec, *_) in entries.items()}, metadata, raw)


def detect_family(header: SafetensorsHeader) -> str:
    """Family of a whole checkpoint: ``sd1``, ``sd2``, ``sdxl`` or ``sdxl_refiner``, told apart by
    their text encoders.

    Its network takes the latents alone, or nine channels: inpainting's, with the mask and the
    picture under it.

    Raises:
        ModelRefused: for every other file, saying what it seems to be.
    """
    names = header.tensors
    for mark, what in _FOREIGN.items():
        if any(mark in name for name in names):
            raise ModelRefused(
                f"it is {what}; this engine draws with Stable Diffusion 1, 2 and XL."
            )
    first = names.get(_FIRST_CONVOLUTION)
    if first is None or len(first.shape) != 4:
        raise ModelRefused("it holds no Stable Diffusion network.")
    channels = first.shape[1]
    if channels not in (4, INPAINTING_CHANNELS):
        raise ModelRefused(
            f"its network takes {channels} channels where text to image has 4 and inpainting "
            f"{INPAINTING_CHANNELS}: a model that edits, upscales or follows depth."
        )
    if not any(name.startswith(VAE_PREFIX) for name in names):
        raise ModelRefused("it holds no VAE, without which latents can't become a picture.")
    for prefix, family in _FAMILIES.items():
        if any(name.startswith(prefix) for name in names):
            return family
    raise ModelRefused("it holds no text encoder.")


def drawing_weights(header: SafetensorsHeader) -> int:
    """How many numbers the networks that draw have."""
    return sum(math.prod(spec.shape) for spec in drawing_tensors(header).values())


def drawing_tensors(header: SafetensorsHeader) -> dict[str, TensorSpec]:
    """The tensors of the networks that draw; training's own copies are left aside."""
    whole = any(name.startswith(_DRAWING) for name in header.tensors)
    return {
        name: spec
        for name, spec in header.tensors.items()
        if not whole or name.startswith(_DRAWING)
    }


def tensor_bytes(spec: TensorSpec) -> int:
    """What it takes in its file."""
    return _size(spec)


def named_prediction(sidecar: Mapping[str, Any], yaml: str) -> str | None:
    """What a checkpoint's network predicts, where a file beside it says so.

    Args:
        sidecar: content of ``<name>.json``, with ``prediction_type`` as diffusers spells it.
        yaml: text of the ``<name>.yaml`` that A1111 users keep; ``parameterization: "v"`` in it
            marks a model that predicts v, and its absence one that predicts the noise.
    """
    named = sidecar.get("prediction_type")
    if named in ("epsilon", "v_prediction", "sample"):
        return str(named)
    if not yaml.strip():
        return None
    predicts_v = re.search(r"^\s*parameterization:\s*[\"']?v[\"']?\s*(#.*)?$", yaml, re.MULTILINE)
    return "v_prediction" if predicts_v else "epsilon"


def marked_schedule(header: SafetensorsHeader) -> dict[str, Any]:
    """What a checkpoint's own tensors say of its noise schedule, in diffusers' words.

    Trainers of SDXL leave two of no other use: ``v_pred``, and ``ztsnr`` where the noise ends
    without any signal.
    """
    marks: dict[str, Any] = {}
    if "v_pred" in header.tensors:
        marks["prediction_type"] = "v_prediction"
    if "ztsnr" in header.tensors:
        marks["rescale_betas_zero_snr"] = True
    return marks


def _entry(entry: Mapping[str, Any]) -> tuple[TensorSpec, int, int]:
    start, stop = entry["data_offsets"]
    shape = tuple(entry["shape"])
    if not all(isinstance(number, int) and number >= 0 for number in (start, stop, *shape)):
        raise ValueError
    return TensorSpec(str(entry["dtype"]), shape), start, stop


def _size(spec: TensorSpec) -> int:
    """Bytes of a tensor; -1, which no tensor has, for a dtype that the format does not know."""
    bits = _DTYPE_BITS.get(spec.dtype)
    return -1 if bits is None else math.prod(spec.shape) * bits // 8
