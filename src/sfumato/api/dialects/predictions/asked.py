"""What a prediction asks for: Cog's and Replicate's words for a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field

from sfumato.api.body import as_object, checked
from sfumato.api.connection import base_of
from sfumato.api.context import ApiContext
from sfumato.api.dialects.words import in_their_words
from sfumato.api.edits import Picture
from sfumato.api.fields import Name, Whole, bounds
from sfumato.api.inputs import read_json_with_pictures, read_picture
from sfumato.api.requests import Seed, Side
from sfumato.core import request as core
from sfumato.core.edits import Inpainting
from sfumato.core.errors import InvalidRequest
from sfumato.core.extras import MAX_LORA_WEIGHT, MIN_LORA_WEIGHT, LoraUse
from sfumato.core.inputs import InputImage
from sfumato.core.models import ModelKind
from sfumato.core.ports import ModelCatalog
from sfumato.core.request import GenerationRequest, OutputFormat
from sfumato.core.webhooks import Webhook, WebhookEvent

MAX_ID = 100
#: What an id that a caller chooses may consist of: it stands in paths.
ID_PATTERN = r"^[A-Za-z0-9._~-]+$"
#: Under this name a job's metadata holds the id that its caller chose.
ID_NOTE = "prediction_id"
STYLE = "prediction"

#: The names that Replicate's models have for diffusers' classes; other names are known to the core.
_SCHEDULERS: Mapping[str, tuple[str, str | None]] = {
    "DPMSolverMultistep": ("dpmpp_2m", None),
    "HeunDiscrete": ("heun", None),
    "KarrasDPM": ("dpmpp_2m", "karras"),
    "K_EULER_ANCESTRAL": ("euler_a", None),
}
_FORMATS = {"jpg": OutputFormat.JPEG}
#: The core's field -> this dialect's.
WORDS: Mapping[str, str] = {
    **{
        name: f"input.{name}"
        for name in ("prompt", "negative_prompt", "model", "width", "height", "seed")
    },
    "num_images": "input.num_outputs",
    "num_inference_steps": "input.num_inference_steps",
    "guidance_scale": "input.guidance_scale",
    "sampler": "input.scheduler",
    "schedule": "input.scheduler",
    "init_image": "input.image",
    "inpainting.mask": "input.mask",
    "strength": "input.prompt_strength",
    "output_format": "input.output_format",
    "output_quality": "input.output_quality",
    "loras": "input.lora",
    "loras.weight": "input.lora_scale",
}
#: An output is told when it can be read, which is when the job has succeeded.
_EVENTS: Mapping[str, frozenset[WebhookEvent]] = {
    "start": frozenset({WebhookEvent.STARTED}),
    "output": frozenset({WebhookEvent.SUCCEEDED}),
    "logs": frozenset({WebhookEvent.PROGRESS}),
    "completed": frozenset(
        {WebhookEvent.SUCCEEDED, WebhookEvent.FAILED, WebhookEvent.CANCELED},
    ),
}


class Input(BaseModel):
    """What to draw. Only the prompt is required; the rest takes the model's own defaults."""

    model_config = ConfigDict(extra="forbid", strict=True)

    prompt: str = Field(
        description=f"What to draw: text of 1 to {core.MAX_PROMPT_CHARACTERS} characters."
    )
    negative_prompt: str = Field("", description="What to steer away from.")
    model: Name | None = Field(None, description="A name from /v1/models.")
    width: Side = None
    height: Side = None
    num_outputs: Whole = Field(
        1,
        description=f"How many pictures: 1 to {core.MAX_IMAGES}.",
        json_schema_extra=bounds(1, core.MAX_IMAGES),
    )
    num_inference_steps: Whole | None = Field(
        None,
        description="Denoising steps: 1 to 150.",
        json_schema_extra=bounds(core.MIN_STEPS, core.MAX_STEPS),
    )
    guidance_scale: float | None = Field(
        None,
        description="How closely to follow the prompt: 0 to 50.",
        json_schema_extra=bounds(core.MIN_GUIDANCE, core.MAX_GUIDANCE),
    )
    scheduler: Name | None = Field(
        None, description="The noise solver, as K_EULER, KarrasDPM, DDIM or DPM++ 2M Karras."
    )
    seed: Seed = None
    image: Picture = Field(None, description="A picture to begin with.")
    mask: Picture = Field(None, description="White is redrawn; of the image's size.")
    prompt_strength: float | None = Field(
        None,
        description="How much of the image is drawn anew: above 0 to 1. Without an image it says "
        "nothing.",
        json_schema_extra={"exclusiveMinimum": 0, "maximum": 1},
    )
    output_format: Literal["png", "jpg", "jpeg", "webp"] = Field(
        "png", description="png, jpg or webp."
    )
    output_quality: Whole | None = Field(
        None,
        description="Of a JPEG or WebP file: 1 to 100. PNG, which loses nothing, has none.",
        json_schema_extra=bounds(core.MIN_QUALITY, core.MAX_QUALITY),
    )
    lora: Name | None = Field(None, description="The name of a LoRA.")
    lora_scale: float = Field(
        1.0,
        description="The LoRA's weight: -10 to 10.",
        json_schema_extra=bounds(MIN_LORA_WEIGHT, MAX_LORA_WEIGHT),
    )

    def to_core(self, images: Mapping[str, InputImage], **fields: Any) -> GenerationRequest:
        """Args:
        images: ``image`` and ``mask``, read.
        fields: of the core's request, that are not said here.
        """
        sampler, schedule = _SCHEDULERS.get(self.scheduler or "", (self.scheduler, None))
        image, mask = images.get("image"), images.get("mask")
        if mask is not None and image is None:
            raise InvalidRequest(
                "input.mask needs a picture to begin with.",
                field="input.image",
                accepted="a picture",
            )
        known: dict[str, Any] = {
            "prompt": self.prompt,
            "negative_prompt": self.negative_prompt,
            "model": self.model,
            "width": self.width,
            "height": self.height,
            "num_images": self.num_outputs,
            "num_inference_steps": self.num_inference_steps,
            "guidance_scale": self.guidance_scale,
            "sampler": sampler,
            "schedule": schedule,
            "seed": self.seed,
            "init_image": image,
            "inpainting": None if mask is None else Inpainting(mask),
            "strength": None if image is None else self.prompt_strength,
            "output_format": _FORMATS.get(self.output_format) or OutputFormat(self.output_format),
            "output_quality": self.output_quality,
            "loras": () if self.lora is None else (LoraUse(self.lora, self.lora_scale),),
        }
        return GenerationRequest(**{**known, **fields})


class PredictionRequest(BaseModel):
    """A prediction to make."""

    model_config = ConfigDict(extra="forbid", strict=True)

    input: Input
    id: str | None = Field(
        None,
        max_length=MAX_ID,
        pattern=ID_PATTERN,
        description="The caller's own name for it: 1 to 100 letters, digits and . _ ~ -",
    )
    version: Name | None = Field(
        None, description="A model of /v1/models, also as owner/name or owner/name:version."
    )
    model: Name | None = Field(None, description="As version.")
    webhook: str | None = Field(None, max_length=2_048, description="A public https address.")
    webhook_events_filter: list[Literal["start", "output", "logs", "completed"]] | None = Field(
        None, description="What to tell the webhook. Left out: all of it."
    )
    stream: bool | None = Field(None, description="Every prediction can be streamed.")
    created_at: str | None = Field(None, description="Ignored: a job has its own time.")


class Asked(NamedTuple):
    """A request, the files of its pictures by their SHA-256, where to tell of its job, the
    caller's own id for it, and what the caller calls our fields."""

    request: GenerationRequest
    files: dict[str, bytes]
    webhook: Webhook | None
    id: str | None
    words: Mapping[str, str]


async def read_prediction(
    context: ApiContext, request: Request, *, model: str | None = None, own_id: str | None = None
) -> Asked:
    """What a body asks for.

    Args:
        model: that the path names; it goes before the body's.
        own_id: that the path names.

    Raises ``UnsupportedMediaType``, ``BodyTooLarge``, ``InvalidJson``, ``InvalidRequest``, or
    ``NotFound`` for an earlier job's picture that is not there.
    """
    data = await read_json_with_pictures(request)
    body = checked(PredictionRequest, _without_nulls(data))
    if own_id is not None and body.id not in (None, own_id):
        raise InvalidRequest(
            "The body's id is another than the path's.", field="id", accepted="the same, or none"
        )
    own_id = own_id or body.id
    images, files = {}, {}
    for name in ("image", "mask"):
        given = getattr(body.input, name)
        if given is not None:
            image, file = await read_picture(
                given, context.tracking, context.web, field=f"input.{name}"
            )
            images[name], files[image.sha256] = image, file
    named = model or body.version or body.model or body.input.model
    fields = {
        "model": None if named is None else await model_of(context.catalog, named),
        "metadata": {} if own_id is None else {ID_NOTE: own_id},
    }
    with in_their_words(WORDS):
        asked = body.input.to_core(images, **fields)
    words = {**WORDS, "model": _naming_model(body, by_path=model is not None)}
    return Asked(asked, files, _webhook(context, request, body), own_id, words)


def _naming_model(body: PredictionRequest, *, by_path: bool) -> str:
    """The field that the model's name was taken from."""
    if by_path or (body.version is None and body.model is not None):
        return "model"
    return "input.model" if body.version is None else "version"


async def model_of(catalog: ModelCatalog, named: str) -> str:
    """The catalogue's name of ``name``, ``owner/name`` or ``owner/name:version``; where it has
    none of them, also after another look, what was asked for.

    Raises ``Unavailable`` where it can't look.
    """
    found = _named(catalog, named)
    if found is None:
        await catalog.refresh()
        found = _named(catalog, named)
    return found or named


def _named(catalog: ModelCatalog, named: str) -> str | None:
    known = {model.name for model in catalog.list() if model.kind is ModelKind.BASE}
    names = {slug(name): name for name in known} | {name: name for name in known}
    path, _, version = named.partition(":")
    candidates = (named, version, path, path.rpartition("/")[2])
    return next((names[name] for name in candidates if name in names), None)


def slug(model: str) -> str:
    """A model's name as the second half of Replicate's ``owner/name``, which has one slash."""
    return model.replace("/", "--")


def key_of(own_id: str) -> str:
    """The idempotency key of the job that a caller has named."""
    return f"prediction:{own_id}"


def _webhook(context: ApiContext, request: Request, body: PredictionRequest) -> Webhook | None:
    if body.webhook is None:
        return None
    context.web.check(body.webhook, field="webhook")
    chosen = _EVENTS if body.webhook_events_filter is None else body.webhook_events_filter
    events = frozenset[WebhookEvent]().union(*(_EVENTS[name] for name in chosen))
    return Webhook(body.webhook, events, STYLE, base_of(request))


def _without_nulls(data: Any) -> dict[str, Any]:
    """In the input too, null means left out."""
    body = as_object(data)
    given = body.get("input")
    if not isinstance(given, dict):
        return body
    return {**body, "input": {name: value for name, value in given.items() if value is not None}}
