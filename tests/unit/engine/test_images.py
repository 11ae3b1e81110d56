from __future__ import annotations

import io

import pytest
import torch
from PIL import Image

from sfumato.core.recipe import Recipe
from sfumato.core.request import OutputFormat
from sfumato.engine.images import encode, fit, to_image
from tests.support.pictures import noise


def stripes(width: int, height: int) -> Image.Image:
    """Red at the left edge, green in the middle, blue at the right edge."""
    pixels = torch.zeros(3, height, width)
    pixels[0, :, : width // 4] = 1
    pixels[1, :, width // 4 : -width // 4] = 1
    pixels[2, :, -width // 4 :] = 1
    return to_image(pixels)


def recipe(prompt: str, negative: str = "") -> Recipe:
    return Recipe(prompt, negative, "m", "00", 8, 8, 8, 8, 1, 1.0, "euler", 1)


@pytest.mark.parametrize("size", [(64, 64), (512, 512), (40, 72), (8, 200), (200, 8), (128, 64)])
def test_it_covers_exactly_what_was_asked(size: tuple[int, int]) -> None:
    assert fit(stripes(64, 64), *size).size == size


def test_proportions_are_kept_and_the_centre_stays() -> None:
    tall = fit(stripes(64, 64), 32, 128)  # the outer stripes fall away
    assert tall.getpixel((0, 64)) == (0, 255, 0)
    assert tall.getpixel((31, 64)) == (0, 255, 0)
    wide = fit(stripes(64, 64), 128, 32)
    assert wide.getpixel((0, 16)) == (255, 0, 0)
    assert wide.getpixel((64, 16)) == (0, 255, 0)
    assert wide.getpixel((127, 16)) == (0, 0, 255)


@pytest.mark.parametrize("output_format", list(OutputFormat))
def test_the_longest_recipe_still_fits_its_picture(output_format: OutputFormat) -> None:
    long = recipe("城" * 20_000, "🏰" * 20_000)
    data = encode(stripes(8, 8), output_format, long)
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        if output_format is OutputFormat.PNG:
            assert image.text["parameters"] == long.as_parameters()
        else:
            assert len(image.getexif().get_ifd(0x8769)[0x9286]) > 60_000


@pytest.mark.parametrize("output_format", [OutputFormat.JPEG, OutputFormat.WEBP])
def test_a_lower_quality_makes_a_smaller_file(output_format: OutputFormat) -> None:
    picture, told = noise(64, 64), recipe("x")
    sizes = [len(encode(picture, output_format, told, quality=q)) for q in (100, None, 50, 1)]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 4


def test_png_is_lossless_and_values_are_rounded() -> None:
    pixels = torch.tensor([0.0, 0.4999, 1.0]).reshape(3, 1, 1).expand(3, 8, 8)
    with Image.open(io.BytesIO(encode(to_image(pixels), OutputFormat.PNG, recipe("x")))) as image:
        assert image.convert("RGB").getpixel((3, 3)) == (0, 127, 255)
