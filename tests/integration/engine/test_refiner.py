"""A refiner ends where diffusers' pair of pipelines ends, and joins and leaves batches as others."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_euler_ancestral_discrete import (
    EulerAncestralDiscreteScheduler,
)
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler

from sfumato.core.edits import Hires, Inpainting
from sfumato.core.errors import EngineFailure, InvalidRequest
from sfumato.core.extras import Refiner
from sfumato.core.ports import ImageTask
from sfumato.core.request import Determinism, GenerationRequest
from sfumato.engine.engine import DiffusionEngine
from sfumato.engine.slots import DiffusionSlot
from tests.support.parts import open_house
from tests.support.pictures import Brought, noise, rectangle
from tests.support.rendering import render, task_of
from tests.support.tiny_models import SCHEDULER, TinyModel
from tests.support.tiny_xl import TinyXl, make_xl
from tests.support.tolerances import AS_DIFFUSERS

SOLVERS: dict[str, Any] = {
    "euler": EulerDiscreteScheduler,
    "euler_a": EulerAncestralDiscreteScheduler,
    "ddim": DDIMScheduler,
    "dpmpp_2m": DPMSolverMultistepScheduler,
}

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(autouse=True)
def quiet() -> None:
    logging.getLogger("diffusers").setLevel(logging.ERROR)


@pytest.fixture
def engine(xl: TinyXl, refiner: TinyXl) -> DiffusionEngine:
    engine = DiffusionEngine("cpu", threads=1)
    engine.load(xl.info)
    engine.load(refiner.info)
    return engine


def refined(xl: TinyXl, refiner: TinyXl, *, switch_at: float = 0.6, **fields: object) -> ImageTask:
    use = Refiner(refiner.info.name, switch_at)
    return replace(task_of(xl.info, refiner=use, **fields), extras=(refiner.info,))


def end(engine: DiffusionEngine, slot: DiffusionSlot) -> DiffusionSlot:
    while slot.step < slot.steps:
        engine.step([slot])
    return slot


@pytest.mark.parametrize("negative", ["day", None])
@pytest.mark.parametrize("sampler", list(SOLVERS))
def test_latents_end_where_the_pair_of_pipelines_does(
    engine: DiffusionEngine, xl: TinyXl, refiner: TinyXl, sampler: str, negative: str | None
) -> None:
    generator = torch.Generator().manual_seed(5)
    asked: dict[str, Any] = {
        "prompt": "A castle, at night",
        "negative_prompt": negative,
        "num_inference_steps": 5,
        "guidance_scale": 4.0,
        "generator": generator,
        "output_type": "latent",
    }
    handed_over = xl.pipeline(SOLVERS[sampler].from_config(SCHEDULER))(
        **asked, width=48, height=32, denoising_end=0.5
    ).images
    expected = refiner.pipeline(SOLVERS[sampler].from_config(SCHEDULER))(
        **asked, image=handed_over, denoising_start=0.5
    ).images
    task = refined(
        xl,
        refiner,
        switch_at=0.5,
        prompt="A castle, at night",
        num_inference_steps=5,
        guidance_scale=4.0,
        sampler=sampler,
        width=48,
        height=32,
        seed=5,
        **{"negative_prompt": negative} if negative else {},
    )
    slot = engine.admit(task)
    assert len(slot.stages) == 2
    assert (slot.batch_key.model, slot.steps) == (xl.info.name, 5)
    end(engine, slot)
    assert slot.batch_key.model == refiner.info.name
    torch.testing.assert_close(slot.latents[None], expected, rtol=AS_DIFFUSERS, atol=AS_DIFFUSERS)


def test_the_refiner_is_told_how_beautiful_pictures_are(
    engine: DiffusionEngine, xl: TinyXl, refiner: TinyXl, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[torch.Tensor] = []
    model = engine._models[refiner.info.name].model
    conditions = model.added_conditions

    def listen(given: Any) -> dict[str, Any]:
        answer = conditions(given)
        told.append(answer["time_ids"])
        return answer

    monkeypatch.setattr(model, "added_conditions", listen)
    end(engine, engine.admit(refined(xl, refiner, width=48, height=32)))
    assert told[0].tolist() == [[32.0, 48.0, 0.0, 0.0, 6.0], [32.0, 48.0, 0.0, 0.0, 2.5]]


@pytest.mark.parametrize(("switch_at", "models"), [(1.0, ["xl"]), (0.001, ["refiner"])])
def test_a_switch_at_either_end_leaves_one_model(
    engine: DiffusionEngine, xl: TinyXl, refiner: TinyXl, switch_at: float, models: list[str]
) -> None:
    names = {"xl": xl.info.name, "refiner": refiner.info.name}
    task = refined(xl, refiner, switch_at=switch_at, sampler="ddim", num_inference_steps=4)
    slot = engine.admit(task)
    assert [stage.key.model for stage in slot.stages] == [names[model] for model in models]
    assert render(engine, end(engine, slot)).data


def test_a_schedule_that_leaves_the_high_levels_soon_hands_over_soon(
    engine: DiffusionEngine, xl: TinyXl, refiner: TinyXl
) -> None:
    lengths = {
        schedule: len(engine.admit(refined(xl, refiner, schedule=schedule, **asked)).stages[0])
        for asked in [{"sampler": "euler", "num_inference_steps": 20}]
        for schedule in ("uniform", "karras")
    }
    assert lengths["uniform"] == 12
    assert lengths["karras"] < 12


def test_both_visit_the_levels_of_the_first_models_schedule(
    tmp_path: Path, refiner: TinyXl
) -> None:
    turbo = make_xl(tmp_path, "turbo", timestep_spacing="trailing", use_karras_sigmas=True)
    engine = DiffusionEngine("cpu", threads=1)
    engine.load(turbo.info)
    engine.load(refiner.info)
    slot = engine.admit(refined(turbo, refiner, sampler="euler", num_inference_steps=8))
    whole = engine.admit(task_of(turbo.info, sampler="euler", num_inference_steps=8))
    visited = [stage.table.timestep(n) for stage in slot.stages for n in range(len(stage))]
    assert visited == [whole.table.timestep(n) for n in range(8)]


@pytest.mark.parametrize("sampler", ["heun", "dpmpp_sde", "lms"])
def test_steps_of_several_evaluations_are_not_cut(
    engine: DiffusionEngine, xl: TinyXl, refiner: TinyXl, sampler: str
) -> None:
    slot = engine.admit(refined(xl, refiner, sampler=sampler, num_inference_steps=6))
    first, second = slot.stages
    whole = engine.admit(task_of(xl.info, sampler=sampler, num_inference_steps=6))
    assert len(first) + len(second) == whole.steps
    assert first.table.reached[-1] is not None
    latents = end(engine, slot).latents
    assert latents.isfinite().all()


def test_in_a_mixed_batch_each_ends_as_alone(
    engine: DiffusionEngine, xl: TinyXl, refiner: TinyXl
) -> None:
    tasks = [
        refined(xl, refiner, sampler="euler", num_inference_steps=4),
        refined(xl, refiner, sampler="dpmpp_2m", num_inference_steps=7, seed=2, switch_at=0.4),
        task_of(xl.info, "a ship", sampler="euler_a", num_inference_steps=5),
        task_of(refiner.info, "a ship", num_inference_steps=5),
    ]
    alone = [end(engine, engine.admit(task)).latents for task in tasks]
    slots = [engine.admit(task) for task in tasks]
    while under_way := [slot for slot in slots if slot.step < slot.steps]:
        for key in {slot.batch_key for slot in under_way}:
            engine.step([slot for slot in under_way if slot.batch_key == key])
    for slot, latents in zip(slots, alone, strict=True):
        torch.testing.assert_close(slot.latents, latents, rtol=AS_DIFFUSERS, atol=AS_DIFFUSERS)


def test_a_strict_picture_is_the_same_bytes_in_any_company(
    engine: DiffusionEngine, xl: TinyXl, refiner: TinyXl
) -> None:
    strict = {"determinism": Determinism.STRICT, "sampler": "euler_a"}
    task = refined(xl, refiner, num_inference_steps=4, **strict)
    alone = render(engine, end(engine, engine.admit(task))).data
    others = [
        refined(xl, refiner, num_inference_steps=6, seed=2, **strict),
        task_of(refiner.info, "a ship", guidance_scale=1.0, **strict),
    ]
    slot, *company = [engine.admit(each) for each in (task, *others)]
    while under_way := [each for each in (slot, *company) if each.step < each.steps]:
        for key in {each.batch_key for each in under_way}:
            together = [each for each in under_way if each.batch_key == key]
            most = engine.row_limit(key) // 2
            for n in range(0, len(together), most):
                engine.step(together[n : n + most])
    assert render(engine, slot).data == alone


def test_it_resumes_in_either_model(engine: DiffusionEngine, xl: TinyXl, refiner: TinyXl) -> None:
    task = refined(xl, refiner, sampler="euler_a", num_inference_steps=5)
    whole = end(engine, engine.admit(task)).latents
    for done in (2, 3, 4):
        slot = engine.admit(task)
        for _ in range(done):
            engine.step([slot])
        again = engine.resume(task, engine.export(slot))
        assert again.batch_key == slot.batch_key
        assert torch.equal(end(engine, again).latents, whole)


def test_it_goes_on_with_a_picture_and_leaves_what_is_not_masked(
    engine: DiffusionEngine, xl: TinyXl, refiner: TinyXl
) -> None:
    brought = Brought()
    request = GenerationRequest(
        "a castle",
        seed=3,
        width=32,
        height=32,
        num_inference_steps=10,
        init_image=brought.add(noise(32, 32)),
        strength=0.8,
        inpainting=Inpainting(brought.add(rectangle(32, 32, (0, 0, 16, 32))), blur=0),
        refiner=Refiner(refiner.info.name, 0.6),
    )
    slot = engine.admit(replace(brought.task(request, xl.info), extras=(refiner.info,)))
    leads, follows = slot.stages
    assert leads.asked[0] == 2
    assert leads.asked[1] == follows.asked[0]
    assert follows.asked[1] == 10
    kept = slot.began.kept
    assert kept is not None
    end(engine, slot)
    assert slot.began.kept is kept
    assert torch.allclose(slot.latents[..., 10:], kept.picture[..., 10:], atol=1e-5)
    assert not torch.allclose(slot.latents[..., :6], kept.picture[..., :6], atol=0.1)


def test_hires_fix_is_refined_in_its_last_pass(
    engine: DiffusionEngine, xl: TinyXl, refiner: TinyXl
) -> None:
    task = refined(xl, refiner, num_inference_steps=6, hires=Hires(scale=2.0, strength=0.9))
    slot = engine.admit(task)
    names = [xl.info.name, xl.info.name, refiner.info.name]
    assert [stage.key.model for stage in slot.stages] == names
    assert slot.stages[1].key.latent_shape == slot.stages[2].key.latent_shape
    assert slot.stages[0].key.latent_shape != slot.stages[1].key.latent_shape
    assert render(engine, end(engine, slot)).data


async def test_a_worker_draws_refined_and_plain_jobs_side_by_side(
    xl: TinyXl, refiner: TinyXl
) -> None:
    engine = DiffusionEngine("cpu", threads=1)
    async with open_house(xl.info, refiner.info) as house, house.working(engine):
        jobs = [
            await house.submit(refiner=Refiner(refiner.info.name), num_images=2),
            await house.submit(seed=3),
            await house.submit(model=refiner.info.name),
        ]
        done = [await house.finished(job) for job in jobs]
    assert [job.error for job in done] == [None] * 3
    assert [len(job.images) for job in done] == [2, 1, 1]
    assert sorted(engine.loaded()) == sorted([xl.info.name, refiner.info.name])


def test_the_recipe_names_the_first_models_weights(
    engine: DiffusionEngine, xl: TinyXl, refiner: TinyXl
) -> None:
    plain = render(engine, end(engine, engine.admit(task_of(xl.info))))
    picture = render(engine, end(engine, engine.admit(refined(xl, refiner))))
    assert picture.recipe["model_hash"] == plain.recipe["model_hash"]
    assert picture.data != plain.data


def test_a_refiner_of_other_latents_or_one_that_is_not_there_is_refused(
    engine: DiffusionEngine, xl: TinyXl, refiner: TinyXl, sd1: TinyModel
) -> None:
    engine.load(sd1.info)
    engine._models[sd1.info.name].model.vae.scaling = 0.5
    task = task_of(xl.info, refiner=Refiner(sd1.info.name))
    with pytest.raises(InvalidRequest, match="not alike") as refused:
        engine.admit(replace(task, extras=(sd1.info,)))
    assert refused.value.field == "refiner.model"
    with pytest.raises(EngineFailure, match="not brought"):
        engine.admit(task)
    assert render(engine, end(engine, engine.admit(refined(xl, refiner)))).data
