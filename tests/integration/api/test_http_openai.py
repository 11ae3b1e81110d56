"""OpenAI's own Python client, sync and async, against a Sfumato on a socket."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import openai
import pytest
from openai.types import ImagesResponse

from sfumato.core.edits import Fill
from sfumato.core.errors import ContentBlocked, EngineError, EngineFailure
from sfumato.core.job import Job, JobStatus
from sfumato.core.keys import ROLES
from sfumato.core.models import ModelInfo, ModelKind, ModelLayout
from sfumato.core.ports import Slot
from sfumato.core.recipe import Recipe
from sfumato.core.request import OutputFormat
from sfumato.engine.comparing import recipe_of
from sfumato.engine.fake import FakeEngine
from tests.integration.api.serving import context_of, serving
from tests.support.parts import MODEL, House, open_house
from tests.support.png import png

PICTURE, MASK = png(64, 48), png(64, 48, value=255)
INK, LINE = (
    ModelInfo(name, "", ModelLayout.CHECKPOINT, f"/models/{name}", kind=ModelKind.LORA)
    for name in ("ink", "line")
)


@dataclass
class Service:
    """A service that asks for keys, a caller with one, and his clients."""

    house: House
    url: str
    key: str
    client: openai.AsyncOpenAI

    async def another(self) -> str:
        """Another caller's key."""
        _, secret = await self.house.keys.create(name="other", scopes=ROLES["user"])
        return secret

    async def read(self, address: str | None, key: str) -> httpx.Response:
        assert address is not None
        async with httpx.AsyncClient(headers={"Authorization": f"Bearer {key}"}) as http:
            return await http.get(address)

    async def jobs(self, count: int = 1) -> Sequence[Job]:
        """The jobs, once there are ``count``."""
        with self.house.watcher.subscribe_all() as changed:
            while len(jobs := (await self.house.tracking.list()).jobs) < count:
                await changed.wait()
                changed.clear()
        return jobs


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with open_house(MODEL, INK, LINE) as house:
        _, key = await house.keys.create(name="me", scopes=ROLES["user"])
        async with (
            serving(context_of(house, key_required=True)) as url,
            openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as client,
        ):
            yield Service(house, url, key, client)


def files(answer: ImagesResponse) -> list[bytes]:
    """The pictures of an answer that carries them."""
    assert answer.data is not None
    assert all(image.url is None for image in answer.data)
    return [base64.b64decode(image.b64_json or "") for image in answer.data]


def recipes(answer: ImagesResponse) -> list[Recipe]:
    return [recipe_of(file, name="it") for file in files(answer)]


async def test_the_blocking_client_draws_two_pictures(service: Service) -> None:
    def draw() -> ImagesResponse:
        with openai.OpenAI(base_url=f"{service.url}/v1", api_key=service.key) as client:
            return client.images.generate(
                model="pattern", prompt="a castle at night", n=2, size="128x64"
            )

    async with service.house.working():
        answer = await asyncio.to_thread(draw)
    first, second = recipes(answer)
    assert (first.prompt, first.width, first.height) == ("a castle at night", 128, 64)
    assert second.seed == first.seed + 1
    (job,) = await service.jobs()
    assert answer._request_id == job.id
    assert answer.created == int(job.created_at)
    assert (answer.size, answer.quality, answer.background, answer.output_format) == (
        *("128x64", "medium", "opaque"),
        "png",
    )
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.input_tokens_details.text_tokens == 0


@pytest.mark.parametrize(
    ("asked", "told", "steps"),
    [
        ({"quality": "low"}, "low", 2),
        ({"quality": "hd"}, "high", 6),
        ({"quality": "auto"}, "medium", 4),
        ({"quality": "high", "steps": 3}, "high", 3),
    ],
)
async def test_quality_is_a_number_of_steps(
    service: Service, asked: dict[str, Any], told: str, steps: int
) -> None:
    headers = {"Authorization": f"Bearer {service.key}"}
    async with service.house.working(), httpx.AsyncClient(timeout=60) as http:
        answer = await http.post(
            f"{service.url}/v1/images/generations",
            json={"prompt": "a castle", **asked},
            headers=headers,
        )
    assert answer.status_code == 200, answer.text
    assert answer.json()["quality"] == told
    (job,) = await service.jobs()
    assert job.settings.num_inference_steps == steps


async def test_addresses_are_readable_with_the_caller_s_key_alone(service: Service) -> None:
    async with service.house.working():
        answer = await service.client.images.generate(prompt="a castle", n=2, response_format="url")
    assert answer.data is not None
    stranger = await service.another()
    for image in answer.data:
        assert image.b64_json is None
        mine = await service.read(image.url, service.key)
        assert recipe_of(mine.content, name="it").prompt == "a castle"
        assert (await service.read(image.url, stranger)).status_code == 404
        assert (await service.read(image.url, "none")).status_code == 401


async def test_what_openai_does_not_know_goes_into_extra_body(service: Service) -> None:
    extras: dict[str, Any] = {
        "negative_prompt": "people",
        "seed": "7",
        "steps": 3,
        "guidance_scale": 5,
        "sampler": "euler_a",
        "schedule": "karras",
        "loras": [{"name": "ink", "weight": 0.5}, {"name": "line"}],
        "hires": {"scale": 1.5, "strength": 0.4},
        "clip_skip": 2,
    }
    async with service.house.working():
        answer = await service.client.images.generate(prompt="a castle", extra_body=extras)
    (recipe,) = recipes(answer)
    assert (recipe.negative_prompt, recipe.seed, recipe.clip_skip) == ("people", 7, 2)
    assert (recipe.num_inference_steps, recipe.guidance_scale) == (3, 5.0)
    assert (recipe.sampler, recipe.schedule) == ("euler_a", "karras")
    assert [(lora.name, lora.weight) for lora in recipe.loras] == [("ink", 0.5), ("line", 1.0)]
    assert recipe.hires is not None
    assert (recipe.hires.scale, recipe.hires.strength) == (1.5, 0.4)


async def test_how_files_are_encoded(service: Service) -> None:
    async with service.house.working():
        answer = await service.client.images.generate(
            prompt="a castle", output_format="jpeg", output_compression=0, background="auto"
        )
    assert answer.output_format == "jpeg"
    (job,) = await service.jobs()
    assert (job.request.output_format, job.request.output_quality) == (OutputFormat.JPEG, 1)


async def test_an_edit_with_a_mask_redraws_what_is_transparent(service: Service) -> None:
    extras = {"seed": 7, "inpainting": {"blur": 2, "fill": "noise"}}
    async with service.house.working():
        answer = await service.client.images.edit(
            image=("init.png", PICTURE),
            mask=("mask.png", MASK),
            prompt="a castle",
            input_fidelity="low",
            extra_body=extras,
        )
    (recipe,) = recipes(answer)
    (job,) = await service.jobs()
    assert recipe.init_image is not None
    assert recipe.inpainting is not None
    stored = [
        (await service.house.tracking.input(job.id, image.sha256)).data
        for image in (recipe.init_image, recipe.inpainting.mask)
    ]
    assert stored == [PICTURE, MASK]
    assert (recipe.inpainting.alpha, recipe.inpainting.blur) == (True, 2)
    assert (recipe.inpainting.fill, recipe.strength, recipe.seed) == (Fill.NOISE, 1.0, 7)
    assert (recipe.width, recipe.height) == (64, 48)


async def test_an_edit_without_a_mask_and_lists_as_json(service: Service) -> None:
    """The SDK writes a list of one picture as ``image[]``."""
    async with service.house.working():
        answer = await service.client.images.edit(
            image=[PICTURE],
            prompt="a castle",
            n=2,
            size="128x96",
            extra_body={
                "strength": 0.5,
                "loras": json.dumps([{"name": "ink"}, {"name": "line", "weight": 2}]),
                "num_inference_steps": 6,
            },
        )
    first, second = recipes(answer)
    assert (first.inpainting, first.strength, second.seed) == (None, 0.5, first.seed + 1)
    assert (first.width, first.height, first.num_inference_steps) == (128, 96, 6)
    assert [(lora.name, lora.weight) for lora in first.loras] == [("ink", 1.0), ("line", 2.0)]


# OpenAI has retired its variations; its package still sends them.
@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
async def test_variations_begin_with_their_picture(service: Service) -> None:
    async with service.house.working():
        told = await service.client.images.create_variation(image=PICTURE, n=2)
        carried = await service.client.images.create_variation(
            image=PICTURE,
            response_format="b64_json",
            size="512x512",
            extra_body={"prompt": "a castle", "strength": 0.3},
        )
    assert told.data is not None
    found = [await service.read(image.url, service.key) for image in told.data]
    assert [recipe_of(each.content, name="it").prompt for each in found] == ["a picture"] * 2
    assert {recipe_of(each.content, name="it").strength for each in found} == {0.6}
    (recipe,) = recipes(carried)
    assert (recipe.prompt, recipe.strength, recipe.width) == ("a castle", 0.3, 512)
    assert recipe.init_image is not None


async def test_no_key_and_a_bad_one_are_authentication_errors(service: Service) -> None:
    for key in ("none", "sfk_unknown"):
        client = service.client.with_options(api_key=key)
        with pytest.raises(openai.AuthenticationError) as refused:
            await client.images.generate(prompt="a castle")
        assert refused.value.code == "invalid_api_key"
        with pytest.raises(openai.AuthenticationError, match="sfumato keys create"):
            await client.models.retrieve("pattern")


async def test_a_key_that_may_only_look_is_denied(service: Service) -> None:
    _, secret = await service.house.keys.create(name="viewer", scopes=ROLES["viewer"])
    with pytest.raises(openai.PermissionDeniedError, match="generate"):
        await service.client.with_options(api_key=secret).images.generate(prompt="a castle")


async def test_a_model_of_openai_s_is_not_found_and_ours_are_named(service: Service) -> None:
    with pytest.raises(openai.NotFoundError, match=r"'dall-e-3'.* Accepted: pattern\.") as refused:
        await service.client.images.generate(model="dall-e-3", prompt="a castle")
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
    assert refused.value.type == "invalid_request_error"


async def test_a_lora_that_there_is_not_is_a_bad_request(service: Service) -> None:
    with pytest.raises(openai.BadRequestError, match="no LoRA 'x'"):
        await service.client.images.generate(
            prompt="a castle", extra_body={"loras": [{"name": "x"}]}
        )


async def test_a_full_queue_is_a_rate_limit_error_that_says_how_long(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.house.submission, "_max_queued", 0)
    with pytest.raises(openai.RateLimitError) as refused:
        await service.client.images.generate(prompt="a castle")
    assert (refused.value.code, refused.value.type) == ("rate_limit_exceeded", "requests")
    assert int(refused.value.response.headers["Retry-After"]) >= 1


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (EngineFailure("Out to lunch."), openai.InternalServerError, "engine_failure"),
        (ContentBlocked("Unsafe."), openai.BadRequestError, "content_policy_violation"),
    ],
)
async def test_a_job_that_fails_is_told_once_and_not_tried_again(
    service: Service, error: EngineError, kind: type[openai.APIStatusError], code: str
) -> None:
    def fail(_slots: Sequence[Slot]) -> None:
        raise error

    async with service.house.working(FakeEngine(before_step=fail)):
        with pytest.raises(kind, match=error.message) as refused:
            await service.client.with_options(max_retries=2).images.generate(prompt="a castle")
    assert refused.value.code == code
    (job,) = await service.jobs()
    assert (refused.value.request_id, job.status) == (job.id, JobStatus.FAILED)


async def test_a_caller_that_hangs_up_takes_its_job_back(service: Service) -> None:
    asking = asyncio.create_task(service.client.images.generate(prompt="a castle"))
    (job,) = await service.jobs()
    asking.cancel()
    assert (await service.house.finished(job)).status is JobStatus.CANCELED
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_a_job_that_somebody_cancels_is_told(service: Service) -> None:
    asking = asyncio.create_task(service.client.images.generate(prompt="a castle"))
    (job,) = await service.jobs()
    await service.house.tracking.cancel(job.id)
    with pytest.raises(openai.InternalServerError, match="was canceled") as refused:
        await asking
    assert refused.value.code == "canceled"
