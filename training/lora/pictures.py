"""A folder of pictures with captions: ``a.png`` beside ``a.txt``, as other trainers have them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})


@dataclass(frozen=True)
class Pictures:
    """``pixels``: (n, side, side, 3) bytes; ``captions``: one each."""

    pixels: NDArray[np.uint8]
    captions: tuple[str, ...]


def read_pictures(folder: Path, side: int) -> Pictures:
    """Every picture of ``folder`` in the order of its name, its middle cut to a square.

    Raises:
        FileNotFoundError: there is no picture, or one has no caption.
    """
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise FileNotFoundError(f"{folder} holds no picture ({', '.join(sorted(SUFFIXES))}).")
    bare = [path.name for path in paths if not path.with_suffix(".txt").exists()]
    if bare:
        more = f" and {len(bare) - 1} more" if len(bare) > 1 else ""
        raise FileNotFoundError(
            f"{bare[0]}{more} in {folder} has no caption. Write what each picture shows into a "
            "file of the same name that ends in .txt."
        )
    texts = (path.with_suffix(".txt").read_text(encoding="utf-8") for path in paths)
    return Pictures(np.stack([_square(path, side) for path in paths]), tuple(map(_line, texts)))


def write_pictures(folder: Path, pictures: Pictures) -> None:
    """The reverse of :func:`read_pictures`."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (pixels, caption) in enumerate(
        zip(pictures.pixels, pictures.captions, strict=True)
    ):
        Image.fromarray(pixels).save(folder / f"{number:04}.png")
        (folder / f"{number:04}.txt").write_text(caption + "\n", encoding="utf-8")


def _square(path: Path, side: int) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    return np.asarray(ImageOps.fit(upright, (side, side), Image.Resampling.LANCZOS))


def _line(text: str) -> str:
    return " ".join(text.split())
