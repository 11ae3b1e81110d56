"""``/v1/models``, one answer for the native API, OpenAI's clients and KServe's."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from tests.integration.api.serving import Api, context_of, serving
from tests.support.parts import MODEL, House, open_house

REFUSED = dataclasses.replace(MODEL, name="old", refusal="old.ckpt is a pickle.")
SLASHED = dataclasses.replace(MODEL, name="sd/turbo")


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with open_house(MODEL, REFUSED, SLASHED) as opened:
        yield opened


@pytest.fixture
async def client(house: House) -> AsyncIterator[openai.AsyncOpenAI]:
    async with (
        serving(context_of(house)) as url,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as opened,
    ):
        yield opened


async def test_openai_s_client_lists_those_that_may_be_loaded(client: openai.AsyncOpenAI) -> None:
    models = [model async for model in client.models.list()]
    assert [model.id for model in models] == ["pattern", "sd/turbo"]
    assert {(model.object, model.created, model.owned_by) for model in models} == {
        ("model", 0, "sfumato")
    }


async def test_and_finds_one_by_its_name(client: openai.AsyncOpenAI) -> None:
    for name in ("pattern", "sd/turbo"):
        model = await client.models.retrieve(name)
        assert (model.id, model.object, model.owned_by) == (name, "model", "sfumato")


async def test_one_that_there_is_not_is_its_not_found_error(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="There is no model 'dall-e-3'") as refused:
        await client.models.retrieve("dall-e-3")
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
    assert refused.value.type == "invalid_request_error"


async def test_one_answer_is_native_openai_s_and_kserve_s(api: Api) -> None:
    api.house.catalog.models = (MODEL, REFUSED)
    listed = (await api.http.get("/v1/models")).json()
    assert {"models", "samplers", "schedules", "object", "data"} == set(listed)
    assert [model["name"] for model in listed["models"]] == ["pattern", "old"]
    assert [model["ready"] for model in listed["models"]] == [True, False]
    assert listed["object"] == "list"
    assert listed["data"] == [
        {"id": "pattern", "object": "model", "created": 0, "owned_by": "sfumato"}
    ]
    alone: dict[str, Any] = (await api.http.get("/v1/models/pattern")).json()
    assert (alone["name"], alone["ready"]) == ("pattern", True)
    assert alone["vocabulary"]


async def test_an_error_is_a_problem_with_openai_s_beside_it(api: Api) -> None:
    for path, status, code in (
        ("/v1/models/nope", 404, "not_found"),
        ("/v1/models?kind=lorry", 422, "invalid_request"),
    ):
        answer = await api.http.get(path)
        assert answer.status_code == status
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["code"] == code
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
