"""Many pictures on one page."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def sheet(pixels: NDArray[np.uint8], columns: int, gap: int = 2) -> Image.Image:
    """(n, side, side, 3) bytes as one page, row by row."""
    side, rows = pixels.shape[1], -(-len(pixels) // columns)
    page = Image.new("RGB", (columns * (side + gap) - gap, rows * (side + gap) - gap), "white")
    for i, picture in enumerate(pixels):
        at = ((i % columns) * (side + gap), (i // columns) * (side + gap))
        page.paste(Image.fromarray(picture), at)
    return page
