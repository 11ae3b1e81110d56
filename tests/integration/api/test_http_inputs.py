"""Requests that bring pictures, in each of the forms, over the native API."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from typing import Any

import httpx
import pytest

from sfumato.api import inputs
from sfumato.core.inputs import read_input
from sfumato.core.models import ModelInfo, ModelKind, ModelLayout
from tests.integration.api.serving import Api
from tests.support.answers import Answers
from tests.support.parts import MODEL
from tests.support.png import png

PICTURE, MASK = png(64, 48), png(64, 48, value=255)
DIGEST = read_input(PICTURE, field="x").sha256
BARE = base64.b64encode(PICTURE).decode()
URL = f"data:image/png;base64,{BARE}"
MASK_URL = f"data:image/png;base64,{base64.b64encode(MASK).decode()}"


BESIDE = [
    ModelInfo(name, "", ModelLayout.CHECKPOINT, f"/models/{name}", kind=kind)
    for name, kind in (
        ("depth", ModelKind.CONTROLNET),
        ("ink", ModelKind.LORA),
        ("line", ModelKind.LORA),
        ("x4", ModelKind.UPSCALER),
        ("fine", ModelKind.VAE),
        ("finisher", ModelKind.BASE),
    )
]


async def post(api: Api, **fields: Any) -> httpx.Response:
    return await api.http.post("/v1/jobs", json={"prompt": "a castle", **fields})


def form(request: Any, **files: bytes) -> dict[str, Any]:
    """Arguments of a multipart request."""
    described = request if isinstance(request, bytes) else json.dumps(request).encode()
    named = {name: (f"{name}.png", data, "image/png") for name, data in files.items()}
    return {"files": {"request": ("request", described, "application/json"), **named}}


async def inputs_of(api: Api) -> dict[str, bytes]:
    assignment = await api.house.execution().next(timeout=5)
    assert assignment is not None
    return dict(assignment.inputs)


@pytest.mark.parametrize(
    "picture",
    [
        URL,
        BARE,
        URL.replace("image/png", "image/jpeg"),
        URL.replace("data:image/png", "DATA:image/png;name=a"),
        "\n".join(BARE[n : n + 76] for n in range(0, len(BARE), 76)),
    ],
    ids=["data URL", "bare", "wrong type", "parameters", "lines"],
)
async def test_a_picture_as_text(api: Api, picture: str) -> None:
    answer = await post(api, init_image=picture)
    assert answer.status_code == 202, answer.text
    told = answer.json()["request"]["init_image"]
    assert told == {
        "sha256": DIGEST,
        "media_type": "image/png",
        "width": 64,
        "height": 48,
        "url": f"/v1/jobs/{answer.json()['id']}/inputs/{DIGEST}",
    }
    served = await api.http.get(told["url"])
    assert (served.content, served.headers["Content-Type"]) == (PICTURE, "image/png")
    assert served.headers["X-Content-Type-Options"] == "nosniff"
    known = {"If-None-Match": served.headers["ETag"]}
    assert (await api.http.get(told["url"], headers=known)).status_code == 304
    assert await inputs_of(api) == {DIGEST: PICTURE}


async def test_a_picture_of_an_earlier_job(api: Api) -> None:
    first = await api.draw(num_images=2)
    answer = await post(api, init_image={"job": first["id"], "index": 1})
    assert answer.status_code == 202, answer.text
    image = first["images"][1]
    assert answer.json()["request"]["init_image"]["sha256"] == image["sha256"]
    assert await inputs_of(api) == {image["sha256"]: (await api.http.get(image["url"])).content}


async def test_files_as_parts_of_a_form(api: Api) -> None:
    api.house.catalog.models = [MODEL, *BESIDE]
    request = {
        "prompt": "a castle",
        "init_image": {"part": "init"},
        "inpainting": {"mask": {"part": "mask"}, "blur": 0, "fill": "noise"},
        "controls": [{"model": "depth", "image": {"part": "init"}}],
    }
    answer = await api.http.post("/v1/jobs", **form(request, init=PICTURE, mask=MASK))
    assert answer.status_code == 202, answer.text
    told = answer.json()["request"]
    assert told["init_image"]["sha256"] == told["controls"][0]["image"]["sha256"] == DIGEST
    assert (told["inpainting"]["fill"], told["inpainting"]["padding"]) == ("noise", 32)
    assert (await api.http.get(told["inpainting"]["mask"]["url"])).content == MASK
    assert sorted((await inputs_of(api)).values()) == sorted((PICTURE, MASK))


async def test_everything_that_is_asked_is_shown(api: Api) -> None:
    api.house.catalog.models = [MODEL, *BESIDE]
    asked = {
        "init_image": URL,
        "strength": 0.5,
        "hires": {"scale": 1.5},
        "upscaling": {"upscaler": "x4"},
        "variation": {"seed": str(2**64 - 1), "strength": 0.25},
        "loras": [{"name": "ink", "weight": 0.5}, {"name": "line", "text_weight": 2}],
        "vae": "fine",
        "refiner": {"model": "finisher"},
        "determinism": "strict",
    }
    shown = (await post(api, **asked)).json()["request"]
    assert shown["outpainting"] is None
    assert shown["hires"] == {
        "scale": 1.5,
        "upscaler": "latent",
        "strength": 0.7,
        "num_inference_steps": None,
    }
    assert shown["upscaling"] == {"upscaler": "x4", "scale": 2.0}
    assert shown["variation"] == {"seed": 2**64 - 1, "strength": 0.25}
    assert shown["loras"] == [
        {"name": "ink", "weight": 0.5, "text_weight": None},
        {"name": "line", "weight": 1.0, "text_weight": 2.0},
    ]
    assert (shown["vae"], shown["determinism"], shown["strength"]) == ("fine", "strict", 0.5)
    assert shown["refiner"] == {"model": "finisher", "switch_at": 0.8}


async def test_what_is_added_at_the_edges_is_shown(api: Api) -> None:
    asked = {"init_image": URL, "outpainting": {"left": 64, "fill": "noise", "top": None}}
    shown = (await post(api, **asked)).json()["request"]["outpainting"]
    assert shown == {"left": 64, "right": 0, "top": 0, "bottom": 0, "blur": 8, "fill": "noise"}


async def test_a_key_with_the_same_pictures_answers_the_same_job(api: Api) -> None:
    key = {"Idempotency-Key": "k"}
    request = {"prompt": "a castle", "init_image": URL}
    first = await api.http.post("/v1/jobs", json=request, headers=key)
    described = {**request, "init_image": {"part": "p"}}
    again = await api.http.post("/v1/jobs", **form(described, p=PICTURE), headers=key)
    other = await api.http.post("/v1/jobs", **form(described, p=MASK), headers=key)
    assert first.json()["id"] == again.json()["id"]
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")


@pytest.mark.parametrize(
    ("fields", "status", "field", "words"),
    [
        ({"init_image": "https://10.0.0.1/a.png"}, 422, "init_image", "private network"),
        ({"init_image": "ftp://e.example/a.png"}, 422, "init_image", "no address"),
        ({"init_image": "file:///etc/passwd"}, 422, "init_image", "no address"),
        ({"init_image": "%%%"}, 422, "init_image", "base64"),
        ({"init_image": ""}, 422, "init_image", "base64"),
        ({"init_image": BARE[:-1]}, 422, "init_image", "base64"),
        ({"init_image": "data:image/png,abc"}, 422, "init_image", "base64"),
        ({"init_image": 7}, 422, "init_image", "no picture"),
        ({"init_image": {}}, 422, "init_image", "no picture"),
        ({"init_image": {"job": "a", "part": "b"}}, 422, "init_image", "no picture"),
        ({"init_image": {"job": 7}}, 422, "init_image", "no picture"),
        ({"init_image": {"job": "a", "index": -1}}, 422, "init_image.index", "number"),
        ({"init_image": {"job": "a", "index": True}}, 422, "init_image.index", "number"),
        ({"init_image": {"job": "nope"}}, 404, "init_image", "no job"),
        ({"init_image": {"part": "p"}}, 422, "init_image", "'p'"),
        ({"init_image": URL, "inpainting": {}}, 422, "inpainting.mask", "missing"),
        ({"init_image": URL, "inpainting": {"mask": "%"}}, 422, "inpainting.mask", "base64"),
        ({"controls": [{"model": "a", "image": 7}]}, 422, "controls.0.image", "no picture"),
        ({"controls": [{"model": "a", "image": URL}] * 7}, 422, "controls", "7 pictures"),
        ({"inpainting": {"mask": MASK_URL}}, 422, "init_image", "needs a picture"),
        ({"init_image": URL, "strength": 0}, 422, "strength", "0"),
        ({"hires": {"scael": 2}}, 422, "hires.scael", "'hires.scale'"),
        ({"loras": [{"name": "a"}, {"weight": 1}]}, 422, "loras.1.name", "missing"),
    ],
)
async def test_what_is_wrong_is_named_and_nothing_kept(
    api: Api, fields: dict[str, Any], status: int, field: str, words: str
) -> None:
    answer = await post(api, **fields)
    problem = answer.json()
    assert (answer.status_code, problem["field"]) == (status, field), answer.text
    assert words in problem["detail"]
    assert problem["accepted"]
    assert not api.house.images._objects  # type: ignore[attr-defined]  # the memory adapter's own
    assert (await api.http.get("/v1/jobs")).json()["jobs"] == []


async def test_a_picture_that_is_not_drawn_yet_says_what_to_do(api: Api) -> None:
    queued = await api.house.submit()
    answer = await post(api, init_image={"job": queued.id})
    assert (answer.status_code, answer.json()["field"]) == (404, "init_image")
    assert "queued" in answer.json()["detail"]
    assert "wait for the job" in answer.json()["accepted"]


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (form({"prompt": "a"}, extra=PICTURE), 400, "invalid_multipart"),
        (form(b"{", p=PICTURE), 400, "invalid_json"),
        (form({"prompt": "a", "widht": 8}), 422, "invalid_request"),
        ({"files": {"init": PICTURE}}, 400, "invalid_multipart"),
        (
            {"content": b"", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
            400,
            "invalid_multipart",
        ),
        ({"data": {"prompt": "a"}}, 415, "unsupported_media_type"),
    ],
    ids=["unnamed file", "bad json", "bad field", "no request", "empty", "urlencoded"],
)
async def test_a_form_that_can_not_be_read(
    api: Api, arguments: dict[str, Any], status: int, code: str
) -> None:
    answer = await api.http.post("/v1/jobs", **arguments)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


async def test_only_pictures_may_make_a_body_long(api: Api) -> None:
    big = "[" + "[],".join("" for _ in range(500_000)) + "[]]"
    answer = await api.http.post(
        "/v1/jobs",
        content=f'{{"prompt": "x", "metadata": {{"x": {big}}}}}'.encode(),
        headers={"Content-Type": "application/json"},
    )
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    # One chunk that nobody reads, behind the header: the checksum is not looked at.
    filler = struct.pack(">I4s", 4 << 20, b"juNk") + bytes((4 << 20) + 4)
    text = base64.b64encode(PICTURE[:33] + filler + PICTURE[33:]).decode()
    assert (await post(api, init_image=text)).status_code == 202
    for body in ({"json": {"prompt": "x", "init_image": "A" * inputs.MAX_JOB_BYTES}},):
        answer = await api.http.post("/v1/jobs", **body)
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("sha256", ["ab" * 32, "nope"])
async def test_a_picture_that_was_not_brought(api: Api, sha256: str) -> None:
    job = (await post(api, init_image=URL)).json()
    answer = await api.http.get(f"/v1/jobs/{job['id']}/inputs/{sha256}")
    assert answer.status_code == (404 if len(sha256) == 64 else 422)


async def test_the_documentation_is_valid_and_whole(api: Api) -> None:
    document = (await api.http.get("/openapi.json")).json()
    content = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]
    assert set(content) == {"application/json", "multipart/form-data"}
    references = [value["$ref"] for value in _nodes(document) if isinstance(value.get("$ref"), str)]
    for reference in references:
        node = document
        for name in reference.removeprefix("#/").split("/"):
            node = node[name]
    schema = content["application/json"]["schema"]["properties"]
    assert schema["inpainting"]["anyOf"][0]["properties"]["mask"]["oneOf"]


def _nodes(node: Any) -> list[dict[str, Any]]:
    if isinstance(node, list):
        return [found for item in node for found in _nodes(item)]
    if not isinstance(node, dict):
        return []
    return [node, *(found for item in node.values() for found in _nodes(item))]


async def test_a_picture_is_fetched_from_its_address(api: Api) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n"
    answers = Answers(head % len(PICTURE) + PICTURE)
    async with answers.serving() as port:
        answer = await post(api, init_image=f"http://127.0.0.1:{port}/a.png")
    assert answer.status_code == 202, answer.text
    asked = answer.json()["request"]["init_image"]
    assert asked["sha256"] == hashlib.sha256(PICTURE).hexdigest()
    served = await api.http.get(asked["url"])
    assert served.content == PICTURE
