"""What becomes of a decoded picture before it is delivered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from sfumato.engine.canvas import Canvas


@dataclass(frozen=True, slots=True, eq=False)
class Finishing:
    """What was drawn, put back into the picture that it is a part of, then enlarged.

    Attributes:
        canvas: the picture that it was begun with, if there is one.
        enlarge: pixels (3, h, w) in 0 … 1 to the size that is delivered.
    """

    canvas: Canvas | None = None
    enlarge: Callable[[Tensor], Tensor] | None = None

    def __call__(self, pixels: Tensor) -> Tensor:
        """Pixels (3, h, w) in 0 … 1, of the last stage's size and then of the picture's."""
        if self.canvas is not None:
            pixels = self.canvas.paste(pixels)
        return pixels if self.enlarge is None else self.enlarge(pixels)
