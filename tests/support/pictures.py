"""Pictures that requests bring along, made by Pillow."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from sfumato.core.inputs import InputImage, read_input
from sfumato.core.models import ModelInfo, settle
from sfumato.core.ports import ImageTask
from sfumato.core.request import GenerationRequest


def noise(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """A picture in which no two pixels are likely to be alike."""
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    values = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    return Image.fromarray(values)


def rectangle(width: int, height: int, box: tuple[int, int, int, int]) -> Image.Image:
    """A mask: white inside the box."""
    mask = Image.new("L", (width, height), 0)
    mask.paste(255, box)
    return mask


def file_of(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


class Brought:
    """Files by their digest, as a task holds them."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def add(self, data: bytes | Image.Image) -> InputImage:
        """A file, or the PNG of a picture."""
        data = file_of(data) if isinstance(data, Image.Image) else data
        image = read_input(data, field="init_image")
        self.files[image.sha256] = data
        return image

    def task(self, request: GenerationRequest, model: ModelInfo, index: int = 0) -> ImageTask:
        settings = settle(request, model, random_seed=0)
        return ImageTask("job", index, request, settings, model, inputs=self.files)
