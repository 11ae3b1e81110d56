"""Numbers that are not finite in half the width: retried in float32, on their own slot alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sfumato.core.errors import ModelUnusable, NumericalError
from sfumato.engine.engine import DiffusionEngine
from sfumato.engine.slots import DiffusionSlot
from tests.support.rendering import render, task_of
from tests.support.tiny_models import TinyModel


@pytest.fixture
def narrow(sd1: TinyModel) -> DiffusionEngine:
    engine = DiffusionEngine("cpu", "bfloat16", threads=1)
    engine.load(sd1.info)
    return engine


def poisoned(predict: Callable[..., Tensor], *, at: int) -> Callable[..., Tensor]:
    """The network, answering NaN to the first row from its call number ``at`` on."""
    calls = 0

    def answer(*arguments: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        output = predict(*arguments)
        if calls >= at and len(output) > 1:
            output[0] = torch.nan
        return output

    return answer


def finish(engine: DiffusionEngine, *slots: DiffusionSlot) -> list[int]:
    """Each slot's greatest step back."""
    back = [0] * len(slots)
    while under_way := [slot for slot in slots if slot.step < slot.steps]:
        key = under_way[0].batch_key
        together = [slot for slot in under_way if slot.batch_key == key]
        before = [slot.step for slot in slots]
        engine.step(together)
        back = [max(n, b - slot.step) for n, b, slot in zip(back, before, slots, strict=True)]
    return back


@pytest.mark.parametrize("at", [2, 6])
def test_a_slot_is_retried_in_float32_from_where_it_was_well(
    narrow: DiffusionEngine, sd1: TinyModel, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    tasks = [
        task_of(sd1.info, seed=seed, num_inference_steps=10, sampler="euler_a") for seed in (1, 2)
    ]
    sick, well = (narrow.admit(task) for task in tasks)
    model = narrow._models[sd1.info.name].model
    monkeypatch.setattr(model, "predict", poisoned(model.predict, at=at))
    # The poison strikes whoever is first: from its step back on, the sick one is elsewhere.
    for _ in range(4 * -(-at // 4)):
        narrow.step([sick, well])
    assert sick.step == 4 * (at // 4), "it goes back to where it was looked at last"
    assert sick.batch_key != well.batch_key
    monkeypatch.undo()
    finish(narrow, sick, well)
    assert f"the network overflowed at step {at}" in sick.notes[-1]
    assert not well.notes
    precise = DiffusionEngine("cpu", threads=1)
    precise.load(sd1.info)
    for slot, task in zip((sick, well), tasks, strict=True):
        reference = precise.admit(task)
        finish(precise, reference)
        assert (slot.latents - reference.latents).abs().mean() < 0.2 * reference.latents.std()
        assert render(narrow, slot).data


def test_numbers_that_overflow_in_float32_too_fail_with_the_step(
    narrow: DiffusionEngine, sd1: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    sick = narrow.admit(task_of(sd1.info, num_inference_steps=6, sampler="euler"))
    model, precise = (
        narrow._models[sd1.info.name].model,
        narrow._models.in_float32(narrow._models[sd1.info.name]),
    )
    for network in (model, precise):
        monkeypatch.setattr(network, "predict", poisoned(network.predict, at=2))
    (back,) = finish(narrow, sick)
    assert back > 0
    with pytest.raises(NumericalError, match="step 2 of 6"):
        render(narrow, sick)


def test_a_slot_that_can_not_be_retried_fails_with_the_step(
    narrow: DiffusionEngine, sd1: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    sick = narrow.admit(task_of(sd1.info, num_inference_steps=6, sampler="euler"))
    model = narrow._models[sd1.info.name].model
    monkeypatch.setattr(model, "predict", poisoned(model.predict, at=3))

    def gone(_loaded: object) -> None:
        raise ModelUnusable("the file is gone")

    monkeypatch.setattr(narrow._models, "in_float32", gone)
    assert finish(narrow, sick) == [0]
    with pytest.raises(NumericalError, match="step 3 of 6"):
        render(narrow, sick)


def test_a_vae_that_overflows_is_retried_in_float32(
    narrow: DiffusionEngine, sd1: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = narrow.admit(task_of(sd1.info))
    finish(narrow, slot)
    model = narrow._models[sd1.info.name].model
    monkeypatch.setattr(model.vae, "decode", lambda latents: torch.full((1, 3, 32, 32), torch.nan))
    assert render(narrow, slot).data
