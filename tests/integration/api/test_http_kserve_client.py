"""KServe's own client, V1 and V2."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator

import httpx
import kserve
import pytest

from tests.integration.api.serving import context_of, serving
from tests.support.parts import House


@pytest.fixture
async def url(house: House) -> AsyncIterator[str]:
    async with serving(context_of(house)) as url:
        yield url


async def newest(house: House) -> bytes:
    [job] = (await house.tracking.list(limit=1)).jobs
    return (await house.images.get(job.images[0].key)).data


def prompt(*values: str) -> kserve.InferInput:
    return kserve.InferInput("prompt", [len(values)], "BYTES", list(values))


async def test_v1(house: House, url: str) -> None:
    async with kserve.InferenceRESTClient(kserve.RESTConfig(protocol="v1")) as client:
        assert await client.is_model_ready(url, "pattern")
        async with house.working():
            answer = await client.infer(
                url, {"instances": [{"prompt": "a castle"}]}, model_name="pattern"
            )
        with pytest.raises(httpx.HTTPStatusError, match="prompt is missing"):
            await client.infer(url, {"instances": [{}]}, model_name="pattern")
    assert base64.b64decode(answer["predictions"][0]) == await newest(house)


@pytest.mark.parametrize("binary", [True, False])
async def test_v2(house: House, url: str, *, binary: bool) -> None:
    asked = prompt("a castle")
    if binary:
        asked.set_data_from_numpy(asked.as_numpy(), binary_data=True)
    request = kserve.InferRequest("pattern", [asked], parameters={"num_inference_steps": 2})
    async with kserve.InferenceRESTClient(kserve.RESTConfig(protocol="v2")) as client:
        assert await client.is_server_live(url)
        assert await client.is_server_ready(url)
        assert await client.is_model_ready(url, "pattern")
        assert not await client.is_model_ready(url, "nothing")
        async with house.working():
            answer = await client.infer(url, request, model_name="pattern")
        empty = kserve.InferRequest("pattern", [prompt(" ")])
        with pytest.raises(httpx.HTTPStatusError, match="prompt is empty"):
            await client.infer(url, empty, model_name="pattern")
    assert base64.b64decode(answer.get_output_by_name("image").data[0]) == await newest(house)
    [job] = (await house.tracking.list(limit=1)).jobs
    assert answer.get_output_by_name("seed").data == [job.settings.seed]
