"""What the style words do to a picture: each changes all of it, so that a caption can be believed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter, ImageOps

from training.starter.words import COLOURS, FLAT

Rgba = Image.Image
#: Squares that pixel art has on a side.
_SQUARES = 32
#: How much of a coloured object's own colour is replaced.
_DYE = 0.85


def restyled(image: Image.Image, style: str, seed: int) -> Image.Image:
    """``image`` (RGB) in ``style``; the same for the same seed always."""
    if style == FLAT:
        return image
    if style == "pixel art":
        return _pixel_art(image)
    if style == "pencil":
        return _pencil(image)
    if style == "watercolour":
        return _watercolour(image, seed)
    raise ValueError(f"there is no style {style!r}")


def dyed(sprite: Rgba, colour: str) -> Rgba:
    """``sprite`` in ``colour``, with the light and shade that it had."""
    pixels = np.asarray(sprite, dtype=np.float32)
    light = pixels[..., :3] @ np.array([0.299, 0.587, 0.114], dtype=np.float32) / 255
    seen = pixels[..., 3] > 127
    # What is brightest in the drawing takes the colour itself, so that a dark one takes it as well.
    peak = max(float(np.quantile(light[seen], 0.9)) if seen.any() else 1.0, 0.2)
    shade = np.clip(0.35 + 0.65 * light / peak, 0, 1.15)[..., None]
    painted = np.clip(np.array(COLOURS[colour], dtype=np.float32) * shade, 0, 255)
    pixels[..., :3] = pixels[..., :3] * (1 - _DYE) + painted * _DYE
    return Image.fromarray(pixels.astype(np.uint8), "RGBA")


def _pixel_art(image: Image.Image) -> Image.Image:
    small = image.resize((_SQUARES, _SQUARES), Image.Resampling.BOX)
    few = small.quantize(24, dither=Image.Dither.NONE).convert("RGB")
    return few.resize(image.size, Image.Resampling.NEAREST)


def _pencil(image: Image.Image) -> Image.Image:
    """Grey strokes on paper: a picture divided by its own blur leaves its edges."""
    grey = ImageOps.grayscale(image)
    soft = ImageOps.invert(grey).filter(ImageFilter.GaussianBlur(image.width / 40))
    base = np.asarray(grey, dtype=np.float32)
    strokes = np.clip(base / np.maximum(255 - np.asarray(soft, dtype=np.float32), 1), 0, 1) ** 2
    shading = 0.55 + 0.45 * base / 255
    paper = np.array([250, 248, 242], dtype=np.float32)
    return Image.fromarray(((strokes * shading)[..., None] * paper).astype(np.uint8), "RGB")


def _watercolour(image: Image.Image, seed: int) -> Image.Image:
    """Pale washes with soft, uneven edges and the grain of paper."""
    side = image.width
    wet = image.filter(ImageFilter.ModeFilter(3 if side < 200 else 7))
    wet = wet.filter(ImageFilter.GaussianBlur(side / 160))
    pixels: NDArray[np.float32] = np.asarray(wet, dtype=np.float32)
    rng = np.random.default_rng(seed)
    pools = rng.standard_normal((8, 8)).astype(np.float32)
    pooled = Image.fromarray(pools).resize((side, side), Image.Resampling.BICUBIC)
    grain = rng.standard_normal((side, side)).astype(np.float32)
    wash = 1 + 0.06 * np.asarray(pooled) + 0.012 * grain
    pale = 255 - (255 - pixels) * 0.8 * wash[..., None]
    washed = Image.fromarray(np.clip(pale, 0, 255).astype(np.uint8), "RGB")
    # Pigment gathers where a wash ends.
    edges = ImageOps.grayscale(wet.filter(ImageFilter.FIND_EDGES)).point(lambda v: v // 5)
    return ImageChops.subtract(washed, Image.merge("RGB", (edges,) * 3))
