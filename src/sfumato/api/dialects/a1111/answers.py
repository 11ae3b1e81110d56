"""What txt2img and img2img answer: the pictures in base64, and ``info``, JSON as text."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from pydantic import BaseModel, Field

from sfumato import __version__
from sfumato.api.dialects.a1111.drawing import Drawing, Img2Img
from sfumato.api.dialects.a1111.names import SHORT_HASH, digest_of
from sfumato.api.dialects.a1111.texts import PARAMETERS, texts_of
from sfumato.api.dialects.a1111.translation import Translated
from sfumato.core.job import Job
from sfumato.core.models import ModelInfo
from sfumato.core.samplers import sampler_label

_SEEDS = 2**64


class Drawn(BaseModel):
    """The answer, as it goes over the wire."""

    images: list[str] = Field(description="Pictures in base64, without a data URL's beginning.")
    parameters: dict[str, Any] = Field(description="The request, with its defaults filled in.")
    info: str = Field(description="JSON: seeds, prompts, infotexts and the like.")


def encoded(
    body: Drawing,
    asked: Translated,
    job: Job,
    models: Mapping[str, ModelInfo],
    pictures: Sequence[bytes],
) -> bytes:
    """The answer's JSON. Takes long for many pictures.

    Args:
        models: ``model`` and ``vae`` that drew, as far as the catalogue still knows them.
        pictures: the files of those that were finished.
    """
    told = info(body, asked, job, models, [texts_of(data).get(PARAMETERS, "") for data in pictures])
    sent = pictures if body.send_images else ()
    answer = {
        "images": [base64.b64encode(data).decode() for data in sent],
        "parameters": parameters(body),
        "info": orjson.dumps(told).decode(),
    }
    return orjson.dumps(answer)


def parameters(body: Drawing) -> dict[str, Any]:
    """The request as A1111 echoes it: its own pictures come back where that was asked for."""
    echoed = body.model_dump(mode="json")
    echoed["override_settings"] = body.override_settings.given()
    if isinstance(body, Img2Img) and not body.include_init_images:
        echoed |= {"init_images": None, "mask": None}
    return echoed


def info(
    body: Drawing,
    asked: Translated,
    job: Job,
    models: Mapping[str, ModelInfo],
    infotexts: Sequence[str],
) -> dict[str, Any]:
    """A1111's account of what was drawn, under its own names."""
    request, settings = job.request, job.settings
    count = request.num_images
    varied = request.variation is not None
    seeds = [settings.image_seed(0 if varied else n) for n in range(count)]
    subseeds = [(asked.subseed + n) % _SEEDS for n in range(count)]
    digests = {name: digest_of(model) for name, model in models.items()}
    return {
        "prompt": request.prompt,
        "all_prompts": [request.prompt] * count,
        "negative_prompt": request.negative_prompt,
        "all_negative_prompts": [request.negative_prompt] * count,
        "seed": seeds[0],
        "all_seeds": seeds,
        "subseed": subseeds[0],
        "all_subseeds": subseeds,
        "subseed_strength": body.subseed_strength,
        "width": settings.render_width,
        "height": settings.render_height,
        "sampler_name": sampler_label(settings.sampler),
        "cfg_scale": settings.guidance_scale,
        "steps": settings.num_inference_steps,
        "batch_size": body.batch_size,
        "restore_faces": False,
        "face_restoration_model": None,
        "sd_model_name": settings.model,
        "sd_model_hash": digests.get("model", "")[:SHORT_HASH] or None,
        "sd_vae_name": request.vae,
        "sd_vae_hash": digests.get("vae", "")[:SHORT_HASH] or None,
        "seed_resize_from_w": -1,
        "seed_resize_from_h": -1,
        "denoising_strength": request.hires.strength if request.hires else settings.strength,
        "extra_generation_params": {},
        "index_of_first_image": 0,
        "infotexts": list(infotexts),
        "styles": [],
        "job_timestamp": timestamp(job),
        "clip_skip": request.clip_skip,
        "is_using_inpainting_conditioning": False,
        "version": f"Sfumato {__version__}",
        "comments": list(job.notes),
    }


def timestamp(job: Job) -> str:
    """When the job was made, in A1111's form, in UTC."""
    return datetime.fromtimestamp(job.created_at, UTC).strftime("%Y%m%d%H%M%S")
