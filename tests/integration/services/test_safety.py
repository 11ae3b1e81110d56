"""The operator's rule for unsafe pictures, from the submission to the assignment."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sfumato.core.errors import InvalidRequest, UnknownModel
from sfumato.core.job import ImageRecord, Job
from sfumato.core.models import ModelFile, ModelInfo, ModelKind, ModelLayout
from sfumato.core.safety import Safety, SafetyRule
from sfumato.services.result_cache import ResultCache
from tests.support.parts import MODEL, House, open_house

BASE = replace(MODEL, family="sd1")
CARRYING = replace(BASE, files=(ModelFile("safety_checker/model.safetensors", 1, "ab"),))
CHECKER = ModelInfo("strict", "", ModelLayout.DIFFUSERS, "/models/strict", kind=ModelKind.SAFETY)


async def submitted(house: House, rule: SafetyRule) -> Job:
    house.submission._safety = rule
    return await house.submit(seed=1)


async def test_what_was_settled_goes_with_the_assignment() -> None:
    async with open_house(BASE, CHECKER) as house:
        job = await submitted(house, SafetyRule(Safety.BLOCK, "strict"))
        assignment = await house.execution().next(timeout=0)
        assert assignment is not None
        assert assignment.job.id == job.id
        assert assignment.job.settings.safety is Safety.BLOCK
        assert assignment.extras == (CHECKER,)


async def test_a_model_s_own_checker_flags_unless_the_operator_says_otherwise() -> None:
    async with open_house(CARRYING) as house:
        job = await submitted(house, SafetyRule())
        assert (job.settings.safety, job.settings.safety_checker) == (Safety.FLAG, None)
        assert (await submitted(house, SafetyRule(Safety.OFF))).settings.safety is Safety.OFF


async def test_a_missing_checker_is_noted_refused_or_named() -> None:
    async with open_house(BASE) as house:
        job = await submitted(house, SafetyRule(Safety.FLAG))
        assert f"not checked: {BASE.name} carries no safety checker" in job.notes
        with pytest.raises(InvalidRequest, match="carries no safety checker"):
            await submitted(house, SafetyRule(Safety.BLOCK))
        with pytest.raises(UnknownModel, match="no safety checker 'strict'"):
            await submitted(house, SafetyRule(checker="strict"))


async def test_a_flagged_picture_is_not_remembered_for_the_note_would_be_lost() -> None:
    async with open_house(CARRYING) as house:
        job = await submitted(house, SafetyRule())
        cache = ResultCache(
            store=house.store, images=house.images, catalog=house.catalog, clock=house.clock
        )
        image = ImageRecord(0, f"jobs/{job.id}/0.png", "image/png", 8, 8, 1, "ab", 1)
        weights = [{"kind": "base", "name": CARRYING.name, "sha256": CARRYING.sha256}]
        for notes, kept in (["unsafe: flagged"], False), ([], True):
            await cache.keep(job, [image], {"images": [{"weights": weights, "notes": notes}]})
            assert (await cache.find(job, CARRYING, ()) is not None) is kept
