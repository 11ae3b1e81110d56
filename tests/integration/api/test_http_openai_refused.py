"""What OpenAI's dialect refuses: always in OpenAI's envelope, always naming the field."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest

from sfumato.api.body import MAX_BODY_BYTES
from tests.integration.api.serving import Api
from tests.support.png import png

PICTURE, MASK = png(64, 48), png(64, 48, value=255)
URL = f"data:image/png;base64,{base64.b64encode(PICTURE).decode()}"
MASK_URL = f"data:image/png;base64,{base64.b64encode(MASK).decode()}"


def described(answer: httpx.Response, status: int = 400) -> dict[str, Any]:
    """The error of an answer, which is of OpenAI's form."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    body = answer.json()
    assert body.keys() == {"error"}
    error: dict[str, Any] = body["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return error


async def edit(api: Api, fields: dict[str, Any], **files: bytes) -> httpx.Response:
    sent = [(name, (None, str(value))) for name, value in fields.items()]
    pictures = [(name, (f"{name}.png", data, "image/png")) for name, data in files.items()]
    return await api.http.post("/v1/images/edits", files=[*sent, *pictures])


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"prompt": None}, "prompt", "missing"),
        ({"prompt": " "}, "prompt", "prompt"),
        ({"prompt": 7}, "prompt", "must be text"),
        ({"n": 0}, "n", "from 1 to 10"),
        ({"n": 11}, "n", "from 1 to 10"),
        ({"n": "2"}, "n", "whole number"),
        ({"num_images": 11}, "n", "from 1 to 10"),
        ({"n": 2, "num_images": 2}, "n", "say the same"),
        ({"size": "large"}, "size", "512x768"),
        ({"size": "0x512"}, "size", "512x768"),
        ({"size": "500x511"}, "size", "multiple"),
        ({"size": "512x99999"}, "size", "99999"),
        ({"size": "512x512", "height": 512}, "size", "say the same"),
        ({"height": 7}, "height", "height"),
        ({"response_format": "file"}, "response_format", "b64_json"),
        ({"background": "transparent"}, "background", "transparent"),
        ({"quality": "best"}, "quality", "hd"),
        ({"style": "oil"}, "style", "vivid"),
        ({"moderation": "off"}, "moderation", "auto"),
        ({"input_fidelity": "high"}, "input_fidelity", "strength"),
        ({"output_format": "gif"}, "output_format", "webp"),
        ({"output_compression": 50}, "output_compression", "PNG is lossless"),
        (
            {"output_format": "webp", "output_compression": 101},
            *("output_compression", "from 0 to 100"),
        ),
        ({"partial_images": 2}, "partial_images", "stream"),
        ({"stream": True, "partial_images": 4}, "partial_images", "from 0 to 3"),
        ({"stream": True, "n": 2}, "n", "tell 2 pictures apart"),
        ({"stream": True, "response_format": "url"}, "response_format", "base64"),
        ({"stream": "yes"}, "stream", "true or false"),
        ({"steps": 0}, "steps", "steps is 0"),
        ({"num_inference_steps": 0}, "num_inference_steps", "num_inference_steps is 0"),
        ({"sampler": "nope"}, "sampler", "euler"),
        ({"strength": 0.5}, "init_image", "picture to begin with"),
        ({"svg": {"model": "x"}}, "svg", "no field 'svg'"),
        ({"negative_promt": "x"}, "negative_promt", "negative_prompt"),
        ({"hires": {"sacle": 2}}, "hires.sacle", "hires.scale"),
    ],
)
async def test_fields_of_a_generation(
    api: Api, fields: dict[str, Any], param: str, words: str
) -> None:
    body = {"prompt": "a castle", **fields}
    error = described(await api.http.post("/v1/images/generations", json=body))
    assert (error["param"], error["type"]) == (param, "invalid_request_error")
    assert words in error["message"]
    assert (await api.house.tracking.list()).jobs == []


async def test_bodies_that_are_no_request(api: Api) -> None:
    path, kind = "/v1/images/generations", {"Content-Type": "application/json"}
    unread = described(await api.http.post(path, content=b"{", headers=kind))
    assert unread["code"] == "invalid_json"
    described(await api.http.post(path, json=[1]))
    described(await api.http.post(path, data={"prompt": "x"}), 415)
    long = {"prompt": "x", "metadata": dict.fromkeys(map(str, range(200_000)), 0)}
    assert described(await api.http.post(path, json=long), 413)["code"] == "body_too_large"
    described(await api.http.post("/v1/images/edits", content=b"x", headers=kind))
    described(await api.http.post("/v1/images/edits", content=b"x"), 415)
    form = {"Content-Type": "multipart/form-data; boundary=b"}
    cut = await api.http.post("/v1/images/edits", content=b'--b\r\n"', headers=form)
    assert described(cut)["code"] == "invalid_multipart"


async def test_paths_and_methods_that_there_are_not(api: Api) -> None:
    assert described(await api.http.post("/v1/images/nope"), 404)["code"] == "no_such_path"
    described(await api.http.get("/v1/images/generations"), 405)


@pytest.mark.parametrize(
    ("fields", "files", "param", "words"),
    [
        ({}, {}, "image", "missing"),
        ({}, {"image": b"text"}, "image", "image is no picture"),
        ({}, {"image": PICTURE, "image[]": PICTURE}, "image", "more than one"),
        ({}, {"image": PICTURE, "mask": png(8, 8)}, "mask", "size"),
        ({}, {"image": PICTURE, "markup": b"text"}, "markup", "no field"),
        ({}, {"image": PICTURE, "markup": PICTURE}, "markup", "not text"),
        ({"prompt": ""}, {"image": PICTURE}, "prompt", "prompt"),
        ({"n": "two"}, {"image": PICTURE}, "n", "not text"),
        ({"size": "7x7"}, {"image": PICTURE}, "size", "multiple"),
        ({"strength": "2"}, {"image": PICTURE}, "strength", "to 1"),
        ({"init_image": URL}, {"image": PICTURE}, "image", "say the same"),
        (
            {"inpainting": json.dumps({"mask": MASK_URL})},
            *({"image": PICTURE, "mask": MASK}, "mask", "say the same"),
        ),
        ({"inpainting": "soft"}, {"image": PICTURE, "mask": MASK}, "inpainting", "object"),
        ({"loras[][name]": "ink"}, {"image": PICTURE}, "loras", "JSON text"),
        ({"hires[scale]": "9"}, {"image": PICTURE}, "hires.scale", "from 1 to 8"),
        ({"hires": "2", "hires[scale]": "2"}, {"image": PICTURE}, "hires", "twice"),
        ({"prompt[x]": "1"}, {"image": PICTURE}, "prompt", "prompt"),
        ({"background": "transparent"}, {"image": PICTURE}, "background", "transparent"),
    ],
)
async def test_fields_of_an_edit(
    api: Api, fields: dict[str, Any], files: dict[str, bytes], param: str, words: str
) -> None:
    told = fields if "prompt[x]" in fields else {"prompt": "a castle", **fields}
    error = described(await edit(api, told, **files))
    assert error["param"] == param
    assert words in error["message"]
    assert (await api.house.tracking.list()).jobs == []


async def test_a_form_that_says_a_field_twice_or_at_length(api: Api) -> None:
    twice = [("prompt", (None, "a")), ("prompt", (None, "b")), ("image", ("i.png", PICTURE))]
    error = described(await api.http.post("/v1/images/edits", files=twice))
    assert (error["code"], error["param"]) == ("invalid_multipart", "prompt")
    long = await edit(api, {"prompt": "x" * (MAX_BODY_BYTES + 1)}, image=PICTURE)
    assert described(long, 413)["param"] == "prompt"


async def test_variations_have_no_stream(api: Api) -> None:
    sent = {"image": PICTURE, "stream": b"true"}
    error = described(await api.http.post("/v1/images/variations", files=sent))
    assert error["param"] == "stream"


@pytest.mark.parametrize(
    "pictures",
    [
        {"images": [{"image_url": URL}], "mask": {"image_url": MASK_URL}},
        {"image": URL, "mask": MASK_URL},
    ],
)
async def test_an_edit_as_json(api: Api, pictures: dict[str, Any]) -> None:
    async with api.house.working():
        answer = await api.http.post("/v1/images/edits", json={"prompt": "a castle", **pictures})
    assert answer.status_code == 200, answer.text
    (job,) = (await api.house.tracking.list()).jobs
    assert job.request.init_image is not None
    assert job.request.inpainting is not None
    assert job.request.inpainting.alpha


@pytest.mark.parametrize(
    ("pictures", "param"),
    [
        ({"images": []}, "images"),
        ({"images": [{"image_url": URL}] * 2}, "images"),
        ({"images": [{"file_id": "file-1"}]}, "image"),
        ({"image": URL, "mask": {"file_id": "file-1"}}, "mask"),
        ({"images": [{"image_url": "https://10.0.0.1/a.png"}]}, "image"),
        ({"image": {"part": "image"}}, "image"),
    ],
)
async def test_pictures_of_json_that_are_none(
    api: Api, pictures: dict[str, Any], param: str
) -> None:
    body = {"prompt": "a castle", **pictures}
    assert described(await api.http.post("/v1/images/edits", json=body))["param"] == param


async def test_what_has_no_effect_is_taken(api: Api) -> None:
    body = {
        "prompt": "a castle",
        "quality": "standard",
        "style": "vivid",
        "moderation": "low",
        "background": "opaque",
        "user": "somebody",
        "safety_identifier": "somebody",
        "size": None,
        "n": None,
    }
    async with api.house.working():
        answer = await api.http.post("/v1/images/generations", json=body)
    assert answer.status_code == 200, answer.text
    (job,) = (await api.house.tracking.list()).jobs
    assert "somebody" not in repr(job.request)
