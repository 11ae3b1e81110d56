"""What a caller may ask of the native API, as pydantic models: what ``/docs`` shows.

Types are checked here; ranges and meaning in :class:`sfumato.core.request.GenerationRequest`,
whose limits the schema only repeats for the reader.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from sfumato.api.edits import (
    ControlRequest,
    HiresRequest,
    InpaintingRequest,
    LoraRequest,
    OutpaintingRequest,
    Picture,
    RefinerRequest,
    UpscalingRequest,
    VariationRequest,
    WebhookRequest,
)
from sfumato.api.fields import Digits, Name, Whole, bounds
from sfumato.core import request as core
from sfumato.core.extras import MAX_CONTROLS, MAX_LORAS
from sfumato.core.inputs import InputImage
from sfumato.core.samplers import SAMPLERS, SCHEDULES

#: A field of these three may be left out.
Side = Annotated[
    Whole | None,
    Field(
        description="Pixels: a positive multiple of 8. Left out: the model's own size.",
        json_schema_extra={"multipleOf": core.SIDE_MULTIPLE, "minimum": core.MIN_SIDE},
    ),
]
Seed = Annotated[
    Digits | None,
    Field(
        description="A whole number from 0 to 2^64-1, or its digits as text; image n of a job "
        "uses seed + n. Left out: drawn at random and shown in the job.",
    ),
]
Sampler = Annotated[
    Name | None,
    Field(
        description="The noise solver, in any usual spelling, as euler_a or DPM++ 2M.",
        examples=list(SAMPLERS),
    ),
]
Schedule = Annotated[
    Name | None,
    Field(
        description="The noise levels that the sampler visits, in any usual spelling, as karras or "
        "SGM Uniform. Left out: what the sampler's name ends in, else its own custom.",
        examples=list(SCHEDULES),
    ),
]


class JobRequest(BaseModel):
    """What to draw. Only the prompt is required; the rest takes the model's own defaults."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [
                {"prompt": "a castle at night"},
                {"prompt": "a castle at night", "seed": 7, "num_images": 4, "guidance_scale": 5},
            ]
        },
    )

    prompt: str = Field(
        description=f"What to draw: text of 1 to {core.MAX_PROMPT_CHARACTERS} characters."
    )
    negative_prompt: str = Field(
        "", description="What to steer away from; acts when guidance_scale is above 1."
    )
    model: Name | None = Field(None, description="A name from /v1/models.")
    width: Side = None
    height: Side = None
    num_inference_steps: Whole | None = Field(
        None,
        description=f"Denoising steps: a whole number from {core.MIN_STEPS} to {core.MAX_STEPS}.",
        json_schema_extra=bounds(core.MIN_STEPS, core.MAX_STEPS),
    )
    guidance_scale: float | None = Field(
        None,
        description="How closely to follow the prompt: a number from "
        f"{core.MIN_GUIDANCE:g} to {core.MAX_GUIDANCE:g}; 1 or less switches guidance off.",
        json_schema_extra=bounds(core.MIN_GUIDANCE, core.MAX_GUIDANCE),
    )
    seed: Seed = None
    num_images: Whole = Field(
        1,
        description=f"How many pictures: a whole number from 1 to {core.MAX_IMAGES}.",
        json_schema_extra=bounds(1, core.MAX_IMAGES),
    )
    sampler: Sampler = None
    schedule: Schedule = None
    output_format: core.OutputFormat = Field(
        core.OutputFormat.PNG,
        strict=False,  # a text of the three becomes the enumeration's member
        description="png, jpeg or webp. PNG alone is lossless.",
    )
    output_quality: Whole | None = Field(
        None,
        description="Of a JPEG or WebP file: a whole number from "
        f"{core.MIN_QUALITY} to {core.MAX_QUALITY}. Left out: 95, and 92 for WebP.",
        json_schema_extra=bounds(core.MIN_QUALITY, core.MAX_QUALITY),
    )
    priority: Whole = Field(
        0,
        description="Higher goes first: a whole number from "
        f"{core.MIN_PRIORITY} to {core.MAX_PRIORITY}.",
        json_schema_extra=bounds(core.MIN_PRIORITY, core.MAX_PRIORITY),
    )
    runtime: Name | None = Field(
        None, description="A name from /v1/runtimes. Left out: the first that serves the model."
    )
    metadata: dict[str, Any] = Field(
        default_factory=dict,
        description="Your own notes, echoed in the job: "
        f"a JSON object of at most {core.MAX_METADATA_BYTES} bytes.",
    )
    clip_skip: Whole = Field(
        1,
        description="Which layer of the text encoder to take, counted from the last: a whole "
        f"number from {core.MIN_CLIP_SKIP} to {core.MAX_CLIP_SKIP}.",
        json_schema_extra=bounds(core.MIN_CLIP_SKIP, core.MAX_CLIP_SKIP),
    )

    init_image: Picture = Field(None, description="A picture to begin with, instead of noise.")
    strength: float | None = Field(
        None,
        description="How much of init_image is drawn anew: a number above 0 to 1. Left out: 0.75, "
        "and 1 where only a part is redrawn.",
        json_schema_extra={"exclusiveMinimum": 0, "maximum": 1},
    )
    inpainting: InpaintingRequest | None = Field(
        None, description="Redraw a part of init_image: an object with a mask."
    )
    outpainting: OutpaintingRequest | None = Field(
        None, description="Continue init_image beyond its edges: an object with left, right …"
    )
    hires: HiresRequest | None = Field(
        None, description="Enlarge and draw over it: an object, which may be empty."
    )
    upscaling: UpscalingRequest | None = Field(
        None, description="Enlarge the finished picture: an object with an upscaler."
    )
    variation: VariationRequest | None = Field(
        None, description="Towards another seed: an object with seed and strength."
    )
    loras: list[LoraRequest] = Field(
        default_factory=list,
        description=f"Beside those that the prompt names: a list of at most {MAX_LORAS}.",
        json_schema_extra={"maxItems": MAX_LORAS},
    )
    controls: list[ControlRequest] = Field(
        default_factory=list,
        description=f"ControlNets, each with its picture: a list of at most {MAX_CONTROLS}.",
        json_schema_extra={"maxItems": MAX_CONTROLS},
    )
    vae: Name | None = Field(None, description="The name of a VAE in place of the model's own.")
    refiner: RefinerRequest | None = Field(
        None, description="A second model for the last steps: an object with a model."
    )
    determinism: core.Determinism | None = Field(
        None,
        strict=False,
        description="strict: the same bytes in any company; fast: up to 2/255 a pixel between "
        "them. Left out: what the operator has chosen.",
    )

    webhook: WebhookRequest | None = Field(
        None, description="Where to tell what becomes of the job: an object with a url."
    )

    def pictures(self) -> dict[str, Any]:
        """The pictures as they were given, by the dotted names of their fields."""
        named = {
            "init_image": self.init_image,
            "inpainting.mask": None if self.inpainting is None else self.inpainting.mask,
            **{f"controls.{n}.image": control.image for n, control in enumerate(self.controls)},
        }
        return {name: value for name, value in named.items() if value is not None}

    def to_core(self, pictures: Mapping[str, InputImage] | None = None) -> core.GenerationRequest:
        """Raises ``InvalidRequest``, naming the field.

        Args:
            pictures: what :meth:`pictures` became, by the same names.
        """
        images = pictures or {}
        fields = dict(self)
        del fields["webhook"]  # it is the job's, not the picture's
        for name in ("outpainting", "hires", "upscaling", "variation", "refiner"):
            if fields[name] is not None:
                fields[name] = fields[name].to_core()
        if self.inpainting is not None:
            fields["inpainting"] = self.inpainting.to_core(images["inpainting.mask"])
        fields["init_image"] = images.get("init_image")
        fields["loras"] = tuple(lora.to_core() for lora in self.loras)
        fields["controls"] = tuple(
            control.to_core(images[f"controls.{n}.image"])
            for n, control in enumerate(self.controls)
        )
        return core.GenerationRequest(**fields)
