"""Decodes the pictures that a request brings along, whatever their files hold.

Nothing of a file is unfolded before its size is known to be the one that was admitted, so no
picture costs more than :data:`sfumato.core.inputs.MAX_INPUT_PIXELS` pixels.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from sfumato.core.errors import InvalidRequest
from sfumato.core.inputs import InputImage
from sfumato.core.orientation import orientation
from sfumato.core.ports import ImageTask

_FORMATS = ("PNG", "JPEG", "WEBP")
#: EXIF's orientations from 2 on, as what has to be done to see the picture upright.
_UPRIGHT = (
    *(Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180),
    *(Image.Transpose.FLIP_TOP_BOTTOM, Image.Transpose.TRANSPOSE),
    *(Image.Transpose.ROTATE_270, Image.Transpose.TRANSVERSE, Image.Transpose.ROTATE_90),
)


def open_picture(task: ImageTask, image: InputImage, *, field: str) -> tuple[Image.Image, bool]:
    """A picture of the request as RGB of 8 bits each, upright, and whether a part of it was
    transparent: that is seen on white, as A1111 and browsers show it.

    Colour profiles are not applied; of an animation the first frame is taken.

    Args:
        field: the request's field that it came in, for the error.

    Raises:
        InvalidRequest: the file is damaged, cut off, or not of the size that its header told.
    """
    picture = _upright(task.input(image), image, field)
    if not picture.has_transparency_data:
        return _eight_bits(picture).convert("RGB"), False
    rgba = picture.convert("RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    transparent = rgba.getchannel("A").getextrema()[0] != 255
    return Image.alpha_composite(white, rgba).convert("RGB"), transparent


def open_mask(
    task: ImageTask, image: InputImage, *, field: str, alpha: bool = False
) -> Image.Image:
    """The luminance of a mask (mode L), upright.

    Args:
        alpha: where it has transparency, that is read instead, as OpenAI's masks are meant: 255
            where it is transparent.

    Raises ``InvalidRequest`` as :func:`open_picture`.
    """
    picture = _upright(task.input(image), image, field)
    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        if alpha:
            return Image.eval(rgba.getchannel("A"), lambda value: 255 - value)
        picture = rgba.convert("RGB")
    return _eight_bits(picture).convert("L")


def _upright(data: bytes, image: InputImage, field: str) -> Image.Image:
    try:
        picture = Image.open(io.BytesIO(data), formats=_FORMATS)
        turned = orientation(data)
        size = picture.size if turned < 5 else picture.size[::-1]
        if size == (image.width, image.height):
            picture.load()
            return picture if turned == 1 else picture.transpose(_UPRIGHT[turned - 2])
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly every kind there is
        raise InvalidRequest(
            f"{field} is no picture that can be read: {error}",
            field=field,
            accepted="a whole PNG, JPEG or WebP picture",
        ) from error
    raise InvalidRequest(
        f"{field} is said to be {image.width}x{image.height} pixels, but holds {size[0]}x{size[1]}.",
        field=field,
        accepted="a picture of the size that its header tells",
    )


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Greys of 16 bits, which Pillow would cut off at 255, as 8 bits."""
    if not picture.mode.startswith("I"):
        return picture
    return Image.fromarray((np.asarray(picture).astype(np.float32) / 257).round().astype(np.uint8))
