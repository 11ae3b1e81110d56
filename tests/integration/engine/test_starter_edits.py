"""Image-to-image and inpainting on the weights that every install has."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sfumato.adapters.models.folders import FolderModelCatalog
from sfumato.bootstrap.models import STARTER
from sfumato.core.edits import Inpainting
from sfumato.core.models import ModelInfo
from sfumato.core.request import GenerationRequest
from sfumato.engine.engine import DiffusionEngine
from tests.support.pictures import Brought, rectangle
from tests.support.rendering import render

SIDE = 256
BLUE, SAND = (60, 140, 220), (240, 210, 150)


@pytest.fixture(scope="module")
def starter() -> tuple[DiffusionEngine, ModelInfo]:
    info = FolderModelCatalog([], builtin=STARTER).get("starter")
    engine = DiffusionEngine("cpu", threads=1)
    engine.load(info)
    return engine, info


def drawn(
    starter: tuple[DiffusionEngine, ModelInfo], prompt: str, *, mask: bool, strength: float
) -> NDArray[np.int16]:
    """What becomes of a beach by day, (SIDE, SIDE, 3)."""
    engine, info = starter
    brought = Brought()
    beach = Image.new("RGB", (SIDE, SIDE), BLUE)
    beach.paste(SAND, (0, 160, SIDE, SIDE))
    part = brought.add(rectangle(SIDE, SIDE, (128, 0, SIDE, SIDE))) if mask else None
    request = GenerationRequest(
        prompt,
        seed=3,
        num_inference_steps=8,
        init_image=brought.add(beach),
        strength=strength,
        inpainting=Inpainting(part, blur=0) if part else None,
    )
    slot = engine.admit(brought.task(request, info))
    while slot.step < slot.steps:
        engine.step([slot])
    picture = Image.open(io.BytesIO(render(engine, slot).data)).convert("RGB")
    return np.asarray(picture).astype(np.int16)


def test_image_to_image_goes_from_the_picture_to_the_prompt_with_strength(
    starter: tuple[DiffusionEngine, ModelInfo],
) -> None:
    same = drawn(starter, "a beach by day", mask=False, strength=0.3)
    darker, anew = (
        drawn(starter, "a beach at night", mask=False, strength=strength) for strength in (0.3, 1.0)
    )
    sky = [picture[40].mean() for picture in (same, darker, anew)]
    assert sky[0] > sky[1] > 1.4 * sky[2], "the night comes with strength"
    assert sky[2] < 60
    assert abs(same[40].mean(axis=0) - BLUE).max() < 70, "a prompt that fits leaves the sky"
    assert abs(same[220].mean(axis=0) - SAND).max() < 70, "and the sand"


def test_inpainting_redraws_the_masked_half_by_the_prompt_and_keeps_the_other(
    starter: tuple[DiffusionEngine, ModelInfo],
) -> None:
    picture = drawn(starter, "a beach at night", mask=True, strength=1.0)
    kept, redrawn = picture[:, :128], picture[:, 128:]
    assert (kept[:160] == BLUE).all()
    assert (kept[160:] == SAND).all()
    assert redrawn[40, 32:].mean() < 90
