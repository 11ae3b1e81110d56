"""The request as a job shows it: as it was asked, with its pictures by their addresses."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from sfumato.core import edits, extras
from sfumato.core.inputs import InputImage
from sfumato.core.job import Job
from sfumato.core.request import Determinism, OutputFormat


class Brought(BaseModel):
    """A picture that the request brought along; its bytes lie at ``url``."""

    sha256: str
    media_type: str = Field(examples=["image/png"])
    width: int
    height: int
    url: str = Field(examples=["/v1/jobs/01k…/inputs/9f86d0…"])

    @classmethod
    def of(cls, image: InputImage, path: str) -> Brought:
        return cls(
            sha256=image.sha256,
            media_type=image.media_type,
            width=image.width,
            height=image.height,
            url=f"{path}/inputs/{image.sha256}",
        )


class InpaintingView(BaseModel):
    """Which part of init_image was redrawn."""

    mask: Brought
    blur: int
    fill: edits.Fill
    only_masked: bool
    padding: int
    invert: bool
    alpha: bool


class ControlView(BaseModel):
    """A ControlNet and the picture that it followed."""

    model: str
    image: Brought
    strength: float
    start: float
    end: float


class Requested(BaseModel):
    """The request as it was asked; null where the model's own default was taken."""

    model_config = ConfigDict(from_attributes=True)

    prompt: str
    negative_prompt: str
    model: str | None
    width: int | None
    height: int | None
    num_inference_steps: int | None
    guidance_scale: float | None
    seed: int | None
    num_images: int
    clip_skip: int
    sampler: str | None
    schedule: str | None
    output_format: OutputFormat
    output_quality: int | None
    priority: int
    runtime: str | None
    init_image: Brought | None
    strength: float | None
    inpainting: InpaintingView | None
    outpainting: edits.Outpainting | None
    hires: edits.Hires | None
    upscaling: edits.Upscaling | None
    variation: edits.Variation | None
    loras: list[extras.LoraUse]
    controls: list[ControlView]
    vae: str | None
    refiner: extras.Refiner | None
    determinism: Determinism | None

    @classmethod
    def of(cls, job: Job, path: str) -> Requested:
        """``path``: the job's own."""
        asked = job.request
        known = {name: getattr(asked, name) for name in cls.model_fields}
        if asked.init_image is not None:
            known["init_image"] = Brought.of(asked.init_image, path)
        if (painting := asked.inpainting) is not None:
            known["inpainting"] = InpaintingView(
                mask=Brought.of(painting.mask, path),
                blur=painting.blur,
                fill=painting.fill,
                only_masked=painting.only_masked,
                padding=painting.padding,
                invert=painting.invert,
                alpha=painting.alpha,
            )
        known["loras"] = list(asked.loras)
        known["controls"] = [
            ControlView(
                model=control.model,
                image=Brought.of(control.image, path),
                strength=control.strength,
                start=control.start,
                end=control.end,
            )
            for control in asked.controls
        ]
        return cls(**known)
