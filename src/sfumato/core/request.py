"""What a caller asked for: validated, immutable, hashable.

Fields that a caller leaves out stay ``None`` here; :func:`sfumato.core.models.settle` fills them
from the model's own defaults, and the job shows what was used.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from sfumato.core.errors import InvalidRequest

#: Limits that hold for every dialect. Sizes are pixels.
MAX_PROMPT_CHARACTERS = 20_000
MIN_SIDE, SIDE_MULTIPLE = 8, 8
MIN_STEPS, MAX_STEPS = 1, 150
MIN_GUIDANCE, MAX_GUIDANCE = 0.0, 50.0
MIN_SEED, MAX_SEED = 0, 2**64 - 1
MAX_IMAGES = 64
MIN_PRIORITY, MAX_PRIORITY = -100, 100
MAX_METADATA_BYTES = 16_384
MIN_CLIP_SKIP, MAX_CLIP_SKIP = 1, 12


class OutputFormat(StrEnum):
    """How a picture is encoded. PNG alone is lossless."""

    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"

    @property
    def media_type(self) -> str:
        return f"image/{self.value}"

    @property
    def extension(self) -> str:
        return "jpg" if self is OutputFormat.JPEG else self.value


@dataclass(frozen=True, slots=True)
class Limits:
    """What an operator allows one request to cost.

    Attributes:
        max_side: greatest width and height in pixels.
        max_pixel_steps: cap on width × height × images × steps together; the default admits
            a 2048² picture at 50 steps, or sixteen of 512² at 50.
    """

    max_side: int = 2048
    max_pixel_steps: int = 2048 * 2048 * 50


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One request, checked field by field on construction.

    Attributes:
        prompt: what to draw, 1 to 20,000 characters, not only white space.
        negative_prompt: what to steer away from; needs guidance above 1 to act.
        model: a name from the model catalogue; None for the default model.
        width, height: pixels, multiples of 8; None for the model's native size.
        num_inference_steps: denoising steps, 1 to 150.
        guidance_scale: classifier-free guidance, 0 to 50; 1 or less switches it off.
        seed: 0 to 2**64 - 1; image ``n`` of a job draws its noise from ``seed + n``.
            None: drawn at random when the job is made, and shown in the job.
        num_images: 1 to 64.
        sampler, schedule: names that :mod:`sfumato.core.samplers` knows; a sampler's name may end
            in its schedule's. No schedule: the sampler's own custom.
        output_format: png, jpeg or webp.
        priority: -100 to 100, higher first.
        runtime: the pool of workers to use; None for the one that serves the model.
        metadata: the caller's own notes, echoed in the job; JSON of at most 16 KiB.
        clip_skip: which layer of the text encoder to take, from 1, the last, to 12.

    Raises:
        InvalidRequest: naming the field and what it accepts.
    """

    prompt: str
    negative_prompt: str = ""
    model: str | None = None
    width: int | None = None
    height: int | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    seed: int | None = None
    num_images: int = 1
    sampler: str | None = None
    schedule: str | None = None
    output_format: OutputFormat = OutputFormat.PNG
    priority: int = 0
    runtime: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    clip_skip: int = 1

    def __post_init__(self) -> None:
        _check_text("prompt", self.prompt, required=True)
        _check_text("negative_prompt", self.negative_prompt)
        for name in ("width", "height"):
            _check_side(name, getattr(self, name))
        _check_number("num_inference_steps", self.num_inference_steps, MIN_STEPS, MAX_STEPS)
        _check_number("guidance_scale", self.guidance_scale, MIN_GUIDANCE, MAX_GUIDANCE)
        _check_number("seed", self.seed, MIN_SEED, MAX_SEED)
        _check_number("num_images", self.num_images, 1, MAX_IMAGES)
        _check_number("priority", self.priority, MIN_PRIORITY, MAX_PRIORITY)
        _check_number("clip_skip", self.clip_skip, MIN_CLIP_SKIP, MAX_CLIP_SKIP)
        _check_metadata(self.metadata)

    def canonical_hash(self) -> str:
        """SHA-256 over every field in a fixed order: equal requests, equal hashes.

        A field that came later counts only where it is given, so that hashes in a store stay good.
        """
        fields = self.as_dict()
        if self.schedule is None:
            del fields["schedule"]
        if self.clip_skip == MIN_CLIP_SKIP:
            del fields["clip_skip"]
        return hashlib.sha256(canonical_json(fields).encode()).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """Plain data that :meth:`from_dict` reads back."""
        return {**asdict(self), "metadata": dict(self.metadata)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> GenerationRequest:
        return cls(**{**data, "output_format": OutputFormat(data.get("output_format", "png"))})


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spare white space; the form that is hashed and stored."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def check_sides(limits: Limits, *, width: int | None, height: int | None) -> None:
    """Refuse a side above ``max_side``, by name; None passes.

    Raises ``InvalidRequest``.
    """
    for name, side in (("width", width), ("height", height)):
        if side is not None and side > limits.max_side:
            raise InvalidRequest(
                f"{name} is {side}, above this server's limit of {limits.max_side}.",
                field=name,
                accepted=f"a multiple of {SIDE_MULTIPLE} from {MIN_SIDE} to {limits.max_side}",
            )


def check_cost(
    limits: Limits, *, width: int, height: int, num_images: int, num_inference_steps: int
) -> None:
    """Refuse a settled request that is larger than ``limits`` allow.

    Raises:
        InvalidRequest: on a side above ``max_side``, or too many pixels × images × steps.
    """
    check_sides(limits, width=width, height=height)
    cost = width * height * num_images * num_inference_steps
    if cost > limits.max_pixel_steps:
        raise InvalidRequest(
            f"{num_images} image(s) of {width}x{height} at {num_inference_steps} steps are "
            f"{cost:,} pixel-steps, above this server's limit of {limits.max_pixel_steps:,}. "
            "Ask for fewer images, a smaller size or fewer steps.",
            field="num_images" if num_images > 1 else "width",
            accepted=f"width × height × num_images × num_inference_steps ≤ {limits.max_pixel_steps}",
        )


def _check_text(name: str, text: Any, *, required: bool = False) -> None:
    accepted = f"text of {'1' if required else '0'} to {MAX_PROMPT_CHARACTERS} characters"
    if not isinstance(text, str):
        raise InvalidRequest(f"{name} must be text.", field=name, accepted=accepted)
    if required and not text.strip():
        raise InvalidRequest(f"{name} is empty; say what to draw.", field=name, accepted=accepted)
    if len(text) > MAX_PROMPT_CHARACTERS:
        raise InvalidRequest(f"{name} has {len(text):,} characters.", field=name, accepted=accepted)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidRequest(
            f"{name} holds a lone surrogate, which is not text.", field=name, accepted=accepted
        ) from None


def _check_side(name: str, side: Any) -> None:
    if side is None:
        return
    if (
        isinstance(side, bool)
        or not isinstance(side, int)
        or side < MIN_SIDE
        or side % SIDE_MULTIPLE
    ):
        raise InvalidRequest(
            f"{name} is {side!r}, not a positive multiple of {SIDE_MULTIPLE}.",
            field=name,
            accepted=f"a multiple of {SIDE_MULTIPLE}, at least {MIN_SIDE}",
        )


def _check_number(name: str, value: Any, low: float, high: float) -> None:
    if value is None and name not in ("num_images", "priority", "clip_skip"):
        return
    accepted = f"a number from {low:g} to {high:g}"
    if name != "guidance_scale":
        accepted = f"a whole number from {int(low)} to {int(high)}"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    is_whole = isinstance(value, int) or name == "guidance_scale"
    if not is_number or not is_whole or not math.isfinite(value) or not low <= value <= high:
        raise InvalidRequest(f"{name} is {value!r}.", field=name, accepted=accepted)


def _check_metadata(metadata: Mapping[str, Any]) -> None:
    accepted = f"a JSON object of at most {MAX_METADATA_BYTES} bytes"
    try:
        # As it will be hashed and stored; a lone surrogate does not encode.
        size = len(json.dumps(dict(metadata), allow_nan=False, ensure_ascii=False).encode())
    except (TypeError, ValueError):
        raise InvalidRequest("metadata is not JSON.", field="metadata", accepted=accepted) from None
    if size > MAX_METADATA_BYTES:
        raise InvalidRequest(f"metadata has {size:,} bytes.", field="metadata", accepted=accepted)
