"""What OpenAI's image routes take, and how it becomes a native request.

Every field of the native request may stand beside OpenAI's own, as ``extra_body`` of its SDKs sends
it. What is said twice, in either's words, is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from pydantic import ConfigDict, Field

from sfumato.api.body import checked
from sfumato.api.fields import Whole, bounds
from sfumato.api.requests import JobRequest
from sfumato.core.edits import check_whole
from sfumato.core.errors import InvalidRequest
from sfumato.core.request import MAX_STEPS, MIN_QUALITY, MIN_STEPS, OutputFormat

#: OpenAI's bounds. An answer holds all pictures of a request.
MAX_IMAGES = 10
MAX_PARTIAL_IMAGES = 3
MAX_COMPRESSION = 100
#: Of a variation that does not say otherwise. OpenAI's has neither prompt nor strength.
_VARIATION: Mapping[str, Any] = {
    "prompt": "a picture",
    "strength": 0.6,
    "response_format": "url",
}

_SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})", re.ASCII)
#: Ours -> OpenAI's, where they differ.
_NAMES: Mapping[str, str] = {
    "width": "size",
    "height": "size",
    "num_images": "n",
    "output_quality": "output_compression",
    "num_inference_steps": "steps",
}
_PICTURES: Mapping[str, str] = {"init_image": "image", "inpainting.mask": "mask"}
#: What is answered for the qualities of older models, and for none.
_QUALITIES = {"hd": "high", "standard": "medium", "auto": "medium"}
#: Of the model's own number of steps.
_SHARES = {"low": 0.5, "medium": 1.0, "high": 1.5}
_NO_EFFECT = "It has no effect; clients send it."


class ImageRequest(JobRequest):
    """What to draw. Left out or null, a field takes the model's own default."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"prompt": "a castle at night", "size": "auto", "n": 2},
                {"prompt": "a castle at night", "seed": 7, "negative_prompt": "people"},
            ]
        }
    )

    n: Whole = Field(
        1, description="How many pictures: 1 to 10.", json_schema_extra=bounds(1, MAX_IMAGES)
    )
    size: str = Field(
        "auto",
        max_length=16,
        description="auto, which is the model's own size or that of the picture to edit, or width "
        "and height in pixels as 512x768: multiples of 8.",
    )
    response_format: Literal["url", "b64_json"] = Field(
        "b64_json", description="url or b64_json. Left out: b64_json; of a variation url."
    )
    output_compression: Whole | None = Field(
        None,
        description="Of a JPEG or WebP file: 0 to 100, the best. Left out: 95, and 92 for WebP.",
        json_schema_extra=bounds(0, MAX_COMPRESSION),
    )
    background: Literal["auto", "opaque"] = Field(
        "auto", description="auto or opaque: no transparent background can be drawn."
    )
    quality: Literal["auto", "low", "standard", "medium", "high", "hd"] = Field(
        "auto",
        description="auto, standard or medium: as many steps as the model's own default; low: half "
        "of them; high or hd: half as many more. Whoever says the steps gets those.",
    )
    moderation: Literal["auto", "low"] = Field("auto", description=f"auto or low. {_NO_EFFECT}")
    style: Literal["vivid", "natural"] | None = Field(
        None, description=f"vivid or natural. {_NO_EFFECT}"
    )
    input_fidelity: Literal["low"] | None = Field(
        None, description="low. How close an edit keeps to its picture is what strength says."
    )
    user: str | None = Field(None, description=f"A text. {_NO_EFFECT}")
    safety_identifier: str | None = Field(None, description=f"A text. {_NO_EFFECT}")
    stream: bool = Field(
        default=False, description="true: answer server-sent events, of one picture."
    )
    partial_images: Whole = Field(
        0,
        description="Of a stream: at most so many previews before the picture, 0 to 3.",
        json_schema_extra=bounds(0, MAX_PARTIAL_IMAGES),
    )
    steps: Whole | None = Field(
        None,
        description="As num_inference_steps: 1 to 150.",
        json_schema_extra=bounds(MIN_STEPS, MAX_STEPS),
    )

    @property
    def drawn_quality(self) -> str:
        """``low``, ``medium`` or ``high``."""
        return _QUALITIES.get(self.quality, self.quality)

    def steps_of(self, usual: int) -> int:
        """How many steps the quality asks for, of a model that usually takes so many."""
        return max(MIN_STEPS, min(round(usual * _SHARES[self.drawn_quality]), MAX_STEPS))

    def to_native(self) -> JobRequest:
        """Raises ``InvalidRequest``, naming the field."""
        given = self.model_fields_set - ({"size"} if self.size == "auto" else set())
        for native, own in _NAMES.items():
            if {native, own} <= given:
                raise InvalidRequest(
                    f"{own} and {native} say the same.", field=own, accepted="one of the two"
                )
        fields = {name: getattr(self, name) for name in JobRequest.model_fields}
        if "n" in given:
            fields["num_images"] = self.n
        if "size" in given:
            fields["width"], fields["height"] = _sides(self.size)
        if "steps" in given:
            fields["num_inference_steps"] = self.steps
        if self.output_compression is not None:
            fields["output_quality"] = _quality(self.output_compression, self.output_format)
        check_whole("n", fields["num_images"], 1, MAX_IMAGES)
        self._check_stream(fields["num_images"])
        return JobRequest.model_construct(**fields)  # of what was checked already

    def _check_stream(self, images: int) -> None:
        check_whole("partial_images", self.partial_images, 0, MAX_PARTIAL_IMAGES)
        if not self.stream:
            if self.partial_images:
                raise InvalidRequest(
                    "partial_images come in a stream alone.",
                    field="partial_images",
                    accepted="0, or stream: true",
                )
            return
        if images > 1:
            raise InvalidRequest(
                f"A stream can't tell {images} pictures apart.", field="n", accepted="1"
            )
        if self.response_format == "url":
            raise InvalidRequest(
                "A stream carries its pictures in base64.",
                field="response_format",
                accepted="b64_json, or no stream",
            )


class Read(NamedTuple):
    """A body that was read.

    Attributes:
        names: what its caller calls our fields, where they differ.
        parts: files of the form that it came in.
    """

    asked: ImageRequest
    names: Mapping[str, str]
    parts: Mapping[str, memoryview]


def generation(data: Mapping[str, Any]) -> Read:
    """Raises ``InvalidRequest``."""
    return _read(data, {}, {})


def edit(data: Mapping[str, Any], parts: Mapping[str, memoryview]) -> Read:
    """A request with ``image`` and ``mask`` in any form that the native API takes.

    OpenAI's masks say by their transparency what is redrawn; one without any is read by its
    colours, as the native API does.

    Raises ``InvalidRequest``.
    """
    fields = dict(data)
    image, mask = fields.pop("image", None), fields.pop("mask", None)
    if image is None:
        raise InvalidRequest(
            "image is missing.", field="image", accepted="a PNG, JPEG or WebP file"
        )
    inpainting = fields.get("inpainting")
    if mask is not None and (inpainting is None or isinstance(inpainting, dict)):
        _check_once(inpainting or {}, "mask", "mask", "inpainting.mask")
        fields["inpainting"] = {"alpha": True, **(inpainting or {}), "mask": mask}
    _check_once(fields, "init_image", "image", "init_image")
    return _read({**fields, "init_image": image}, parts, _PICTURES)


def variation(data: Mapping[str, Any], parts: Mapping[str, memoryview]) -> Read:
    """As :func:`edit`, with defaults for what a variation of OpenAI's does not have.

    Raises ``InvalidRequest``.
    """
    given = {name: value for name, value in data.items() if value is not None}
    read = edit({**_VARIATION, **given}, parts)
    if read.asked.stream:
        raise InvalidRequest("Variations have no stream.", field="stream", accepted="false")
    return read


def _read(
    data: Mapping[str, Any], parts: Mapping[str, memoryview], pictures: Mapping[str, str]
) -> Read:
    asked = checked(ImageRequest, data)
    given = asked.model_fields_set
    names = {native: own for native, own in _NAMES.items() if own in given}
    return Read(asked, {**names, **pictures}, parts)


def _check_once(fields: Mapping[str, Any], native: str, own: str, name: str) -> None:
    if fields.get(native) is not None:
        raise InvalidRequest(f"{own} and {name} say the same.", field=own, accepted="one of them")


def _sides(size: str) -> tuple[int, int]:
    found = _SIZE.fullmatch(size)
    if found is None:
        raise InvalidRequest(
            "size is no size.", field="size", accepted="auto, or multiples of 8 as 512x768"
        )
    return int(found[1]), int(found[2])


def _quality(compression: int, kind: OutputFormat) -> int | None:
    check_whole("output_compression", compression, 0, MAX_COMPRESSION)
    if kind is not OutputFormat.PNG:
        return max(MIN_QUALITY, compression)
    if compression < MAX_COMPRESSION:
        raise InvalidRequest(
            "PNG is lossless; it has no output_compression.",
            field="output_compression",
            accepted="jpeg or webp as output_format, or 100",
        )
    return None
