"""``extra-single-image`` and ``extra-batch-images``: finished pictures, enlarged.

A job draws something, so the least is drawn: one pixel of the picture is redrawn at one part in
255, which is the least that a mask can ask for. What the upscaler then enlarges is the picture that
came, but for that pixel's last bit.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import struct
import zlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from sfumato.api.connection import ClientGone
from sfumato.api.context import ApiContext, Context
from sfumato.api.dialects.a1111.generating import openapi_pictures, read
from sfumato.api.dialects.a1111.names import name_of
from sfumato.api.dialects.a1111.options import Loose, Mine, MyOptions
from sfumato.api.dialects.a1111.translation import noted
from sfumato.api.dialects.words import in_their_words
from sfumato.api.edits import Picture
from sfumato.api.fields import MAX_NAME, Name
from sfumato.api.inputs import read_picture
from sfumato.api.problems import Stopping
from sfumato.api.wanting import failure, take_back, wanted_end
from sfumato.core.edits import Inpainting, Upscaling
from sfumato.core.errors import Conflict, InvalidRequest, SfumatoError
from sfumato.core.inputs import InputImage, read_input
from sfumato.core.job import Job, JobStatus
from sfumato.core.models import ModelKind
from sfumato.core.request import MAX_IMAGES, GenerationRequest
from sfumato.core.sizes import MIN_DRAWN_SIDE

_NONE = "none"
_NAMES = {
    "upscaling.upscaler": "upscaler_1",
    "upscaling.scale": "upscaling_resize",
    "init_image": "image",
    "model": "sd_model_checkpoint",
}
#: How far a picture's proportions may be from those asked for before something would be cut off.
_ALIKE = 0.99

router = APIRouter(tags=["dialects"])


class Enlarging(Loose):
    """What both take."""

    resize_mode: int = Field(0, ge=0, le=1, description="0: by a factor; 1: to a size.")
    upscaling_resize: float = Field(2.0, description="The factor: 1 to 8.")
    upscaling_resize_w: int = Field(512, ge=1, description="The size, in pixels.")
    upscaling_resize_h: int = Field(512, ge=1, description="The size, in pixels.")
    upscaling_crop: bool = Field(
        default=True, description="Other proportions than the picture's: only without a crop."
    )
    upscaler_1: Name = Field("None", description="None, or one of /sdapi/v1/upscalers.")
    upscaler_2: Name = Field("None", description="None, unless its visibility is 0.")
    extras_upscaler_2_visibility: float = Field(0.0, description="0.")
    gfpgan_visibility: float = Field(0.0, description="0: faces are not restored here.")
    codeformer_visibility: float = Field(0.0, description="0: faces are not restored here.")
    codeformer_weight: float = Field(0.0, description="Without effect.")
    upscale_first: bool = Field(default=False, description="Without effect.")
    show_extras_results: bool = Field(default=True, description="Without effect.")

    def check(self) -> None:
        """Refuse what can't be followed. Raises ``InvalidRequest``."""
        second = self.upscaler_2.casefold() != _NONE
        for name in ("gfpgan_visibility", "codeformer_visibility", "extras_upscaler_2_visibility"):
            value = getattr(self, name)
            if value and (second or name != "extras_upscaler_2_visibility"):
                raise InvalidRequest(
                    f"{name} is {value:g}; one upscaler is all that can be had here.",
                    field=name,
                    accepted="0",
                )

    def scale(self, image: InputImage, field: str) -> float:
        """How much larger. Raises ``InvalidRequest``."""
        if self.resize_mode == 0:
            return self.upscaling_resize
        wide = self.upscaling_resize_w / image.width
        high = self.upscaling_resize_h / image.height
        if self.upscaling_crop and min(wide, high) < max(wide, high) * _ALIKE:
            raise InvalidRequest(
                f"{field} has {image.width}x{image.height} pixels, other proportions than "
                f"{self.upscaling_resize_w}x{self.upscaling_resize_h}.",
                field="upscaling_crop",
                accepted="false, or a size of the picture's proportions",
            )
        return max(wide, high)


class ExtraSingle(Enlarging):
    """One picture."""

    image: Picture = Field(description="The picture, in base64 or as a data URL.")


class NamedFile(Loose):
    """A picture with a name, which says nothing here."""

    data: Picture = Field(description="The picture, in base64 or as a data URL.")
    name: str = Field("", max_length=MAX_NAME, description="Without effect.")


class ExtraBatch(Enlarging):
    """Several pictures, all alike."""

    imageList: list[NamedFile] = Field(  # noqa: N815 - A1111's own spelling
        min_length=1, max_length=MAX_IMAGES, description=f"Pictures: 1 to {MAX_IMAGES}."
    )


class Enlarged(BaseModel):
    html_info: str
    image: str = Field(description="In base64.")


class EnlargedBatch(BaseModel):
    html_info: str
    images: list[str] = Field(description="In base64.")


@router.post(
    "/sdapi/v1/extra-single-image",
    response_model=Enlarged,
    openapi_extra=openapi_pictures(ExtraSingle),
)
async def extra_single_image(context: Context, mine: MyOptions, request: Request) -> Response:
    """Enlarge a picture."""
    body = await read(request, ExtraSingle)
    try:
        pictures = await _enlarged(context, mine, request, body, {"image": body.image})
    except ClientGone:
        return Response(status_code=499)  # nobody reads it
    return await _answer(lambda texts: {"html_info": "", "image": texts[0]}, pictures)


@router.post(
    "/sdapi/v1/extra-batch-images",
    response_model=EnlargedBatch,
    openapi_extra=openapi_pictures(ExtraBatch),
)
async def extra_batch_images(context: Context, mine: MyOptions, request: Request) -> Response:
    """Enlarge several pictures, each in a job of its own."""
    body = await read(request, ExtraBatch)
    given = {f"imageList.{n}.data": file.data for n, file in enumerate(body.imageList)}
    try:
        pictures = await _enlarged(context, mine, request, body, given)
    except ClientGone:
        return Response(status_code=499)  # nobody reads it
    return await _answer(lambda texts: {"html_info": "", "images": texts}, pictures)


async def _answer(
    shaped: Callable[[list[str]], dict[str, Any]], pictures: Sequence[bytes]
) -> Response:
    def encoded() -> bytes:
        return orjson.dumps(shaped([base64.b64encode(data).decode() for data in pictures]))

    return Response(await asyncio.to_thread(encoded), media_type="application/json")


async def _enlarged(
    context: ApiContext, mine: Mine, request: Request, body: Enlarging, given: Mapping[str, Any]
) -> list[bytes]:
    """The files of the pictures, enlarged; without an upscaler as they came, as in A1111.

    Raises ``ClientGone``: their jobs are taken back.
    """
    body.check()
    read_ones = {
        field: await read_picture(value, context.tracking, context.web, field=field)
        for field, value in given.items()
    }
    if body.upscaler_1.casefold() == _NONE:
        return [data for _, data in read_ones.values()]
    asked = [
        await _request(context, mine, body, field, picture) for field, picture in read_ones.items()
    ]
    async with _together(context) as jobs:
        for wanted, files in asked:
            with _theirs(body):
                jobs.append(await context.submission.submit(wanted, inputs=files))
        ended = [await wanted_end(context, request, job) for job in jobs]
        for job in ended:
            if job.status is JobStatus.FAILED:
                raise failure(job)
            if job.status is JobStatus.CANCELED:
                raise Conflict(f"Job {job.id} was taken back before it ended.")
    return [(await context.tracking.image(job.id, 0)).data for job in ended]


async def _request(
    context: ApiContext, mine: Mine, body: Enlarging, field: str, picture: tuple[InputImage, bytes]
) -> tuple[GenerationRequest, dict[str, bytes]]:
    """What to ask for, and the files that go with it."""
    image, data = picture
    options = mine.now()
    mask_file = await asyncio.to_thread(_least_mask, image.width, image.height)
    mask = read_input(mask_file, field="mask")
    with _theirs(body):
        upscaler = name_of(body.upscaler_1, ModelKind.UPSCALER, context.catalog.list())
        request = GenerationRequest(
            prompt="enlarged",
            model=options.model(context),
            width=MIN_DRAWN_SIDE,
            height=MIN_DRAWN_SIDE,
            num_inference_steps=1,
            guidance_scale=1.0,
            seed=0,
            output_format=options.output_format,
            output_quality=options.output_quality,
            init_image=image,
            inpainting=Inpainting(mask, blur=0, only_masked=True, padding=0),
            upscaling=Upscaling(upscaler, body.scale(image, field)),
            metadata=noted("extras"),
        )
    return request, {image.sha256: data, mask.sha256: mask_file}


def _theirs(body: Enlarging) -> contextlib.AbstractContextManager[None]:
    by_size = {"upscaling.scale": "upscaling_resize_w"} if body.resize_mode else {}
    return in_their_words({**_NAMES, **by_size})


@contextlib.asynccontextmanager
async def _together(context: ApiContext) -> AsyncIterator[list[Job]]:
    """Jobs of which none is wanted without the others."""
    jobs: list[Job] = []
    try:
        yield jobs
    except Stopping:
        raise  # they are kept
    except (SfumatoError, ClientGone):
        for job in jobs:
            with contextlib.suppress(SfumatoError):
                await take_back(context, job)
        raise


def _least_mask(width: int, height: int) -> bytes:
    """A PNG of greys of 8 bits: black, but for a first pixel of 1."""
    packer = zlib.compressobj(1)
    black = b"\0" * (1 + width)
    lines = [packer.compress(b"\0\1" + black[2:])]
    lines += [packer.compress(black) for _ in range(height - 1)]
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", b"".join((*lines, packer.flush()))),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part)) + kind + part + struct.pack(">I", zlib.crc32(kind + part))
        for kind, part in parts
    )
