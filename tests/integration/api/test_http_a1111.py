"""``/sdapi/v1`` over TCP by ``webuiapi`` from PyPI, unmodified.

The package waits in the thread that calls it, so it gets one of its own.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest
import webuiapi

from sfumato.core.edits import Fill
from sfumato.core.job import Job, JobStatus
from sfumato.core.keys import ROLES
from sfumato.core.models import ModelFile, ModelInfo, ModelKind, ModelLayout
from sfumato.core.ports import Slot
from sfumato.engine.fake import FakeEngine
from tests.integration.api.serving import context_of, serving
from tests.support.parts import MODEL, House, open_house
from tests.support.pictures import noise, rectangle

DIGEST = "0123456789abcdef" * 4


def beside(name: str, kind: ModelKind) -> ModelInfo:
    return replace(MODEL, name=name, kind=kind, vocabulary=None, family="")


MODELS = (
    MODEL,
    replace(
        MODEL,
        name="photo",
        layout=ModelLayout.CHECKPOINT,
        files=(ModelFile("photo.safetensors", 8, DIGEST),),
    ),
    beside("canny", ModelKind.CONTROLNET),
    beside("soft", ModelKind.VAE),
    beside("ink", ModelKind.LORA),
    beside("large", ModelKind.UPSCALER),
    beside("bad-hands", ModelKind.EMBEDDING),
)
#: ``alwayson_scripts`` is given wherever scripts are: the package keeps what it adds to its own
#: default from call to call.
SMALL: dict[str, Any] = {"width": 64, "height": 64, "steps": 3, "sampler_name": "Euler a"}


class Gate:
    """Holds the engine after its first step until the test lets it go on."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.go_on = threading.Event()
        self._steps = 0

    def __call__(self, _slots: Sequence[Slot]) -> None:
        self._steps += 1
        if self._steps > 1:
            self.reached.set()
            assert self.go_on.wait(30)


@dataclass
class Site:
    house: House
    url: str

    @contextlib.asynccontextmanager
    async def client(self, **login: str) -> AsyncIterator[webuiapi.WebUIApi]:
        base = f"{self.url}/sdapi/v1"
        # It asks for the scripts as soon as it is made.
        api = await asyncio.to_thread(webuiapi.WebUIApi, baseurl=base, **login)
        try:
            yield api
        finally:
            api.session.close()

    async def key(self, role: str = "user") -> dict[str, str]:
        """A login: the password is the key."""
        _, secret = await self.house.keys.create(name="me", scopes=ROLES[role])
        return {"username": "me", "password": secret}

    async def newest(self) -> Job:
        return (await self.house.tracking.list()).jobs[0]

    async def told_a_step(self) -> None:
        """Returns once a job has told of a step."""
        with self.house.watcher.subscribe_all(progress=True) as changed:
            while not await self._steps():
                await changed.wait()
                changed.clear()

    async def _steps(self) -> list[str]:
        jobs = (await self.house.tracking.list()).jobs
        return [kind for job in jobs for kind in await self.house.kinds(job) if kind == "step"]


@contextlib.asynccontextmanager
async def opened(*, key_required: bool = False) -> AsyncIterator[Site]:
    async with (
        open_house(*MODELS) as house,
        serving(context_of(house, key_required=key_required)) as url,
    ):
        yield Site(house, url)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with opened() as opened_site:
        yield opened_site


@pytest.fixture
async def locked() -> AsyncIterator[Site]:
    """A service that asks for keys."""
    async with opened(key_required=True) as opened_site:
        yield opened_site


async def test_txt2img(site: Site) -> None:
    async with site.client() as api, site.house.working():
        result = await asyncio.to_thread(
            api.txt2img,
            prompt="a castle <lora:ink:0.5>",
            negative_prompt="fog",
            seed=7,
            batch_size=2,
            n_iter=2,
            cfg_scale=5,
            scheduler="Karras",
            **SMALL,
        )
    assert [image.size for image in result.images] == [(64, 64)] * 4
    assert result.parameters["prompt"] == "a castle <lora:ink:0.5>"
    info = result.info
    assert info["all_seeds"] == [7, 8, 9, 10]
    assert info["all_prompts"] == ["a castle <lora:ink:0.5>"] * 4
    assert (info["sampler_name"], info["steps"], info["sd_model_name"]) == (
        "Euler a",
        3,
        "pattern",
    )
    for seed, image, text in zip((7, 8, 9, 10), result.images, info["infotexts"], strict=True):
        assert f"Seed: {seed}" in text
        assert image.info["parameters"] == text
    request = (await site.newest()).request
    assert (request.negative_prompt, request.guidance_scale) == ("fog", 5.0)
    assert request.schedule == "Karras"


async def test_hires_variation_and_refiner_become_the_core_s_own(site: Site) -> None:
    async with site.client() as api, site.house.working():
        result = await asyncio.to_thread(
            api.txt2img,
            prompt="a castle",
            enable_hr=True,
            hr_scale=1.5,
            hr_upscaler=webuiapi.HiResUpscaler.Latent,
            hr_second_pass_steps=2,
            denoising_strength=0.6,
            seed=3,
            subseed=5,
            subseed_strength=0.25,
            **SMALL,
        )
    assert result.image.size == (96, 96)
    request = (await site.newest()).request
    assert request.hires is not None
    assert request.variation is not None
    assert (request.hires.scale, request.hires.strength) == (1.5, 0.6)
    assert (request.hires.num_inference_steps, request.hires.upscaler) == (2, "latent")
    assert (request.variation.seed, request.variation.strength) == (5, 0.25)
    assert result.info["subseed"] == 5
    assert result.info["denoising_strength"] == 0.6


async def test_img2img_with_a_mask(site: Site) -> None:
    async with site.client() as api, site.house.working():
        result = await asyncio.to_thread(
            api.img2img,
            images=[noise(64, 64)],
            mask_image=rectangle(64, 64, (8, 8, 32, 32)),
            prompt="a castle",
            mask_blur=6,
            inpainting_fill=2,
            inpaint_full_res=False,
            inpaint_full_res_padding=16,
            inpainting_mask_invert=1,
            denoising_strength=0.5,
            **SMALL,
        )
    assert result.image.size == (64, 64)
    assert result.parameters["init_images"] is result.parameters["mask"] is None
    request = (await site.newest()).request
    assert request.strength == 0.5
    assert request.init_image is not None
    edit = request.inpainting
    assert edit is not None
    assert (edit.blur, edit.fill, edit.only_masked) == (6, Fill.NOISE, False)
    assert (edit.padding, edit.invert) == (16, True)


async def test_controlnet_units_become_controls(site: Site) -> None:
    units = [
        webuiapi.ControlNetUnit(
            image=noise(64, 64), model="canny [0123abcd]", weight=0.7, guidance_end=0.5
        ),
        webuiapi.ControlNetUnit(enabled=False, module="depth"),
    ]
    async with site.client() as api:
        assert await asyncio.to_thread(api.controlnet_model_list) == ["canny"]
        assert await asyncio.to_thread(api.controlnet_module_list) == ["none"]
        async with site.house.working():
            await asyncio.to_thread(
                api.txt2img, prompt="a castle", controlnet_units=units, alwayson_scripts={}, **SMALL
            )
    (control,) = (await site.newest()).request.controls
    assert (control.model, control.strength, control.end) == ("canny", 0.7, 0.5)


async def test_an_unknown_script_is_an_error_that_names_it(site: Site) -> None:
    async with site.client() as api:
        with pytest.raises(RuntimeError) as caught:
            await asyncio.to_thread(
                api.txt2img, prompt="a", alwayson_scripts={"ADetailer": {"args": [True, {}]}}
            )
    status, text = caught.value.args
    assert status == 422
    assert "ADetailer" in json.loads(text)["errors"]


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


async def test_options_are_each_caller_s_own(locked: Site) -> None:
    mine, theirs = [await locked.key() for _ in range(2)]
    async with locked.client(**mine) as me, locked.client(**theirs) as other:

        async def drawn(api: webuiapi.WebUIApi, **fields: Any) -> tuple[str, int]:
            result = await asyncio.to_thread(api.txt2img, prompt="a castle", **SMALL, **fields)
            return result.info["sd_model_name"], result.info["clip_skip"]

        async with locked.house.working():
            await asyncio.to_thread(me.util_set_model, "photo")
            await asyncio.to_thread(me.set_options, {"CLIP_stop_at_last_layers": 2})
            assert await asyncio.to_thread(me.util_get_current_model) == "photo [0123456789]"
            assert await asyncio.to_thread(other.util_get_current_model) == "pattern"
            assert await drawn(me) == ("photo", 2)
            assert await drawn(other) == ("pattern", 1)
            override = {"sd_model_checkpoint": "photo.safetensors [0123456789]", "sd_vae": "soft"}
            assert await drawn(other, override_settings=override) == ("photo", 1)
            assert (await locked.newest()).request.vae == "soft"
            assert await drawn(other) == ("pattern", 1)
            assert await drawn(me) == ("photo", 2)
        # What was read can be sent back, as many scripts do.
        options = await asyncio.to_thread(me.get_options)
        assert await asyncio.to_thread(me.set_options, options) is None
        assert await asyncio.to_thread(me.get_options) == options


async def test_without_a_key_it_asks_for_a_login(locked: Site) -> None:
    async with locked.client() as api:
        with pytest.raises(RuntimeError) as caught:
            await asyncio.to_thread(api.txt2img, prompt="a castle")
    assert caught.value.args[0] == 401
    async with httpx.AsyncClient(base_url=locked.url) as http:
        answer = await http.get("/sdapi/v1/options", auth=("me", "sfk_wrong"))
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")
        assert answer.json()["error"] == "unauthorized"
        assert (await http.get("/internal/ping")).json() == {}


async def test_the_lists(site: Site) -> None:
    async with site.client() as api:

        async def told(call: str) -> Any:
            return await asyncio.to_thread(getattr(api, call))

        assert await told("util_get_model_names") == ["pattern", "photo [0123456789]"]
        photo = (await told("get_sd_models"))[1]
        assert (photo["model_name"], photo["hash"]) == ("photo", "0123456789")
        assert photo["sha256"] == DIGEST
        assert [vae["model_name"] for vae in await told("get_sd_vae")] == ["soft"]
        assert "DPM++ 2M" in await told("util_get_sampler_names")
        assert {"automatic", "karras"} <= set(await told("util_get_scheduler_names"))
        assert [each["name"] for each in await told("get_upscalers")] == ["None", "large"]
        assert await told("get_latent_upscale_modes") == [{"name": "Latent"}]
        assert [lora["name"] for lora in await told("get_loras")] == ["ink"]
        assert list((await told("get_embeddings"))["loaded"]) == ["bad-hands"]
        for call in (
            *("get_hypernetworks", "get_face_restorers"),
            *("get_realesrgan_models", "get_prompt_styles"),
        ):
            assert await told(call) == []
        assert (await told("get_memory"))["ram"]["total"] > 0
        assert (await told("get_cmd_flags"))["api"] is True
        assert await told("get_scripts") == {"txt2img": ["controlnet"], "img2img": ["controlnet"]}
        assert await told("refresh_checkpoints") is None


async def test_png_info(site: Site) -> None:
    async with site.client() as api:
        async with site.house.working():
            drawn = await asyncio.to_thread(
                api.txt2img, prompt="a castle", negative_prompt="fog", seed=7, **SMALL
            )
        result = await asyncio.to_thread(api.png_info, drawn.image)
        empty = await asyncio.to_thread(api.png_info, noise(8, 8))
    assert result.info == drawn.info["infotexts"][0]
    said = result.parameters
    assert (said["Prompt"], said["Negative prompt"], said["Seed"]) == ("a castle", "fog", "7")
    assert (said["Size-1"], said["Size-2"]) == ("64", "64")
    assert json.loads(result.json["items"]["sfumato"])["prompt"] == "a castle"
    assert (empty.info, empty.parameters) == ("", {})


async def test_extra_single_image_and_a_batch(site: Site) -> None:
    image = noise(16, 8)
    async with site.client() as api, site.house.working():
        one = await asyncio.to_thread(
            api.extra_single_image, image, upscaler_1="large", upscaling_resize=2
        )
        two = await asyncio.to_thread(
            api.extra_batch_images, [image, image], upscaler_1="large", upscaling_resize=3
        )
    assert one.image.size == (32, 16)
    assert [each.size for each in two.images] == [(48, 24)] * 2


async def test_pictures_come_in_the_format_asked_for(site: Site) -> None:
    async with site.client() as api, site.house.working():
        await asyncio.to_thread(
            api.txt2img,
            prompt="a castle",
            override_settings={"samples_format": "jpg"},
            send_images=False,
            **SMALL,
        )
    request = (await site.newest()).request
    assert (request.output_format.value, request.output_quality) == ("jpeg", 80)


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
