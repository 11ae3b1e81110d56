"""Models that diffusers' own pipelines draw: by the step, as every other."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusion3Pipeline
from PIL import Image

from sfumato.adapters.models import FolderModelCatalog
from sfumato.core.errors import EngineFailure, InvalidRequest, ModelUnusable, OutOfMemory
from sfumato.core.events import EventKind
from sfumato.core.inputs import InputImage
from sfumato.core.job import JobStatus
from sfumato.core.models import ModelInfo, settle
from sfumato.core.ports import ImageTask, Slot
from sfumato.core.request import Determinism, GenerationRequest
from sfumato.engine.any_family import AnyEngine
from sfumato.engine.engine import DiffusionEngine
from sfumato.worker.loop import Worker
from tests.support.parts import open_house
from tests.support.rendering import render, task_of
from tests.support.tiny_models import TinyModel
from tests.support.tiny_pipeline import PIPELINE_SIDE, make_pipeline


@pytest.fixture(scope="module")
def sd3(tmp_path_factory: pytest.TempPathFactory) -> ModelInfo:
    return make_pipeline(tmp_path_factory.mktemp("pipelines"))


@pytest.fixture(scope="module")
def engine(sd3: ModelInfo) -> AnyEngine:
    engine = AnyEngine(DiffusionEngine("cpu", threads=1))
    engine.load(sd3)
    return engine


def tasks_of(model: ModelInfo, images: int, **fields: object) -> list[ImageTask]:
    request = GenerationRequest("a castle", **{"seed": 7, "num_images": images, **fields})  # type: ignore[arg-type]
    settings = settle(request, model, random_seed=0)
    return [ImageTask("job", index, request, settings, model) for index in range(images)]


def finish(engine: AnyEngine, *slots: Slot) -> None:
    while any(slot.step < slot.steps for slot in slots):
        engine.step([slot for slot in slots if slot.step < slot.steps])


def pixels(data: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
    with Image.open(io.BytesIO(data)) as opened:
        return np.asarray(opened, dtype=np.int16)


def pipeline_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("pipeline")]


def test_it_draws_what_the_pipeline_draws(engine: AnyEngine, sd3: ModelInfo) -> None:
    slot = engine.admit(task_of(sd3, "a castle", negative_prompt="fog", guidance_scale=4.0))
    finish(engine, slot)
    drawn = render(engine, slot)
    pipe = DiffusionPipeline.from_pretrained(
        sd3.path, local_files_only=True, text_encoder_3=None, tokenizer_3=None
    )
    pipe.set_progress_bar_config(disable=True)
    expected = pipe(
        "a castle",
        negative_prompt="fog",
        guidance_scale=4.0,
        num_inference_steps=4,
        width=PIPELINE_SIDE,
        height=PIPELINE_SIDE,
        generator=torch.Generator().manual_seed(7),
        output_type="np",
    ).images[0]
    assert np.abs(pixels(drawn.data) - expected * 255).max() <= 1
    assert drawn.recipe["model"] == sd3.name
    assert len(str(drawn.recipe["model_hash"])) == 64


def test_a_jobs_pictures_are_one_call_and_step_by_step(engine: AnyEngine, sd3: ModelInfo) -> None:
    slots = [engine.admit(task) for task in tasks_of(sd3, 2)]
    assert len({slot.batch_key for slot in slots}) == 1
    assert engine.row_limit(slots[0].batch_key) >= 2
    for step in range(1, 5):
        engine.step(slots)
        assert [slot.step for slot in slots] == [step, step]
    images = list(engine.decode(slots))
    assert [image.task.index for image in images] == [0, 1]
    alone = [engine.admit(task) for task in tasks_of(sd3, 2)]
    for slot, image in zip(alone, images, strict=True):
        finish(engine, slot)  # halved, as where memory is short
        (lone,) = engine.decode([slot])
        apart = np.frombuffer(lone.pixels, np.uint8).astype(int) - np.frombuffer(
            image.pixels, np.uint8
        )
        assert np.abs(apart).max() <= 2


def test_jobs_take_turns_and_disturb_nobody(engine: AnyEngine, sd3: ModelInfo) -> None:
    task = task_of(sd3, "a sea", num_inference_steps=5)
    other = replace(task_of(sd3, "a hill", num_inference_steps=3), job_id="other")
    lone = engine.admit(task)
    finish(engine, lone)
    first, second = engine.admit(task), engine.admit(other)
    assert first.batch_key != second.batch_key
    with pytest.raises(EngineFailure, match="batch key"):
        engine.step([first, second])
    while first.step < first.steps or second.step < second.steps:
        for slot in (first, second):
            if slot.step < slot.steps:
                engine.step([slot])
    assert render(engine, first).data == render(engine, lone).data


def test_strict_pictures_are_calls_of_their_own(engine: AnyEngine, sd3: ModelInfo) -> None:
    first, second = (
        engine.admit(task) for task in tasks_of(sd3, 2, determinism=Determinism.STRICT)
    )
    assert first.batch_key != second.batch_key
    finish(engine, second)
    again = engine.admit(tasks_of(sd3, 2, determinism=Determinism.STRICT)[1])
    finish(engine, again)
    assert render(engine, again).data == render(engine, second).data


def test_it_can_be_watched_and_left_at_any_step(engine: AnyEngine, sd3: ModelInfo) -> None:
    before = pipeline_threads()
    slot = engine.admit(task_of(sd3))
    assert engine.preview(slot).startswith("data:image/webp;base64,")
    engine.step([slot])
    head, _, data = engine.preview(slot).partition(",")
    assert head == "data:image/webp;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as opened:
        assert max(opened.size) <= 96
        assert np.asarray(opened.convert("RGB")).std() > 1
    (thread,) = set(pipeline_threads()) - set(before)
    del slot  # a canceled job is forgotten, no more
    thread.join(10)
    assert not thread.is_alive()


def test_its_state_is_not_kept_and_it_begins_anew(engine: AnyEngine, sd3: ModelInfo) -> None:
    task = task_of(sd3)
    slot = engine.admit(task)
    engine.step([slot])
    with pytest.raises(EngineFailure, match="begins anew"):
        engine.export(slot)
    with pytest.raises(EngineFailure, match="resumed"):
        engine.resume(task, b"")


def test_a_call_that_fails_at_first_may_be_tried_again(
    engine: AnyEngine, sd3: ModelInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots = [engine.admit(task) for task in tasks_of(sd3, 2)]

    def lacking(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(StableDiffusion3Pipeline, "encode_prompt", lacking)
        with pytest.raises(OutOfMemory, match="take a step"):
            engine.step(slots)
    assert [slot.step for slot in slots] == [0, 0]
    finish(engine, *slots)
    assert len(list(engine.decode(slots))) == 2


def test_a_call_that_fails_midway_fails_for_good(
    engine: AnyEngine, sd3: ModelInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = engine.admit(task_of(sd3))
    engine.step([slot])
    pipe = engine._pipelines._models[sd3.name].pipeline.pipe

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("something odd")

    with monkeypatch.context() as patch:
        patch.setattr(pipe.transformer, "forward", broken)
        with pytest.raises(EngineFailure, match="something odd"):
            engine.step([slot])
    with pytest.raises(EngineFailure, match="something odd"):
        engine.step([slot])


def test_what_it_does_not_take_is_told_or_refused(engine: AnyEngine, sd3: ModelInfo) -> None:
    odd = engine.admit(task_of(sd3, sampler="heun", clip_skip=2, width=40, height=24))
    pipe = "StableDiffusion3Pipeline"
    assert odd.notes == (
        f"{pipe} has a solver of its own, FlowMatchEulerDiscreteScheduler; the sampler was not used",
        f"{pipe} takes no clip skip",
    )
    finish(engine, odd)
    image = render(engine, odd)
    assert (image.width, image.height) == (40, 24)
    picture = InputImage("ab" * 32, "image/png", 32, 32, 100)
    with pytest.raises(InvalidRequest, match="begin with a picture") as caught:
        engine.admit(task_of(sd3, init_image=picture))
    assert caught.value.field == "init_image"


def test_it_is_let_go_for_another_family_and_comes_back(sd3: ModelInfo, sd1: TinyModel) -> None:
    engine = AnyEngine(DiffusionEngine("cpu", threads=1, model_memory=1))
    engine.load(sd3)
    engine.load(sd1.info)
    assert engine.loaded() == [sd1.info.name]
    engine.load(sd3)
    assert engine.loaded() == [sd3.name]
    with pytest.raises(OutOfMemory, match="no room"):
        engine.load(sd1.info, in_use={sd3.name})
    assert engine.make_room()
    assert engine.loaded() == []


@pytest.mark.parametrize(
    ("part", "value", "said"),
    [
        ("transformer", ["my_code", "Net"], "code of the folder's own"),
        ("transformer", ["diffusers", "NoSuchModel"], "which diffusers .* does not have"),
        ("_class_name", ["my_code", "Pipeline"], "names no pipeline"),
    ],
)
def test_a_folder_that_names_other_classes_is_never_run(
    sd3: ModelInfo, tmp_path: Path, part: str, value: object, said: str
) -> None:
    folder = tmp_path / "odd"
    shutil.copytree(sd3.path, folder)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, part: value}))
    (folder / "my_code.py").write_text("raise SystemExit('this was run')")
    engine = AnyEngine(DiffusionEngine("cpu", threads=1))
    with pytest.raises(ModelUnusable, match=said):
        engine.load(replace(sd3, name="odd", path=str(folder)))


def test_pickled_weights_are_never_opened(sd3: ModelInfo, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(sd3.path, folder)
    for weights in (folder / "transformer").glob("*.safetensors"):
        weights.rename(weights.with_suffix(".bin"))
    engine = AnyEngine(DiffusionEngine("cpu", threads=1))
    with pytest.raises(ModelUnusable):
        engine.load(replace(sd3, name="pickled", path=str(folder)))


def test_the_catalogue_knows_it_from_its_files(sd3: ModelInfo) -> None:
    catalog = FolderModelCatalog([Path(sd3.path).parent])
    (found,) = [model for model in catalog.list() if model.name == sd3.name]
    assert (found.family, found.refusal) == ("pipeline", None)
    assert (found.defaults.width, found.defaults.guidance_scale) == (PIPELINE_SIDE, 7.0)
    paths = {file.path for file in found.files}
    assert "transformer/diffusion_pytorch_model.safetensors" in paths
    assert {"tokenizer/tokenizer.json", "scheduler/scheduler_config.json"} <= paths
    assert found.memory_bytes > found.size_bytes > 0


async def test_a_worker_tells_of_its_steps_and_what_it_gives_back_begins_anew(
    sd3: ModelInfo,
) -> None:
    def open_engine() -> AnyEngine:
        return AnyEngine(DiffusionEngine("cpu", threads=1))

    async with open_house(sd3) as house:
        first = Worker(
            assignments=house.execution("first"),
            make_engine=open_engine,
            clock=house.clock,
            started_at=house.clock.now(),
            grace=0,
        )
        working = asyncio.create_task(first.run())
        job = await house.submit(num_inference_steps=100, num_images=2, seed=7)
        async with contextlib.aclosing(house.tracking.events(job.id)) as events:
            async for event in events:
                if event.kind is EventKind.STEP:
                    break
        first.drain()
        await working
        given_back = await house.store.get(job.id)
        assert (given_back.status, given_back.checkpoint) == (JobStatus.QUEUED, None)
        async with house.working(open_engine()):
            done = await house.finished(job)
        assert done.status is JobStatus.SUCCEEDED
        assert len(done.images) == 2
        again = await house.submit(num_inference_steps=100, seed=7)
        async with house.working(open_engine()):
            async with contextlib.aclosing(house.tracking.events(again.id)) as events:
                async for event in events:
                    if event.kind is EventKind.STEP:
                        break
            await house.tracking.cancel(again.id)
            assert (await house.finished(again)).status is JobStatus.CANCELED
