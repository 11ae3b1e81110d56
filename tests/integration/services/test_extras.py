"""What a request needs beside its model, from the submission to the worker."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from sfumato.core.errors import Forbidden, InvalidRequest, UnknownModel
from sfumato.core.extras import LoraUse, Refiner
from sfumato.core.job import JobStatus
from sfumato.core.keys import ApiKey, Caller, Scope
from sfumato.core.models import ModelInfo, ModelKind, ModelLayout
from sfumato.core.ports import Assignment
from sfumato.core.request import GenerationRequest
from sfumato.core.runtimes import Runtime
from sfumato.services.submission import Submission
from tests.support.parts import MODEL, House, ListCatalog, open_house

DEFAULT = Runtime("default")
BASE = replace(MODEL, family="sd1")


def extra(name: str, kind: ModelKind = ModelKind.LORA, family: str = "sd1") -> ModelInfo:
    return ModelInfo(name, family, ModelLayout.CHECKPOINT, f"/models/{name}", kind=kind)


INK, NIGHT, XL = extra("ink"), extra("night", ModelKind.EMBEDDING), extra("xl", family="sdxl")
WORD = extra("castle", ModelKind.EMBEDDING, "sdxl")


async def claimed(house: House) -> Assignment | None:
    return await house.execution().next(timeout=0)


async def test_an_assignment_holds_what_its_request_names() -> None:
    async with open_house(BASE, INK, NIGHT, XL) as house:
        await house.submit("a castle at Night <lora:ink:0.5>")
        assignment = await claimed(house)
        assert assignment is not None
        assert assignment.model == BASE
        assert assignment.extras == (INK, NIGHT)


async def test_what_is_not_there_or_does_not_fit_is_told_at_once() -> None:
    async with open_house(BASE, INK, XL) as house:
        with pytest.raises(UnknownModel, match="'ink'"):
            await house.submit("a castle <lora:inc>")
        with pytest.raises(InvalidRequest, match="for SDXL") as refused:
            await house.submit("a castle", loras=(LoraUse("xl"),))
        assert refused.value.field == "loras"
        assert await claimed(house) is None


async def test_a_word_whose_embedding_does_not_fit_is_noted() -> None:
    async with open_house(BASE, WORD) as house:
        job = await house.submit("a castle at night")
        assert any(note.startswith("castle is read as a word") for note in job.notes)


async def test_what_went_before_the_claim_fails_the_job_and_says_so() -> None:
    async with open_house(BASE, INK) as house:
        job = await house.submit("a castle <lora:ink>")
        house.catalog.models = [BASE]
        assert await claimed(house) is None
        failed = await house.finished(job)
        assert failed.status is JobStatus.FAILED
        assert failed.error is not None
        assert failed.error.code == "unknown_model"
        assert "no LoRA 'ink'" in failed.error.message


async def test_a_claim_whose_answer_was_lost_is_answered_with_everything_again() -> None:
    async with open_house(BASE, INK) as house:
        await house.submit("a castle <lora:ink>")
        work = house.remote().work
        first = await work.claim("pc", "default", holding=[], timeout=0)
        again = await work.claim("pc", "default", holding=[], timeout=0)
        assert first is not None
        assert again is not None
        assert again.extras == first.extras == (INK,)


@dataclass
class LateCatalog(ListCatalog):
    """Sees what was added when it is asked to look."""

    late: list[ModelInfo] = field(default_factory=list)

    async def refresh(self, *, max_age: float = 0.0) -> None:
        self.models = [*self.models, *self.late]


async def test_what_was_added_a_moment_ago_is_looked_for() -> None:
    async with open_house() as house:
        submission = _submission(house, LateCatalog([BASE], late=[INK]))
        job = await submission.submit(GenerationRequest("a castle <lora:ink>"))
        assert job.status is JobStatus.QUEUED


async def test_a_refiner_is_served_by_the_same_runtime() -> None:
    async with open_house() as house:
        refiner = replace(BASE, name="refiner")
        catalog = ListCatalog([BASE, refiner])
        submission = _submission(house, catalog, Runtime("default", models=(BASE.name,)))
        with pytest.raises(InvalidRequest, match="does not serve 'refiner'") as refused:
            await submission.submit(GenerationRequest("a castle", refiner=Refiner("refiner")))
        assert refused.value.field == "refiner.model"


async def test_a_key_that_is_not_for_a_refiner_can_not_use_it() -> None:
    async with open_house() as house:
        submission = _submission(house, ListCatalog([BASE, replace(BASE, name="refiner")]))
        key = ApiKey("k", "bot", "ab", frozenset({Scope.GENERATE}), 0.0, models=(BASE.name,))
        with pytest.raises(Forbidden, match="not for the model 'refiner'"):
            await submission.for_caller(Caller(key)).submit(
                GenerationRequest("a castle", refiner=Refiner("refiner"))
            )


def _submission(house: House, catalog: ListCatalog, runtime: Runtime = DEFAULT) -> Submission:
    return Submission(
        store=house.store,
        queue=house.queue,
        images=house.images,
        catalog=catalog,
        runtimes=[runtime],
        clock=house.clock,
        hooks=house.hooks,
    )
