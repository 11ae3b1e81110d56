"""What a caller may ask of the native API, as pydantic models: what ``/docs`` shows.

Types are checked here; ranges and meaning in :class:`sfumato.core.request.GenerationRequest`,
whose limits the schema only repeats for the reader.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from sfumato.core import request as core
from sfumato.core.samplers import SAMPLERS, SCHEDULES

MAX_NAME = 200


def bounds(low: float, high: float) -> dict[str, Any]:
    """JSON Schema's words for a range that the core checks."""
    return {"minimum": low, "maximum": high}


def _whole(value: object) -> object:
    """JSON has one kind of number: 2.0 is 2, and one beyond 64 bits is read as a float."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _digits(value: object) -> object:
    """A seed may come as text: JavaScript's numbers lose the last digits of a large one."""
    is_digits = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 20
    return int(str(value)) if is_digits else value


Name = Annotated[str, Field(max_length=MAX_NAME)]
Whole = Annotated[int, BeforeValidator(_whole)]
#: A field of these three may be left out.
Side = Annotated[
    Whole | None,
    Field(
        description="Pixels: a positive multiple of 8. Left out: the model's own size.",
        json_schema_extra={"multipleOf": core.SIDE_MULTIPLE, "minimum": core.MIN_SIDE},
    ),
]
Seed = Annotated[
    Annotated[Whole, BeforeValidator(_digits, json_schema_input_type=int | str)] | None,
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

    def to_core(self) -> core.GenerationRequest:
        """Raises ``InvalidRequest``, naming the field."""
        return core.GenerationRequest(**dict(self))
