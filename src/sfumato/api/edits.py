"""The parts of a native request that bring pictures and other weights, as pydantic models.

As in :mod:`sfumato.api.requests`, types are checked here and ranges in the core.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from sfumato.api.fields import Digits, Name, Whole, bounds
from sfumato.core import edits, extras
from sfumato.core.inputs import InputImage
from sfumato.core.request import MAX_STEPS, MIN_STEPS
from sfumato.core.webhooks import Webhook, WebhookEvent

#: Read by :mod:`sfumato.api.inputs`, which knows the field's name and the request's other parts.
Picture = Annotated[
    Any,
    WithJsonSchema(
        {
            "title": "Picture",
            "oneOf": [
                {
                    "type": "string",
                    "description": "A PNG, JPEG or WebP file as a data URL, in bare base64, or "
                    "its https address.",
                    "examples": ["data:image/png;base64,iVBORw0KGgo…"],
                },
                {
                    "type": "object",
                    "description": "A stored picture of an earlier job.",
                    "properties": {
                        "job": {"type": "string"},
                        "index": {"type": "integer", "minimum": 0, "default": 0},
                    },
                    "required": ["job"],
                    "additionalProperties": False,
                },
                {
                    "type": "object",
                    "description": "A part of a multipart/form-data body, by its name.",
                    "properties": {"part": {"type": "string"}},
                    "required": ["part"],
                    "additionalProperties": False,
                },
            ],
        }
    ),
]


class Part(BaseModel):
    """A part of a request. As at the top, null means left out."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {name: value for name, value in data.items() if value is not None}


def _fill(default: edits.Fill) -> Any:
    return Field(
        default,
        strict=False,
        description="What stands below the mask at the start: original, blur (colours from around "
        "it), noise or nothing.",
    )


_MASK_BLUR = bounds(0, edits.MAX_MASK_BLUR)
_SCALE = bounds(edits.MIN_SCALE, edits.MAX_SCALE)
_SHARE: dict[str, Any] = {"exclusiveMinimum": 0, "maximum": 1}


class InpaintingRequest(Part):
    """Redraw a part of init_image."""

    mask: Picture = Field(
        description="A picture of init_image's size: white is redrawn, black is kept."
    )
    blur: Whole = Field(
        4, description="Of the mask's edge, in pixels: 0 to 256.", json_schema_extra=_MASK_BLUR
    )
    fill: edits.Fill = _fill(edits.Fill.ORIGINAL)
    only_masked: bool = Field(
        default=False,
        description="Whether to draw the surroundings of the mask at the full size and paste them "
        "back.",
    )
    padding: Whole = Field(
        32,
        description="Pixels around the mask that only_masked sees: 0 to 512.",
        json_schema_extra=bounds(0, edits.MAX_MASK_PADDING),
    )
    invert: bool = Field(default=False, description="Whether black is redrawn and white kept.")
    alpha: bool = Field(
        default=False,
        description="Whether the mask's transparency is read, where it has any: what is transparent "
        "is redrawn.",
    )

    def to_core(self, mask: InputImage) -> edits.Inpainting:
        return edits.Inpainting(**{**dict(self), "mask": mask})


class WebhookRequest(Part):
    """Where to tell what becomes of the job."""

    url: str = Field(max_length=2_048, description="A public https address.")
    events: list[Annotated[WebhookEvent, Field(strict=False)]] | None = Field(
        None, description="What to tell. Left out: everything but progress."
    )

    def to_core(self) -> Webhook:
        return Webhook.named(self.url, self.events)


def _side(name: str) -> Any:
    return Field(
        0,
        description=f"Pixels to add at the {name}: 0 to {edits.MAX_OUTPAINT}.",
        json_schema_extra=bounds(0, edits.MAX_OUTPAINT),
    )


class OutpaintingRequest(Part):
    """Continue init_image beyond its edges."""

    left: Whole = _side("left")
    right: Whole = _side("right")
    top: Whole = _side("top")
    bottom: Whole = _side("bottom")
    blur: Whole = Field(
        8, description="Of the seam, in pixels: 0 to 256.", json_schema_extra=_MASK_BLUR
    )
    fill: edits.Fill = _fill(edits.Fill.BLUR)

    def to_core(self) -> edits.Outpainting:
        return edits.Outpainting(**dict(self))


class HiresRequest(Part):
    """Draw at the request's size, enlarge, and draw over it."""

    scale: float = Field(
        2.0, description="Of both sides: a number from 1 to 8.", json_schema_extra=_SCALE
    )
    upscaler: Name = Field(edits.LATENT_UPSCALER, description="latent, or the name of an upscaler.")
    strength: float = Field(
        0.7,
        description="How much is drawn anew: a number above 0 to 1.",
        json_schema_extra=_SHARE,
    )
    num_inference_steps: Whole | None = Field(
        None,
        description="Of the second pass: 1 to 150. Left out: as many as the first.",
        json_schema_extra=bounds(MIN_STEPS, MAX_STEPS),
    )

    def to_core(self) -> edits.Hires:
        return edits.Hires(**dict(self))


class UpscalingRequest(Part):
    """Enlarge the finished picture, tile by tile."""

    upscaler: Name = Field(description="The name of an upscaler.")
    scale: float = Field(
        2.0, description="Of both sides: a number from 1 to 8.", json_schema_extra=_SCALE
    )

    def to_core(self) -> edits.Upscaling:
        return edits.Upscaling(**dict(self))


class VariationRequest(Part):
    """Begin at noise between the seed's own and another's."""

    seed: Digits = Field(
        description="Of the other noise: a whole number from 0 to 2^64-1, or its digits as text."
    )
    strength: float = Field(
        description="A number from 0, all of the seed's own noise, to 1, all of the other.",
        json_schema_extra=bounds(0, 1),
    )

    def to_core(self) -> edits.Variation:
        return edits.Variation(**dict(self))


class LoraRequest(Part):
    """A LoRA; the same as `<lora:name:weight>` in the prompt."""

    name: Name = Field(description="The name of a LoRA.")
    weight: float = Field(
        1.0,
        description="A number from -10 to 10.",
        json_schema_extra=bounds(extras.MIN_LORA_WEIGHT, extras.MAX_LORA_WEIGHT),
    )
    text_weight: float | None = Field(
        None,
        description="Of its part for the text encoders: a number from -10 to 10. Left out: weight.",
        json_schema_extra=bounds(extras.MIN_LORA_WEIGHT, extras.MAX_LORA_WEIGHT),
    )

    def to_core(self) -> extras.LoraUse:
        return extras.LoraUse(**dict(self))


class ControlRequest(Part):
    """A ControlNet and the picture that it follows."""

    model: Name = Field(description="The name of a ControlNet.")
    image: Picture = Field(
        description="A picture in the form that the network was trained on: edges, depth, pose …"
    )
    strength: float = Field(
        1.0,
        description="A number from 0 to 4.",
        json_schema_extra=bounds(0, extras.MAX_CONTROL_STRENGTH),
    )
    start: float = Field(
        0.0,
        description="The part of the steps after which it steers: a number from 0 to 1.",
        json_schema_extra=bounds(0, 1),
    )
    end: float = Field(
        1.0,
        description="The part of the steps after which it no longer does: above start, to 1.",
        json_schema_extra=bounds(0, 1),
    )

    def to_core(self, image: InputImage) -> extras.Control:
        return extras.Control(**{**dict(self), "image": image})


class RefinerRequest(Part):
    """A second model for the last steps."""

    model: Name = Field(description="The name of a model that shares the first one's latents.")
    switch_at: float = Field(
        0.8,
        description="How far down the noise it takes over, a number above 0 to 1: 0.8 leaves it "
        "the last fifth of the training timesteps.",
        json_schema_extra=_SHARE,
    )

    def to_core(self) -> extras.Refiner:
        return extras.Refiner(**dict(self))
