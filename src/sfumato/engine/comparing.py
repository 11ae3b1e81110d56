"""Reading a picture's recipe out of its file, and two pictures side by side. Without torch."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from sfumato.core.errors import InvalidRequest
from sfumato.core.exactness import Difference
from sfumato.core.recipe import Recipe

_FORMATS = ("PNG", "JPEG", "WEBP")


def recipe_of(data: bytes, *, name: str) -> Recipe:
    """The recipe inside a picture's file.

    Args:
        name: of the file, for errors.

    Raises:
        InvalidRequest: it is no picture, holds no recipe, or is of a kind that holds only the text.
    """
    image = _opened(data, name)
    if image.format != "PNG":
        raise InvalidRequest(
            f"{name} is a {image.format} picture. Only PNG keeps every pixel, and all of the recipe; "
            "this one has A1111's text at most.",
            accepted="a PNG picture that Sfumato drew",
        )
    text = getattr(image, "text", {}).get("sfumato")
    if text is None:
        raise InvalidRequest(
            f"{name} holds no recipe: another program drew it, or saved it anew without its text.",
            accepted="a PNG picture as Sfumato stored it",
        )
    return Recipe.from_json(text)


def compare(first: bytes, second: bytes, *, name: str) -> Difference | None:
    """How far two pictures' pixels are apart; None where their sizes differ already.

    Raises:
        InvalidRequest: the first one, called ``name``, can't be read.
    """
    one, other = (
        np.asarray(_opened(data, name).convert("RGB"), dtype=np.int16) for data in (first, second)
    )
    if one.shape != other.shape:
        return None
    apart = np.abs(one - other).max(axis=2)
    return Difference(int(apart.max()), float((apart > 0).mean()))


def _opened(data: bytes, name: str) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
        image.load()
    except Exception as error:  # Pillow's decoders raise nearly every kind there is
        raise InvalidRequest(
            f"{name} is no picture that can be read: {error}", accepted="a whole PNG picture"
        ) from error
    return image
