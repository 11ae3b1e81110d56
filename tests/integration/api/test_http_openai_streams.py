"""Pictures as they come into being, read by OpenAI's own Python client on a socket."""

from __future__ import annotations

import asyncio
import base64
import functools
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import openai
import pytest
from openai.types import ImageGenStreamEvent

from sfumato.api.context import ApiContext
from sfumato.api.dialects.openai.streams import Partials
from sfumato.core.errors import EngineFailure
from sfumato.core.events import Event, EventKind
from sfumato.core.job import Job, JobStatus
from sfumato.core.ports import Slot
from sfumato.engine.comparing import recipe_of
from sfumato.engine.fake import FakeEngine
from sfumato.worker import loop
from sfumato.worker.engine_thread import EngineThread
from tests.integration.api.serving import context_of, serving
from tests.support.parts import House, open_house
from tests.support.png import png

PARTIAL, COMPLETED = "image_generation.partial_image", "image_generation.completed"


@dataclass
class Site:
    house: House
    context: ApiContext
    client: openai.AsyncOpenAI

    async def job(self) -> Job:
        """The only job."""
        (job,) = (await self.house.tracking.list()).jobs
        return job


@pytest.fixture
async def site(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    # The worker tells every step, however short it was.
    eager = functools.partial(EngineThread, report_interval=0.0)
    monkeypatch.setattr(loop, "EngineThread", eager)
    async with open_house() as house:
        context = context_of(house)
        async with (
            serving(context) as url,
            openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
        ):
            yield Site(house, context, client)


class Paced:
    """Lets the engine take a step when the test says so."""

    def __init__(self, *, fails_at: int = 0) -> None:
        self._permits = threading.Semaphore(0)
        self._fails_at = fails_at

    def go(self, steps: int = 1) -> None:
        self._permits.release(steps)

    def __call__(self, slots: Sequence[Slot]) -> None:
        assert self._permits.acquire(timeout=30)
        if slots[0].step + 1 == self._fails_at:
            raise EngineFailure("Out to lunch.")


async def read(stream: openai.AsyncStream[ImageGenStreamEvent]) -> list[str]:
    """The kinds of events of all of a stream."""
    return [event.type async for event in stream]


async def test_every_partial_image_asked_for_then_the_picture(site: Site) -> None:
    pace = Paced()
    async with site.house.working(FakeEngine(before_step=pace), preview_interval=0.0):
        pace.go()
        stream = await site.client.images.generate(
            prompt="a castle", stream=True, partial_images=3, extra_body={"seed": 7}
        )
        told = []
        async for event in stream:
            told.append(event)
            pace.go()  # the next step only when this one's preview has arrived
    assert [event.type for event in told] == [PARTIAL] * 3 + [COMPLETED]
    indices = [event.partial_image_index for event in told if event.type == PARTIAL]
    assert indices == [0, 1, 2]
    for event in told:
        assert base64.b64decode(event.b64_json).startswith(b"\x89PNG\r\n\x1a\n")
        assert (event.output_format, event.size, event.quality) == ("png", "64x64", "medium")
        assert (event.background, event.created_at > 1_700_000_000) == ("opaque", True)
    last = told[-1]
    assert last.type == COMPLETED
    assert last.usage.total_tokens == last.usage.input_tokens_details.image_tokens == 0
    assert recipe_of(base64.b64decode(last.b64_json), name="it").seed == 7
    assert stream.response.headers["X-Sfumato-Job"] == (await site.job()).id


async def test_an_edit_s_events_for_the_blocking_client(site: Site) -> None:
    def draw() -> list[str]:
        with openai.OpenAI(base_url=site.client.base_url, api_key="none") as client:
            stream = client.images.edit(
                image=png(64, 64), prompt="a castle", stream=True, partial_images=1
            )
            kinds = []
            for event in stream:
                kinds.append(event.type)
                pace.go(4)
            return kinds

    pace = Paced()
    async with site.house.working(FakeEngine(before_step=pace), preview_interval=0.0):
        pace.go(2)  # of three steps, with strength 0.75
        kinds = await asyncio.to_thread(draw)
    assert kinds == ["image_edit.partial_image", "image_edit.completed"]


async def test_without_partial_images_there_is_the_picture_alone(site: Site) -> None:
    async with site.house.working(preview_interval=0.0):
        stream = await site.client.images.generate(prompt="a castle", stream=True)
        assert await read(stream) == [COMPLETED]


async def test_a_failure_on_the_way_is_an_error_event(site: Site) -> None:
    pace = Paced(fails_at=3)
    async with site.house.working(FakeEngine(before_step=pace), preview_interval=0.0):
        pace.go(10)
        stream = await site.client.images.generate(prompt="a castle", stream=True, partial_images=1)
        with pytest.raises(openai.APIError, match="Out to lunch") as failed:
            await read(stream)
    assert (failed.value.code, failed.value.type) == ("engine_failure", "server_error")


async def test_a_caller_that_leaves_a_stream_takes_its_job_back(site: Site) -> None:
    pace = Paced()
    async with site.house.working(FakeEngine(before_step=pace), preview_interval=0.0):
        pace.go()
        stream = await site.client.images.generate(prompt="a castle", stream=True, partial_images=3)
        async for _event in stream:
            break
        await stream.close()
        job = await site.job()
        with site.house.watcher.subscribe(job.id) as changed:
            while not (await site.house.tracking.get(job.id)).cancel_requested:
                await changed.wait()
                changed.clear()
        pace.go(10)
        assert (await site.house.finished(job)).status is JobStatus.CANCELED


async def test_a_server_that_stops_says_so_and_keeps_the_job(site: Site) -> None:
    stream = await site.client.images.generate(prompt="a castle", stream=True)
    site.context.stopping.set()
    with pytest.raises(openai.APIError, match="the job is kept") as stopped:
        await read(stream)
    assert stopped.value.code == "stopping"
    assert (await site.job()).status is JobStatus.QUEUED


def step(number: int, steps: int, *, preview: bool = True) -> Event:
    data = {"step": number, "steps": steps, **({"preview": "data:"} if preview else {})}
    return Event("job", number, EventKind.STEP, 0.0, data)


@pytest.mark.parametrize(
    ("most", "steps", "told"),
    [
        (0, range(1, 20), []),
        (1, range(1, 20), [10]),
        (3, range(1, 20), [5, 10, 15]),
        (3, [8, 9, 16, 17], [8, 16]),  # few previews, as a fast GPU's: no two of one part
        (3, [19], [19]),
        (2, [12, 3, 15], [12, 15]),  # the second attempt began anew
    ],
)
def test_partial_images_are_spread_over_the_steps(
    most: int, steps: Sequence[int], told: list[int]
) -> None:
    partials = Partials(most)
    assert [number for number in steps if partials.wants(step(number, 20))] == told
    assert partials.sent == len(told)
    assert not partials.wants(step(20, 20, preview=False))
