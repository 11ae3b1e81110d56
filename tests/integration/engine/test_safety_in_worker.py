"""The operator's rule for unsafe pictures, from the request to what the caller gets."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sfumato.core.job import Job, JobStatus
from sfumato.core.models import ModelFile, ModelInfo
from sfumato.core.safety import Safety, SafetyRule
from sfumato.engine.engine import DiffusionEngine
from tests.support.parts import House, open_house
from tests.support.rendering import task_of
from tests.support.tiny_checker import make_checker
from tests.support.tiny_models import TinyModel


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    before = logging.getLogger("diffusers").level
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    yield
    logging.getLogger("diffusers").setLevel(before)


@pytest.fixture
def carrying(sd1: TinyModel, tmp_path: Path) -> ModelInfo:
    """A model whose own checker finds everything unsafe."""
    path = tmp_path / "carrying"
    shutil.copytree(sd1.path, path)
    make_checker(path, threshold=-1.0)
    files = (ModelFile("safety_checker/model.safetensors", 1),)
    return replace(sd1.info, name="carrying", path=str(path), files=files)


async def drawn(model: ModelInfo, rule: SafetyRule, **fields: object) -> tuple[House, Job]:
    async with open_house(model) as house, house.working(DiffusionEngine("cpu", threads=1)):
        house.submission._safety = rule
        return house, await house.finished(await house.submit(seed=1, **fields))


async def test_a_blocked_picture_fails_its_job_at_the_first_attempt_and_is_not_stored(
    carrying: ModelInfo,
) -> None:
    house, job = await drawn(carrying, SafetyRule(Safety.BLOCK))
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error.code == "content_blocked"
    assert (job.attempt, job.images) == (1, ())
    assert "image" not in await house.kinds(job)


async def test_flagged_pictures_are_delivered_each_with_its_note(carrying: ModelInfo) -> None:
    _, job = await drawn(carrying, SafetyRule(), num_images=2)
    assert job.status is JobStatus.SUCCEEDED
    assert len(job.images) == 2
    unsafe = [note for note in job.notes if note.startswith("unsafe: ")]
    assert [note.rpartition(" ")[2] for note in unsafe] == ["1", "2"]


async def test_what_nobody_looked_at_is_told(sd1: TinyModel) -> None:
    _, job = await drawn(sd1.info, SafetyRule(Safety.FLAG))
    assert job.status is JobStatus.SUCCEEDED
    assert any(note.startswith("not checked: ") for note in job.notes)


def test_two_models_checkers_of_one_batch_are_told_apart(
    carrying: ModelInfo, sd1: TinyModel, tmp_path: Path
) -> None:
    lenient = tmp_path / "lenient"
    shutil.copytree(sd1.path, lenient)
    make_checker(lenient, threshold=2.0)
    engine = DiffusionEngine("cpu", threads=1)
    for model, expected in ((carrying, 1), (replace(carrying, path=str(lenient)), 0)):
        engine.load(model)
        task = task_of(model)
        task = replace(task, settings=replace(task.settings, safety=Safety.FLAG))
        slot = engine.admit(task)
        while slot.step < slot.steps:
            engine.step([slot])
        (image,) = engine.decode([slot])
        assert len(image.notes) == expected
