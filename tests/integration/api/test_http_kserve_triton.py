"""Triton's own HTTP client, which speaks the Open Inference Protocol with binary tensors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import numpy as np
import pytest
from tritonclient.http.aio import (
    InferenceServerClient,
    InferenceServerException,
    InferInput,
    InferRequestedOutput,
)

from tests.integration.api.serving import context_of, serving
from tests.support.parts import House, open_house


@dataclass
class Service:
    house: House
    client: InferenceServerClient

    async def newest(self) -> list[bytes]:
        """The pictures of the last job."""
        [job] = (await self.house.tracking.list(limit=1)).jobs
        return [(await self.house.images.get(image.key)).data for image in job.images]


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with (
        open_house() as house,
        serving(context_of(house)) as url,
        InferenceServerClient(url.removeprefix("http://")) as client,
    ):
        yield Service(house, client)


def tensor(name: str, datatype: str, *values: object, binary: bool = True) -> InferInput:
    kinds = {"BYTES": np.object_, "INT32": np.int32, "FP32": np.float32, "UINT64": np.uint64}
    found = InferInput(name, [len(values)], datatype)
    found.set_data_from_numpy(np.array(values, dtype=kinds[datatype]), binary_data=binary)
    return found


async def test_what_it_asks_of_a_server(service: Service) -> None:
    client = service.client
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.is_model_ready("pattern")
    assert await client.is_model_ready("pattern", "1")
    assert not await client.is_model_ready("nothing")
    assert "binary_tensor_data" in (await client.get_server_metadata())["extensions"]
    model = await client.get_model_metadata("pattern")
    assert {each["name"] for each in model["outputs"]} == {"image", "seed"}


@pytest.mark.parametrize("binary", [True, False])
async def test_inputs_and_outputs_as_numpy_s_arrays(service: Service, *, binary: bool) -> None:
    inputs = [
        tensor("prompt", "BYTES", "a castle", binary=binary),
        tensor("num_images", "INT32", 2, binary=binary),
        tensor("seed", "UINT64", 2**63 + 1, binary=binary),
        tensor("guidance_scale", "FP32", 5.5, binary=binary),
    ]
    async with service.house.working():
        result = await service.client.infer("pattern", inputs, request_id="42")
    assert result.get_response()["id"] == "42"
    assert result.as_numpy("image").tolist() == await service.newest()
    assert result.as_numpy("seed").tolist() == [2**63 + 1, 2**63 + 2]


async def test_a_picture_goes_in_and_chosen_outputs_come_out(service: Service) -> None:
    prompt = tensor("prompt", "BYTES", "a castle")
    async with service.house.working():
        first = await service.client.infer("pattern", [prompt], model_version="1")
        picture = first.as_numpy("image")[0]
        second = await service.client.infer(
            "pattern",
            [prompt, tensor("init_image", "BYTES", picture)],
            outputs=[InferRequestedOutput("image", binary_data=True)],
            parameters={"strength": 0.5, "num_inference_steps": 2},
        )
    assert second.as_numpy("seed") is None
    assert second.as_numpy("image").tolist() == await service.newest()
    [job] = (await service.house.tracking.list(limit=1)).jobs
    assert job.request.init_image is not None
    assert job.settings.num_inference_steps == 2


async def test_a_refusal_is_the_client_s_exception(service: Service) -> None:
    with pytest.raises(InferenceServerException, match="no input 'steps'"):
        await service.client.infer(
            "pattern", [tensor("prompt", "BYTES", "a"), tensor("steps", "INT32", 3)]
        )
    with pytest.raises(InferenceServerException, match="nothing"):
        await service.client.infer("nothing", [tensor("prompt", "BYTES", "a")])
    pixels = InferRequestedOutput("generated_image")
    with pytest.raises(InferenceServerException, match="not pixels"):
        await service.client.infer("pattern", [tensor("prompt", "BYTES", "a")], outputs=[pixels])
