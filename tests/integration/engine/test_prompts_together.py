"""The prompts of jobs that are admitted together are read together, and as each would be alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from sfumato.core.errors import InvalidRequest
from sfumato.core.ports import ImageTask
from sfumato.engine.engine import DiffusionEngine
from tests.support.rendering import task_of
from tests.support.tiny_models import TinyModel

PROMPTS = ("a castle", "a sea, [calm:wild:0.5]", "a hill AND a moon", "a castle")


def tasks_of(model: TinyModel, *prompts: str) -> list[ImageTask]:
    return [task_of(model.info, prompt, guidance_scale=4.0) for prompt in prompts]


@pytest.fixture
def batches(
    engine: DiffusionEngine, sd1: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[int]]:
    """How many chunks the text encoder was given each time, four at once as on a GPU."""
    prompts = engine._networks.model(sd1.info.name, precise=False).prompts
    monkeypatch.setattr(prompts, "_rows", 4)
    prompts._cache.clear()
    found: list[int] = []
    handle = prompts._encoders[0].network.register_forward_pre_hook(
        lambda _layer, _args, given: found.append(len(given["input_ids"])), with_kwargs=True
    )
    yield found
    handle.remove()
    prompts._cache.clear()


def test_full_batches_are_read_and_nothing_twice(
    engine: DiffusionEngine, sd1: TinyModel, batches: list[int]
) -> None:
    tasks = tasks_of(sd1, *PROMPTS)
    engine.prepare(tasks)
    # Five texts, and the empty negative prompt of all.
    assert batches == [4, 4]
    for task in tasks:
        engine.admit(task)
    assert batches == [4, 4]


def test_each_is_read_as_alone(engine: DiffusionEngine, sd1: TinyModel, batches: list[int]) -> None:
    tasks = tasks_of(sd1, *PROMPTS)
    alone = [engine.admit(task).conditioning for task in tasks]
    engine._networks.model(sd1.info.name, precise=False).prompts._cache.clear()
    batches.clear()
    engine.prepare(tasks)
    for task, expected in zip(tasks, alone, strict=True):
        found = engine.admit(task).conditioning
        for step in range(task.settings.num_inference_steps):
            for ours, theirs in zip(found.prompts, expected.prompts, strict=True):
                torch.testing.assert_close(ours.at(step).tokens, theirs.at(step).tokens)
    assert batches == [4, 4]


def test_a_prompt_that_is_too_long_is_told_to_its_own_job(
    engine: DiffusionEngine, sd1: TinyModel
) -> None:
    long, short = tasks_of(sd1, "a " * 4_990, "a castle")
    engine.prepare([long, short])
    assert engine.admit(short).steps > 0
    with pytest.raises(InvalidRequest, match="chunks"):
        engine.admit(long)
