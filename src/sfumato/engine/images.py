"""From pixels to an encoded picture with its recipe inside."""

from __future__ import annotations

import io
from collections.abc import Mapping

from PIL import Image, PngImagePlugin
from torch import Tensor

from sfumato.core.ports import DecodedImage, EncodedImage
from sfumato.core.recipe import Recipe
from sfumato.core.request import OutputFormat

_USER_COMMENT, _EXIF_IFD = 0x9286, 0x8769
#: JPEG's segment for EXIF ends at 64 KiB; a longer recipe is cut there, not in the JSON twin.
_MAX_COMMENT_BYTES = 64_000
_JPEG_QUALITY, _WEBP_QUALITY = 95, 92


def to_image(pixels: Tensor) -> Image.Image:
    """A picture of pixels (3, height, width) in 0 … 1."""
    height, width = pixels.shape[1:]
    return Image.frombytes("RGB", (width, height), to_bytes(pixels))


def to_bytes(pixels: Tensor) -> bytes:
    """Pixels (3, height, width) in 0 … 1 as red, green and blue, row by row."""
    rounded = pixels.mul(255).round_().byte().permute(1, 2, 0).contiguous().cpu()
    return rounded.numpy().tobytes()


def fit(image: Image.Image, width: int, height: int) -> Image.Image:
    """Exactly ``width`` × ``height``, proportions kept: scaled to cover, then cropped around the
    centre."""
    if image.size == (width, height):
        return image
    scale = min(image.width / width, image.height / height)
    left = (image.width - width * scale) / 2
    top = (image.height - height * scale) / 2
    box = (left, top, left + width * scale, top + height * scale)
    return image.resize((width, height), Image.Resampling.LANCZOS, box=box)


def encode_image(drawn: DecodedImage, facts: Mapping[str, str | int]) -> EncodedImage:
    """Exactly the size and the format that the task asks for. No torch, so any thread may.

    Args:
        facts: what it was computed with, for the recipe.
    """
    task = drawn.task
    image = Image.frombuffer("RGB", (drawn.width, drawn.height), drawn.pixels)
    image = fit(image, task.settings.width, task.settings.height)
    recipe = Recipe.of(task, model_hash=drawn.model_hash, notes=drawn.notes, engine=facts)
    output_format = task.request.output_format
    return EncodedImage(
        index=task.index,
        data=encode(image, output_format, recipe, quality=task.request.output_quality),
        media_type=output_format.media_type,
        width=image.width,
        height=image.height,
        seed=recipe.seed,
        recipe=recipe.as_dict(),
    )


def encode(
    image: Image.Image, output_format: OutputFormat, recipe: Recipe, *, quality: int | None = None
) -> bytes:
    """The picture's file: PNG text chunks, or EXIF's UserComment, hold the recipe.

    Args:
        quality: of JPEG and WebP, 1 to 100; None: 95, and 92 for WebP.
    """
    target = io.BytesIO()
    if output_format is OutputFormat.PNG:
        text = PngImagePlugin.PngInfo()
        for key, value in (
            ("parameters", recipe.as_parameters()),
            ("sfumato", recipe.as_json()),
        ):
            text.add_itxt(key, value)
        image.save(target, "PNG", pnginfo=text)
        return target.getvalue()
    exif = Image.Exif()
    comment = recipe.as_parameters().encode("utf-16-be")[:_MAX_COMMENT_BYTES]
    exif.get_ifd(_EXIF_IFD)[_USER_COMMENT] = b"UNICODE\0" + comment
    if output_format is OutputFormat.JPEG:
        image.save(target, "JPEG", quality=quality or _JPEG_QUALITY, subsampling=0, exif=exif)
    else:
        image.save(target, "WEBP", quality=quality or _WEBP_QUALITY, exif=exif)
    return target.getvalue()
