"""A finished slot as a file, the way a worker makes it."""

from __future__ import annotations

from sfumato.core.ports import EncodedImage, ImageEngine, Slot


def render(engine: ImageEngine, slot: Slot) -> EncodedImage:
    (image,) = engine.decode([slot])
    return engine.encode(image)
