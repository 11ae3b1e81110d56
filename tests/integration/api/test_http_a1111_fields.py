"""A1111's fields one by one: what becomes of each, and what is refused by which name."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from PIL import Image

from sfumato.api.app import create_app
from sfumato.core.errors import ContentBlocked, OutOfMemory
from sfumato.core.job import Job
from sfumato.core.models import ModelKind
from sfumato.engine.fake import FakeEngine
from tests.integration.api.serving import Api, ask, context_of
from tests.support.parts import MODEL, open_house
from tests.support.pictures import file_of, noise, rectangle

KINDS = {
    "canny": ModelKind.CONTROLNET,
    "soft": ModelKind.VAE,
    "large": ModelKind.UPSCALER,
}
MODELS = (
    MODEL,
    replace(MODEL, name="photo"),
    *(
        replace(MODEL, name=name, kind=kind, vocabulary=None, family="")
        for name, kind in KINDS.items()
    ),
)


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with open_house(*MODELS) as house:
        app = create_app(context_of(house))
        async with ask(app) as http:
            yield Api(house, app, http)


def base64_of(image: Image.Image) -> str:
    return base64.b64encode(file_of(image)).decode()


PICTURE = base64_of(noise(64, 64))
MASK = base64_of(rectangle(64, 64, (8, 8, 32, 32)))
SIZE = {"width": 64, "height": 64, "steps": 2}


def unit(**fields: Any) -> dict[str, Any]:
    given = {"image": PICTURE, "model": "canny", **fields}
    return {"alwayson_scripts": {"controlnet": {"args": [given]}}}


async def made(api: Api, path: str, body: dict[str, Any]) -> Job:
    """The job that a body makes."""
    async with api.house.working():
        answer = await api.http.post(f"/sdapi/v1/{path}", json={"prompt": "a", **SIZE, **body})
    assert answer.status_code == 200, answer.text
    return await api.house.tracking.get(answer.headers["X-Sfumato-Job"])


@pytest.mark.parametrize(
    ("body", "field", "value"),
    [
        ({"steps": "7"}, "num_inference_steps", 7),
        ({"seed": -1}, "seed", None),
        ({"seed": None}, "seed", None),
        ({"seed": 2**64 - 1}, "seed", 2**64 - 1),
        ({"sampler_index": "DPM++ 2M Karras"}, "sampler", "DPM++ 2M Karras"),
        ({"sampler_index": "Heun", "sampler_name": "LMS"}, "sampler", "LMS"),
        ({"batch_size": 3, "n_iter": 2}, "num_images", 6),
        ({"override_settings": {"sd_model_checkpoint": "PHOTO.safetensors"}}, "model", "photo"),
        ({"override_settings": {"sd_model_checkpoint": "sd\\photo [0123abcd]"}}, "model", "photo"),
        ({"override_settings": {"sd_vae": "soft"}}, "vae", "soft"),
        ({"override_settings": {"forge_additional_modules": []}}, "vae", None),
        ({"clip_skip": 3}, "clip_skip", 3),
        ({"s_noise": 0, "hr_additional_modules": ["Use same choices"]}, "seed", None),
        ({"override_settings": {"sd_vae": "None"}}, "vae", None),
        ({"override_settings": {"CLIP_stop_at_last_layers": 2}}, "clip_skip", 2),
        ({"override_settings": None}, "model", None),
        ({"subseed": 4}, "variation", None),
        ({"denoising_strength": 0.4}, "hires", None),
        ({"eta": 1.0, "sampler_name": "Euler a"}, "sampler", "Euler a"),
        ({"script_name": "None", "restore_faces": False, "s_noise": 1}, "seed", None),
        ({"alwayson_scripts": {"ControlNet": {"args": [{"enabled": True}]}}}, "controls", ()),
        (unit(enabled=False, module="canny", model="nowhere"), "controls", ()),
    ],
)
async def test_a_field_of_txt2img(api: Api, body: dict[str, Any], field: str, value: Any) -> None:
    assert getattr((await made(api, "txt2img", body)).request, field) == value


async def test_the_defaults_are_a1111_s_and_not_the_model_s(api: Api) -> None:
    body = {"width": None, "height": None, "steps": None}
    used = (await made(api, "txt2img", body)).settings
    assert (used.width, used.height, used.num_inference_steps) == (512, 512, 50)
    assert (used.guidance_scale, used.sampler) == (7.0, "euler")


@pytest.mark.parametrize(
    ("fields", "scale"),
    [
        ({"hr_scale": 1.5}, 1.5),
        ({"hr_resize_x": 128}, 2.0),
        ({"hr_resize_x": 192, "hr_resize_y": 192}, 3.0),
    ],
)
async def test_how_much_larger_hires_draws(api: Api, fields: dict[str, Any], scale: float) -> None:
    body = {"enable_hr": True, "hr_upscaler": "large", **fields}
    hires = (await made(api, "txt2img", body)).request.hires
    assert hires is not None
    assert (hires.scale, hires.upscaler, hires.strength) == (scale, "large", 0.75)


async def test_the_refiner(api: Api) -> None:
    body = {"refiner_checkpoint": "photo", "refiner_switch_at": 0.5}
    refiner = (await made(api, "txt2img", body)).request.refiner
    assert refiner is not None
    assert (refiner.model, refiner.switch_at) == ("photo", 0.5)


@pytest.mark.parametrize(
    "fields", [{"image": {"image": PICTURE}}, {"input_image": PICTURE, "image": None}]
)
async def test_a_unit_s_picture_comes_in_several_forms(api: Api, fields: dict[str, Any]) -> None:
    (control,) = (await made(api, "txt2img", unit(**fields))).request.controls
    assert (control.image.width, control.strength) == (64, 1.0)


async def test_a_unit_without_a_picture_follows_the_one_of_img2img(api: Api) -> None:
    body = {"init_images": [PICTURE], **unit(image=None)}
    request = (await made(api, "img2img", body)).request
    assert request.controls[0].image == request.init_image


async def test_img2img_s_defaults_redraw_around_the_mask(api: Api) -> None:
    body = {"init_images": [f"data:image/png;base64,{PICTURE}"], "mask": MASK}
    request = (await made(api, "img2img", body)).request
    assert request.strength == 0.75
    assert request.inpainting is not None
    assert (request.inpainting.blur, request.inpainting.fill.value) == (4, "blur")
    assert (request.inpainting.only_masked, request.inpainting.padding) == (True, 0)


async def test_the_pictures_come_back_where_that_was_asked_for(api: Api) -> None:
    body = {"prompt": "a", **SIZE, "init_images": [PICTURE], "include_init_images": True}
    async with api.house.working():
        answer = await api.http.post("/sdapi/v1/img2img", json=body)
    assert answer.json()["parameters"]["init_images"] == [PICTURE]


async def test_without_send_images_there_is_info_alone(api: Api) -> None:
    body = {"prompt": "a", **SIZE, "send_images": False}
    async with api.house.working():
        answer = (await api.http.post("/sdapi/v1/txt2img", json=body)).json()
    assert answer["images"] == []
    assert len(json.loads(answer["info"])["infotexts"]) == 1


UNITS = "alwayson_scripts.ControlNet"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": ["a"]}, "prompt"),
        ({"stpes": 3}, "stpes"),
        ({"steps": 0}, "steps"),
        ({"steps": "many"}, "steps"),
        ({"steps": 1.5}, "steps"),
        ({"cfg_scale": -1}, "cfg_scale"),
        ({"width": 63}, "width"),
        ({"height": -64}, "height"),
        ({"seed": -2}, "seed"),
        ({"batch_size": 9, "n_iter": 8}, "n_iter"),
        ({"sampler_name": "Restart"}, "sampler_name"),
        ({"scheduler": "Turbo"}, "scheduler"),
        ({"sampler_name": "DPM++ 2M Karras", "scheduler": "Beta"}, "scheduler"),
        ({"styles": ["cinematic"]}, "styles"),
        ({"restore_faces": True}, "restore_faces"),
        ({"tiling": True}, "tiling"),
        ({"script_name": "X/Y/Z plot"}, "script_name"),
        ({"eta": 0.5, "sampler_name": "Euler a"}, "eta"),
        ({"eta": 1, "sampler_name": "DDIM"}, "eta"),
        ({"s_churn": 1}, "s_churn"),
        ({"s_noise": 0, "sampler_name": "Euler a"}, "s_noise"),
        ({"clip_skip": 13}, "clip_skip"),
        ({"hr_additional_modules": ["x"]}, "hr_additional_modules"),
        ({"seed_resize_from_w": 512}, "seed_resize_from_w"),
        ({"subseed_strength": 2}, "subseed_strength"),
        ({"firstphase_width": 64}, "firstphase_width"),
        ({"infotext": "a castle"}, "infotext"),
        ({"refiner_checkpoint": "nowhere"}, "refiner_checkpoint"),
        ({"enable_hr": True, "hr_scale": 9}, "hr_scale"),
        ({"enable_hr": True, "hr_upscaler": "Lanczos"}, "hr_upscaler"),
        ({"enable_hr": True, "denoising_strength": 0}, "denoising_strength"),
        ({"enable_hr": True, "hr_prompt": "a tower"}, "hr_prompt"),
        ({"enable_hr": True, "hr_sampler_name": "LMS"}, "hr_sampler_name"),
        ({"enable_hr": True, "hr_resize_x": 128, "hr_resize_y": 64}, "hr_resize_y"),
        ({"hr_checkpoint_name": "photo"}, "hr_checkpoint_name"),
        ({"override_settings": {"nothing_like_it": 1}}, "override_settings.nothing_like_it"),
        (
            {"override_settings": {"eta_noise_seed_delta": 31337}},
            "override_settings.eta_noise_seed_delta",
        ),
        (
            {"override_settings": {"sd_model_checkpoint": "x"}},
            "override_settings.sd_model_checkpoint",
        ),
        ({"override_settings": {"sd_vae": "x"}}, "override_settings.sd_vae"),
        (
            {"override_settings": {"forge_additional_modules": ["x"]}},
            "override_settings.forge_additional_modules",
        ),
        ({"alwayson_scripts": {"ADetailer": {"args": []}}}, "alwayson_scripts.ADetailer"),
        ({"alwayson_scripts": {"ControlNet": {"args": {}}}}, f"{UNITS}.args"),
        (unit(module="canny"), f"{UNITS}.args.0.module"),
        (unit(model="None"), f"{UNITS}.args.0.model"),
        (unit(model="depth"), UNITS),
        (unit(image="!"), f"{UNITS}.args.0.image"),
        (unit(image=None), f"{UNITS}.args.0.image"),
        (unit(weight="much"), f"{UNITS}.args.0.weight"),
        (unit(weight=9), f"{UNITS}.weight"),
        (unit(control_mode=1), f"{UNITS}.args.0.control_mode"),
        (unit(mask=MASK), f"{UNITS}.args.0.mask"),
        (unit(wieght=1), f"{UNITS}.args.0.wieght"),
        ({**unit(resize_mode="Just Resize"), "width": 128}, f"{UNITS}.args.0.resize_mode"),
    ],
)
async def test_what_txt2img_refuses(api: Api, body: dict[str, Any], field: str) -> None:
    await refused(api.http, "txt2img", {"prompt": "a", **SIZE, **body}, field)
    assert not (await api.house.tracking.list()).jobs


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"init_images": [PICTURE, PICTURE]}, "init_images"),
        ({"init_images": ["!"]}, "init_images.0"),
        ({"mask": base64_of(rectangle(32, 64, (0, 0, 8, 8)))}, "mask"),
        ({"mask": MASK, "mask_blur": 999}, "mask_blur"),
        ({"mask": MASK, "mask_blur_x": 2}, "mask_blur_y"),
        ({"mask": MASK, "inpainting_fill": 4}, "inpainting_fill"),
        ({"mask": MASK, "inpaint_full_res_padding": -1}, "inpaint_full_res_padding"),
        ({"denoising_strength": 0}, "denoising_strength"),
        ({"resize_mode": 2, "width": 128}, "resize_mode"),
        ({"resize_mode": 0, "width": 128}, "resize_mode"),
        ({"resize_mode": 4}, "resize_mode"),
        ({"initial_noise_multiplier": 0.5}, "initial_noise_multiplier"),
        ({"enable_hr": True}, "enable_hr"),
    ],
)
async def test_what_img2img_refuses(api: Api, body: dict[str, Any], field: str) -> None:
    given = {"prompt": "a", **SIZE, "init_images": [PICTURE], **body}
    await refused(api.http, "img2img", given, field)
    assert not (await api.house.tracking.list()).jobs


async def refused(http: httpx.AsyncClient, path: str, body: dict[str, Any], field: str) -> None:
    answer = await http.post(f"/sdapi/v1/{path}", json=body)
    assert answer.status_code == 422, answer.text
    told = answer.json()
    (detail,) = told["detail"]
    assert ".".join(detail["loc"]) == f"body.{field}", answer.text
    assert detail["msg"] == told["errors"]
    assert told["error"] == detail["type"]


async def test_crop_and_resize_takes_other_proportions(api: Api) -> None:
    body = {"init_images": [PICTURE], "resize_mode": 1, "width": 128}
    assert (await made(api, "img2img", body)).settings.width == 128


@pytest.mark.parametrize("images", [None, []])
async def test_no_picture_is_a_404_as_in_a1111(api: Api, images: Any) -> None:
    body = {"prompt": "a", "init_images": images}
    answer = await api.http.post("/sdapi/v1/img2img", json=body)
    assert (answer.status_code, answer.json()["detail"]) == (404, "Init image not found")


@pytest.mark.parametrize(
    ("content", "media_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 422),
        (b"{}", "text/plain", 415),
    ],
)
async def test_what_is_no_body(api: Api, content: bytes, media_type: str, status: int) -> None:
    headers = {"Content-Type": media_type}
    answer = await api.http.post("/sdapi/v1/txt2img", content=content, headers=headers)
    assert answer.status_code == status
    assert {"error", "detail", "body", "errors"} == answer.json().keys()


async def test_there_is_no_other_path(api: Api) -> None:
    answer = await api.http.post("/sdapi/v1/train/embedding", json={})
    assert (answer.status_code, answer.json()["error"]) == (404, "no_such_path")


@pytest.mark.parametrize(
    ("error", "status"), [(OutOfMemory("No room."), 500), (ContentBlocked("Unsafe."), 422)]
)
async def test_a_job_that_fails_is_told_as_an_error(
    api: Api, error: OutOfMemory | ContentBlocked, status: int
) -> None:
    engine = FakeEngine(broken_models={"pattern": error})
    async with api.house.working(engine):
        answer = await api.http.post("/sdapi/v1/txt2img", json={"prompt": "a", **SIZE})
    assert answer.status_code == status
    assert (answer.json()["error"], answer.json()["errors"]) == (error.code, error.message)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"sd_model_checkpoint": "nowhere"}, "sd_model_checkpoint"),
        ({"sd_vae": "nowhere"}, "sd_vae"),
        ({"CLIP_stop_at_last_layers": 13}, "CLIP_stop_at_last_layers"),
        ({"samples_format": "gif"}, "samples_format"),
        ({"return_grid": True}, "return_grid"),
        ({"quicksettings": "x"}, "quicksettings"),
    ],
)
async def test_options_that_are_refused(api: Api, body: dict[str, Any], field: str) -> None:
    before = (await api.http.get("/sdapi/v1/options")).json()
    await refused(api.http, "options", body, field)
    assert (await api.http.get("/sdapi/v1/options")).json() == before


@pytest.mark.parametrize(
    "path", ["unload-checkpoint", "reload-checkpoint", "refresh-loras", "refresh-vae", "interrupt"]
)
async def test_calls_that_say_nothing(api: Api, path: str) -> None:
    answer = await api.http.post(f"/sdapi/v1/{path}")
    assert (answer.status_code, answer.json()) in ((200, {}), (200, None))


async def test_what_is_answered_is_what_the_openapi_document_says(api: Api) -> None:
    paths = (await api.http.get("/openapi.json")).json()["paths"]
    for path in ("txt2img", "img2img", "extra-single-image", "options", "png-info"):
        body = paths[f"/sdapi/v1/{path}"]["post"]["requestBody"]["content"]["application/json"]
        assert body["schema"]["properties"]
