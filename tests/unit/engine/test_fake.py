from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest
from PIL import Image

from sfumato.core.errors import EngineFailure, ModelUnusable
from sfumato.core.models import ModelInfo, ModelLayout, settle
from sfumato.core.ports import ImageEngine, ImageTask
from sfumato.core.request import GenerationRequest
from sfumato.engine.fake import FakeEngine, FakeSlot
from tests.support.rendering import render

MODEL = ModelInfo("pattern", "sd1", ModelLayout.DIFFUSERS, "/nowhere")


def task(prompt: str = "a castle", *, index: int = 0, **fields: int) -> ImageTask:
    request = GenerationRequest(prompt, **{"width": 64, "height": 40, "seed": 7, **fields})
    return ImageTask("job", index, request, settle(request, MODEL, random_seed=0), MODEL)


def run(engine: ImageEngine, slot: FakeSlot) -> bytes:
    while slot.step < slot.steps:
        engine.step([slot])
    return render(engine, slot).data


@pytest.fixture
def engine() -> FakeEngine:
    engine = FakeEngine()
    engine.load(MODEL)
    return engine


def test_pixels_follow_from_the_request_alone(engine: FakeEngine) -> None:
    first = run(engine, engine.admit(task()))
    assert first == run(engine, engine.admit(task()))
    others = [task("a tower"), task(seed=8), task(num_inference_steps=3)]
    assert len({first, *(run(engine, engine.admit(other)) for other in others)}) == 4


def test_the_picture_has_the_size_asked_for_and_its_recipe(engine: FakeEngine) -> None:
    slot = engine.admit(task("château, 城"))
    run(engine, slot)
    encoded = render(engine, slot)
    with Image.open(io.BytesIO(encoded.data)) as image:
        image.load()
        assert image.size == (64, 40)
        assert json.loads(image.text["sfumato"]) == encoded.recipe
        assert image.text["parameters"].startswith("château, 城\nSteps: 25")


def test_a_resumed_slot_ends_with_the_same_pixels(engine: FakeEngine) -> None:
    slot = engine.admit(task())
    for _ in range(4):
        engine.step([slot])
    blob = engine.export(slot)
    elsewhere = FakeEngine()
    elsewhere.load(MODEL)
    resumed = elsewhere.resume(task(), blob)
    assert resumed.step == 4
    assert run(elsewhere, resumed) == run(engine, slot)


@pytest.mark.parametrize("blob", [b"", b"{}", b"[1]", b"\xff"])
def test_a_foreign_checkpoint_is_refused(engine: FakeEngine, blob: bytes) -> None:
    with pytest.raises(EngineFailure, match="checkpoint"):
        engine.resume(task(), blob)
    with pytest.raises(EngineFailure, match="checkpoint"):
        engine.resume(task("other"), engine.export(engine.admit(task())))


def test_it_fails_where_it_is_told_to() -> None:
    def stop(slots: object) -> None:
        raise EngineFailure("told to")

    engine = FakeEngine(before_step=stop, broken_models={"bad": ModelUnusable("bad weights")})
    with pytest.raises(ModelUnusable):
        engine.load(ModelInfo("bad", "sd1", ModelLayout.DIFFUSERS, "/nowhere"))
    engine.load(MODEL)
    slot = engine.admit(task())
    with pytest.raises(EngineFailure, match="told to"):
        engine.step([slot])
    assert slot.step == 0


def test_it_imports_neither_torch_nor_pillow() -> None:
    code = (
        "import sys, sfumato.engine.fake\n"
        "print([m for m in ('torch', 'PIL', 'numpy', 'diffusers') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert out.stdout.strip() == "[]"
