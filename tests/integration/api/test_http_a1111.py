"""``/sdapi/v1`` over TCP by ``webuiapi`` from PyPI, unmodified."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import webuiapi

from sfumato.core.edits import Fill
from tests.integration.api.a1111_site import DIGEST, SMALL, Site, opened
from tests.support.pictures import noise, rectangle


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
