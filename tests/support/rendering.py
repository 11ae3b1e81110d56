"""One picture through an engine, the way a worker makes it."""

from __future__ import annotations

from sfumato.core.models import ModelInfo, settle
from sfumato.core.ports import EncodedImage, ImageEngine, ImageTask, Slot
from sfumato.core.request import GenerationRequest


def task_of(
    model: ModelInfo, prompt: str = "a castle", *, index: int = 0, **fields: object
) -> ImageTask:
    request = GenerationRequest(prompt, **{"seed": 7, **fields})  # type: ignore[arg-type]
    return ImageTask("job", index, request, settle(request, model, random_seed=0), model)


def render(engine: ImageEngine, slot: Slot) -> EncodedImage:
    (image,) = engine.decode([slot])
    return engine.encode(image)
