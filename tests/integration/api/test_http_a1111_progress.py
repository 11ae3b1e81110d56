"""Progress, interrupt and skip of A1111's API: each caller's own."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from sfumato.core.job import JobStatus
from sfumato.engine.fake import FakeEngine
from tests.integration.api.a1111_site import SMALL, Gate, Site, opened


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with opened() as opened_site:
        yield opened_site


@pytest.fixture
async def locked() -> AsyncIterator[Site]:
    """A service that asks for keys."""
    async with opened(key_required=True) as opened_site:
        yield opened_site


async def test_progress_shows_the_job_while_it_runs_and_nothing_after(site: Site) -> None:
    gate = Gate()
    async with site.client() as api, site.client() as watching:
        async with site.house.working(FakeEngine(before_step=gate)):
            drawing = asyncio.create_task(
                asyncio.to_thread(api.txt2img, prompt="a castle", **SMALL)
            )
            await site.told_a_step()
            progress = await asyncio.to_thread(watching.get_progress)
            gate.go_on.set()
            await drawing
        after = await asyncio.to_thread(watching.get_progress)
        await asyncio.to_thread(watching.util_wait_for_ready)
    assert progress["progress"] == pytest.approx(1 / 3)
    assert progress["state"]["job"] == "txt2img"
    assert (progress["state"]["sampling_step"], progress["state"]["sampling_steps"]) == (1, 3)
    assert progress["eta_relative"] >= 0
    assert (after["progress"], after["state"]["job_count"], after["current_image"]) == (0, 0, None)


@pytest.mark.parametrize("call", ["interrupt", "skip"])
async def test_a_job_that_is_interrupted_is_answered_without_pictures(
    site: Site, call: str
) -> None:
    gate = Gate()
    async with (
        site.client() as api,
        site.client() as other,
        site.house.working(FakeEngine(before_step=gate)),
    ):
        drawing = asyncio.create_task(asyncio.to_thread(api.txt2img, prompt="a castle", **SMALL))
        assert await asyncio.to_thread(gate.reached.wait, 30)
        await asyncio.to_thread(getattr(other, call))
        gate.go_on.set()
        result = await drawing
    assert result.images == []
    assert (await site.newest()).status is JobStatus.CANCELED


async def test_interrupt_takes_back_what_waits_where_nothing_runs(site: Site) -> None:
    native = await site.house.submit()
    async with site.client() as api, site.client() as other:
        drawing = asyncio.create_task(asyncio.to_thread(api.txt2img, prompt="a castle", **SMALL))
        with site.house.watcher.subscribe_all() as changed:
            while len((await site.house.tracking.list()).jobs) < 2:
                await changed.wait()
                changed.clear()
        progress = await asyncio.to_thread(other.get_progress)
        await asyncio.to_thread(other.interrupt)
        assert (await drawing).images == []
    assert progress["state"]["job_count"] == 1
    assert progress["textinfo"]
    # What the native API made is none of A1111's.
    assert (await site.house.tracking.get(native.id)).status is JobStatus.QUEUED


async def test_two_callers_see_nothing_of_each_other(locked: Site) -> None:
    gate = Gate()
    mine, theirs, admin = [await locked.key(role) for role in ("user", "user", "admin")]
    async with (
        locked.client(**mine) as me,
        locked.client(**mine) as watching,
        locked.client(**theirs) as other,
        locked.client(**admin) as chief,
        locked.house.working(FakeEngine(before_step=gate), preview_interval=0.0),
    ):
        drawing = asyncio.create_task(asyncio.to_thread(me.txt2img, prompt="a castle", **SMALL))
        await locked.told_a_step()
        for stranger in (other, chief):
            progress = await asyncio.to_thread(stranger.get_progress)
            assert (progress["progress"], progress["current_image"]) == (0, None)
            assert progress["state"]["job_count"] == 0
            await asyncio.to_thread(stranger.interrupt)
            await asyncio.to_thread(stranger.skip)
        progress = await asyncio.to_thread(watching.get_progress)
        assert progress["progress"] > 0
        assert base64.b64decode(progress["current_image"]).startswith(b"\x89PNG")
        gate.go_on.set()
        assert len((await drawing).images) == 1


async def test_without_a_key_the_jobs_of_keys_are_another_s(site: Site) -> None:
    gate = Gate()
    login = await site.key()
    async with (
        site.client(**login) as me,
        site.client() as nobody,
        site.house.working(FakeEngine(before_step=gate)),
    ):
        drawing = asyncio.create_task(asyncio.to_thread(me.txt2img, prompt="a castle", **SMALL))
        assert await asyncio.to_thread(gate.reached.wait, 30)
        assert (await asyncio.to_thread(nobody.get_progress))["state"]["job_count"] == 0
        await asyncio.to_thread(nobody.interrupt)
        gate.go_on.set()
        assert len((await drawing).images) == 1


async def test_a_caller_that_leaves_takes_his_job_back(site: Site) -> None:
    body = json.dumps({"prompt": "a castle"}).encode()
    _reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(site.url).port)
    writer.write(
        b"POST /sdapi/v1/txt2img HTTP/1.1\r\nHost: sfumato\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body) + body
    )
    with site.house.watcher.subscribe_all() as changed:
        while not (jobs := (await site.house.tracking.list()).jobs):
            await changed.wait()
            changed.clear()
    writer.close()
    await writer.wait_closed()
    assert (await site.house.finished(jobs[0])).status is JobStatus.CANCELED


async def test_a_task_is_followed_by_its_own_name(site: Site) -> None:
    gate = Gate()
    async with httpx.AsyncClient(base_url=site.url, timeout=30) as http:

        async def asked(task: str, seen: int = -1) -> dict[str, Any]:
            question = {"id_task": task, "id_live_preview": seen}
            answer: dict[str, Any] = (await http.post("/internal/progress", json=question)).json()
            return answer

        async with site.house.working(FakeEngine(before_step=gate), preview_interval=0.0):
            body = {"prompt": "a castle", "force_task_id": "task(1)", "steps": 3}
            drawing = asyncio.create_task(http.post("/sdapi/v1/txt2img", json=body))
            await site.told_a_step()
            running, unknown = await asked("task(1)"), await asked("task(2)")
            again = await asked("task(1)", running["id_live_preview"])
            named = (await http.get("/sdapi/v1/progress?id_task=task(1)")).json()
            other = (await http.get("/sdapi/v1/progress?id_task=task(2)")).json()
            gate.go_on.set()
            assert (await drawing).status_code == 200
        done = await asked("task(1)")
    assert (running["active"], running["queued"], running["completed"]) == (True, False, False)
    assert running["progress"] == pytest.approx(1 / 3)
    assert running["live_preview"].startswith("data:image/")
    assert again["live_preview"] is None
    assert running["live_preview"].partition(",")[2] == named["current_image"]
    assert named["current_task"] == "task(1)"
    assert (other["progress"], other["current_image"]) == (0, None)
    assert not unknown["active"]
    assert (done["active"], done["completed"]) == (False, True)
