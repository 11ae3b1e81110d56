"""What a caller asked for: validated, immutable, hashable.

Fields that a caller leaves out stay ``None`` here; :func:`sfumato.core.models.settle` fills them
from the model's own defaults, and the job shows what was used.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any

from sfumato.core.edits import (
    Hires,
    Inpainting,
    Outpainting,
    Upscaling,
    Variation,
    check_real,
)
from sfumato.core.errors import InvalidRequest
from sfumato.core.extras import MAX_CONTROLS, MAX_LORAS, Control, LoraUse, Refiner
from sfumato.core.inputs import InputImage

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
MIN_QUALITY, MAX_QUALITY = 1, 100


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


class Determinism(StrEnum):
    """What a picture's bytes may depend on beside its request."""

    FAST = "fast"  #: how many share its batch: up to 2/255 a pixel
    STRICT = "strict"  #: nothing: every step has one fixed shape


@dataclass(frozen=True, slots=True)
class Limits:
    """What an operator allows one request to cost.

    Attributes:
        max_side: greatest width and height in pixels that is asked for or drawn.
        max_pixel_steps: cap on what :func:`sfumato.core.costs.pixel_steps` counts: width × height ×
            images × steps together; the default admits a 2048² picture at 50 steps, or sixteen of
            512² at 50.
        max_result_side: greatest width and height of a picture that was enlarged, or of one in
            which the masked part alone is drawn.
    """

    max_side: int = 2048
    max_pixel_steps: int = 2048 * 2048 * 50
    max_result_side: int = 4096


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
        output_quality: of a JPEG or WebP file, 1 to 100; None: 95, and 92 for WebP.
        priority: -100 to 100, higher first.
        runtime: the pool of workers to use; None for the one that serves the model.
        metadata: the caller's own notes, echoed in the job; JSON of at most 16 KiB.
        clip_skip: which layer of the text encoder to take, from 1, the last, to 12.
        init_image: the picture to begin with, in place of noise alone.
        strength: how much of ``init_image`` is drawn anew, above 0 to 1; None: 0.75, and 1 where
            a part alone is redrawn.
        inpainting, outpainting: of ``init_image``; one of them at most.
        hires, upscaling, variation: see :mod:`sfumato.core.edits`.
        loras: beside those that the prompt names; at most 16 together.
        controls: at most 4 ControlNets.
        vae: the name of a VAE of the catalogue in place of the model's own.
        refiner: a second model for the last steps.
        determinism: None: what the operator has chosen.

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
    output_quality: int | None = None
    priority: int = 0
    runtime: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    clip_skip: int = 1
    init_image: InputImage | None = None
    strength: float | None = None
    inpainting: Inpainting | None = None
    outpainting: Outpainting | None = None
    hires: Hires | None = None
    upscaling: Upscaling | None = None
    variation: Variation | None = None
    loras: tuple[LoraUse, ...] = ()
    controls: tuple[Control, ...] = ()
    vae: str | None = None
    refiner: Refiner | None = None
    determinism: Determinism | None = None

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
        _check_number("output_quality", self.output_quality, MIN_QUALITY, MAX_QUALITY)
        _check_word("output_format", self.output_format, OutputFormat)
        if self.determinism is not None:
            _check_word("determinism", self.determinism, Determinism)
        if self.output_quality is not None and self.output_format is OutputFormat.PNG:
            raise InvalidRequest(
                "PNG is lossless; it has no output_quality.",
                field="output_quality",
                accepted="jpeg or webp as output_format, or no output_quality",
            )
        _check_metadata(self.metadata)
        self._check_edits()
        if len(self.loras) > MAX_LORAS:
            raise InvalidRequest(
                f"{len(self.loras)} LoRAs are named.",
                field="loras",
                accepted=f"at most {MAX_LORAS}",
            )
        if len(self.controls) > MAX_CONTROLS:
            raise InvalidRequest(
                f"{len(self.controls)} ControlNets are named.",
                field="controls",
                accepted=f"at most {MAX_CONTROLS}",
            )

    def _check_edits(self) -> None:
        if self.strength is not None:
            check_real("strength", self.strength, 0.0, 1.0, above=True)
        if self.inpainting is not None and self.outpainting is not None:
            raise InvalidRequest(
                "inpainting and outpainting can't be combined; do one after the other.",
                field="outpainting",
                accepted="one of the two",
            )
        for name in ("inpainting", "outpainting", "strength"):
            if getattr(self, name) is not None and self.init_image is None:
                raise InvalidRequest(
                    f"{name} needs a picture to begin with.",
                    field="init_image",
                    accepted="a picture",
                )
        mask, image = self.inpainting and self.inpainting.mask, self.init_image
        if mask and image and (mask.width, mask.height) != (image.width, image.height):
            raise InvalidRequest(
                f"The mask is {mask.width}x{mask.height} pixels, the picture {image.width}x"
                f"{image.height}.",
                field="inpainting.mask",
                accepted="a mask of the picture's size",
            )

    def inputs(self) -> tuple[InputImage, ...]:
        """The pictures that it brings along, each once."""
        named = (
            self.init_image,
            self.inpainting.mask if self.inpainting is not None else None,
            *(control.image for control in self.controls),
        )
        return tuple({image.sha256: image for image in named if image is not None}.values())

    def canonical_hash(self) -> str:
        """SHA-256 over every field in a fixed order: equal requests, equal hashes.

        A field that came later counts only where it is given, so that hashes in a store stay good.
        """
        known = self.as_dict()
        for each in fields(self):
            if each.name not in _HASHED_ALWAYS and getattr(self, each.name) == each.default:
                del known[each.name]
        if self.inpainting is not None and not self.inpainting.alpha:
            del known["inpainting"]["alpha"]
        return hashlib.sha256(canonical_json(known).encode()).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """Plain data that :meth:`from_dict` reads back."""
        return {**asdict(self), "metadata": dict(self.metadata)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> GenerationRequest:
        read = {name: _READ[name](value) for name, value in data.items() if name in _READ and value}
        return cls(**{**data, "loras": (), "controls": (), **read})


def _many(
    kind: Callable[[Mapping[str, Any]], Any],
) -> Callable[[Iterable[Mapping[str, Any]]], tuple[Any, ...]]:
    return lambda values: tuple(map(kind, values))


#: How the fields that are more than a number or a text are read back from plain data.
_READ: Mapping[str, Callable[[Any], Any]] = {
    "output_format": OutputFormat,
    "init_image": InputImage.from_dict,
    "inpainting": Inpainting.from_dict,
    "outpainting": Outpainting.from_dict,
    "hires": Hires.from_dict,
    "upscaling": Upscaling.from_dict,
    "variation": Variation.from_dict,
    "loras": _many(LoraUse.from_dict),
    "controls": _many(Control.from_dict),
    "refiner": Refiner.from_dict,
    "determinism": Determinism,
}
#: The fields of the first version, which count in the hash also where they are left out.
_HASHED_ALWAYS = frozenset(
    (
        *("prompt", "negative_prompt", "model", "width", "height", "num_inference_steps"),
        *("guidance_scale", "seed", "num_images", "sampler", "output_format", "priority"),
        *("runtime", "metadata"),
    )
)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spare white space; the form that is hashed and stored."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


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


def _check_word(name: str, value: Any, kind: type[StrEnum]) -> None:
    """Plain text that equals a word would pass for it here and not where it is compared with
    ``is``."""
    if not isinstance(value, kind):
        raise InvalidRequest(
            f"{name} must be one of {kind.__name__}, not {type(value).__name__}.",
            field=name,
            accepted=[word.value for word in kind],
        )


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
