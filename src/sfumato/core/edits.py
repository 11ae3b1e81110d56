"""What a request wants done beyond a picture from noise: the parts of :class:`GenerationRequest`
that change, continue or enlarge a picture. Each checks itself on construction."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sfumato.core.errors import InvalidRequest
from sfumato.core.inputs import InputImage

MAX_MASK_BLUR = 256
MAX_MASK_PADDING = 512
MAX_OUTPAINT = 2048
MIN_SCALE, MAX_SCALE = 1.0, 8.0
MAX_SEED = 2**64 - 1
#: The upscaler that needs no weights: the latents are interpolated.
LATENT_UPSCALER = "latent"


class Fill(StrEnum):
    """What stands below the mask before the first step. A1111's four, under plain names."""

    ORIGINAL = "original"  #: the picture as it is
    BLUR = "blur"  #: colours from around the mask, blurred (A1111's ``fill``)
    NOISE = "noise"  #: fresh noise in the latents (``latent noise``)
    NOTHING = "nothing"  #: latents of zero (``latent nothing``)


@dataclass(frozen=True, slots=True)
class Inpainting:
    """Redraw a part of ``init_image``.

    Attributes:
        mask: white is redrawn, black is kept; of the init image's size.
        blur: radius in pixels of the picture that is drawn, 0 to 256.
        fill: what stands below the mask at the start.
        only_masked: crop around the mask, draw that part at the full size, paste it back.
        padding: pixels of the init image around the mask that ``only_masked`` sees, 0 to 512.
        invert: black is redrawn.
        alpha: the mask's transparency is read in place of its colours: what is transparent is
            redrawn. A mask that has none is read by its colours all the same.
    """

    mask: InputImage
    blur: int = 4
    fill: Fill = Fill.ORIGINAL
    only_masked: bool = False
    padding: int = 32
    invert: bool = False
    alpha: bool = False

    def __post_init__(self) -> None:
        check_whole("inpainting.blur", self.blur, 0, MAX_MASK_BLUR)
        check_whole("inpainting.padding", self.padding, 0, MAX_MASK_PADDING)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Inpainting:
        mask = InputImage.from_dict(data["mask"])
        return cls(**{**data, "mask": mask, "fill": Fill(data.get("fill", "original"))})


@dataclass(frozen=True, slots=True)
class Outpainting:
    """Continue ``init_image`` beyond its edges by so many pixels, 0 to 2,048 each, not all 0.

    The result is as large as the init image and what is added, rounded up to a multiple of 8.
    """

    left: int = 0
    right: int = 0
    top: int = 0
    bottom: int = 0
    blur: int = 8
    fill: Fill = Fill.BLUR

    def __post_init__(self) -> None:
        for side in ("left", "right", "top", "bottom"):
            check_whole(f"outpainting.{side}", getattr(self, side), 0, MAX_OUTPAINT)
        check_whole("outpainting.blur", self.blur, 0, MAX_MASK_BLUR)
        if not (self.left or self.right or self.top or self.bottom):
            raise InvalidRequest(
                "outpainting adds nothing.",
                field="outpainting",
                accepted="at least one of left, right, top and bottom above 0",
            )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Outpainting:
        return cls(**{**data, "fill": Fill(data.get("fill", "blur"))})


@dataclass(frozen=True, slots=True)
class Hires:
    """Draw at the request's size, enlarge, and draw over it.

    Attributes:
        scale: of both sides, 1 to 8; the result's are rounded to multiples of 8.
        upscaler: ``latent``, or the name of an upscaler of the catalogue.
        strength: how much is drawn anew, above 0 to 1.
        num_inference_steps: of the second pass; None: as many as the first.
    """

    scale: float = 2.0
    upscaler: str = LATENT_UPSCALER
    strength: float = 0.7
    num_inference_steps: int | None = None

    def __post_init__(self) -> None:
        check_real("hires.scale", self.scale, MIN_SCALE, MAX_SCALE)
        check_real("hires.strength", self.strength, 0.0, 1.0, above=True)
        if self.num_inference_steps is not None:
            check_whole("hires.num_inference_steps", self.num_inference_steps, 1, 150)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Hires:
        return cls(**data)


@dataclass(frozen=True, slots=True)
class Upscaling:
    """Enlarge the finished picture with an upscaler of the catalogue, tile by tile.

    Attributes:
        scale: of both sides, 1 to 8; what the network does not do itself is resampled.
    """

    upscaler: str
    scale: float = 2.0

    def __post_init__(self) -> None:
        check_real("upscaling.scale", self.scale, MIN_SCALE, MAX_SCALE)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Upscaling:
        return cls(**data)


@dataclass(frozen=True, slots=True)
class Variation:
    """Begin at noise between that of the picture's own seed and that of another (A1111's subseed).

    Attributes:
        seed: of the other noise; image ``n`` of a job uses ``seed + n``. The picture's own seed is
            then the job's for each of them.
        strength: 0, all of the picture's own, to 1, all of the other.
    """

    seed: int
    strength: float

    def __post_init__(self) -> None:
        check_whole("variation.seed", self.seed, 0, MAX_SEED)
        check_real("variation.strength", self.strength, 0.0, 1.0)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Variation:
        return cls(**data)


def check_whole(name: str, value: Any, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidRequest(
            f"{name} is {value!r}.", field=name, accepted=f"a whole number from {low} to {high}"
        )


def check_real(name: str, value: Any, low: float, high: float, *, above: bool = False) -> None:
    """Args:
    above: whether ``low`` itself is refused.
    """
    accepted = f"a number {'above' if above else 'from'} {low:g} to {high:g}"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not low <= value <= high:
        raise InvalidRequest(f"{name} is {value!r}.", field=name, accepted=accepted)
    if above and value == low:
        raise InvalidRequest(f"{name} is {value!r}.", field=name, accepted=accepted)
