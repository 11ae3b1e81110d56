"""Pictures through both clients: in every form that may be given, as the service will read them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from sfumato.api.multipart import parts_of
from sfumato.client import Image, ImageInfo, InvalidRequest
from tests.integration.client.scripted import JOB_ID, PICTURE, Caller, Service, job_json

INFO = ImageInfo.model_validate(job_json()["images"][0])


def sent(service: Service) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The last request's JSON and its files."""
    last = service.requests[-1]
    content_type = last.headers["Content-Type"]
    if content_type == "application/json":
        return json.loads(last.body), {}
    parts = {
        name: bytes(part) for name, part in parts_of(bytearray(last.body), content_type).items()
    }
    return json.loads(parts.pop("request")), parts


@pytest.mark.parametrize("kind", ["path", "text", "bytes", "bytearray", "file", "image"])
async def test_a_file_goes_as_a_part_of_a_form(
    service: Service, caller: Caller, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "in.png"
    path.write_bytes(PICTURE)
    given: dict[str, object] = {
        "path": path,
        "text": str(path),
        "bytes": PICTURE,
        "bytearray": bytearray(PICTURE),
        "file": io.BytesIO(PICTURE),
        "image": Image(INFO, PICTURE),
    }
    await caller.call("submit", "a castle", init_image=given[kind], strength=0.5)
    assert sent(service) == (
        {"prompt": "a castle", "init_image": {"part": "init_image"}, "strength": 0.5},
        {"init_image": PICTURE},
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (INFO, {"job": JOB_ID, "index": 0}),
        ({"job": "a", "index": 2}, {"job": "a", "index": 2}),
        ("data:image/png;base64,AAAA", "data:image/png;base64,AAAA"),
        ("https://e.example/a.png", "https://e.example/a.png"),
    ],
)
async def test_what_needs_no_file_stays_json(
    service: Service, caller: Caller, given: object, expected: object
) -> None:
    await caller.call("submit", "a castle", init_image=given)
    assert sent(service) == ({"prompt": "a castle", "init_image": expected}, {})


async def test_masks_and_controls_have_their_own_parts(service: Service, caller: Caller) -> None:
    await caller.call(
        "submit",
        "a castle",
        init_image=b"one",
        inpainting={"mask": b"two", "blur": 8},
        controls=[{"model": "depth", "image": INFO}, {"model": "pose", "image": b"three"}],
        loras=[{"name": "ink", "weight": 0.5}],
    )
    request, files = sent(service)
    assert request["inpainting"] == {"mask": {"part": "inpainting.mask"}, "blur": 8}
    assert [control["image"] for control in request["controls"]] == [
        {"job": JOB_ID, "index": 0},
        {"part": "controls.1.image"},
    ]
    assert files == {
        "init_image": b"one",
        "inpainting.mask": b"two",
        "controls.1.image": b"three",
    }


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"init_image": 7}, "init_image"),
        ({"init_image": io.StringIO("text")}, "init_image"),
        ({"init_image": b"a", "inpainting": {"mask": [1]}}, "inpainting.mask"),
        ({"controls": [{"model": "a", "image": 1.5}]}, "controls.0.image"),
    ],
)
async def test_what_is_no_picture_is_named(
    service: Service, caller: Caller, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await caller.call("submit", "a castle", **options)
    assert caught.value.field == field
    assert caught.value.accepted
    assert service.requests == []


async def test_a_missing_file_is_the_callers_own_error(service: Service, caller: Caller) -> None:
    with pytest.raises(FileNotFoundError, match="gone"):
        await caller.call("submit", "a castle", init_image="gone.png")
    assert service.requests == []
