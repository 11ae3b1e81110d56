"""What extra-single-image and extra-batch-images do to a picture, with a real engine."""

from __future__ import annotations

import base64
import io
from collections.abc import AsyncIterator, Sequence

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato.api.app import create_app
from sfumato.core.job import JobStatus
from sfumato.core.models import ModelInfo
from sfumato.engine.engine import DiffusionEngine
from tests.integration.api.serving import Api, ask, context_of
from tests.support.parts import open_house
from tests.support.pictures import file_of, noise
from tests.support.tiny_models import make_model
from tests.support.tiny_upscalers import make_rrdb, run_rrdb, write_upscaler

STATE = make_rrdb()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Sequence[ModelInfo]:
    """A tiny model and a tiny upscaler of 4x, both real."""
    folder = tmp_path_factory.mktemp("models")
    return make_model(folder, "sd1").info, write_upscaler(folder, STATE)


@pytest.fixture
async def api(models: Sequence[ModelInfo]) -> AsyncIterator[Api]:
    async with open_house(*models) as house:
        app = create_app(context_of(house))
        async with ask(app) as http, house.working(DiffusionEngine("cpu", threads=1)):
            yield Api(house, app, http)


def sent(image: Image.Image) -> str:
    return base64.b64encode(file_of(image)).decode()


def pixels_of(text: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))).astype(int)


def enlarged(image: Image.Image) -> np.ndarray:
    """What the upscaler's own formula makes of it, in 0 … 255."""
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255
    made = run_rrdb(STATE, pixels).clamp(0, 1)[0]
    return (made.permute(1, 2, 0).numpy() * 255).round().astype(int)


async def test_a_picture_is_enlarged_by_the_upscaler_and_by_nothing_else(api: Api) -> None:
    image = noise(40, 24)
    body = {"image": sent(image), "upscaler_1": "tiny", "upscaling_resize": 4}
    answer = await api.http.post("/sdapi/v1/extra-single-image", json=body)
    assert answer.status_code == 200, answer.text
    made, wanted = pixels_of(answer.json()["image"]), enlarged(image)
    assert made.shape == wanted.shape == (96, 160, 3)
    difference = np.abs(made - wanted)
    assert difference[:, 80:].max() <= 1  # rounding
    assert difference.max() <= 2  # and at most the last bit of the first pixel


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({"upscaling_resize": 1.5}, (60, 36)),
        ({"resize_mode": 1, "upscaling_resize_w": 80, "upscaling_resize_h": 48}, (80, 48)),
        (
            {
                "resize_mode": 1,
                "upscaling_resize_w": 80,
                "upscaling_resize_h": 10,
                "upscaling_crop": False,
            },
            (80, 48),
        ),
    ],
)
async def test_the_size_is_the_one_asked_for(
    api: Api, fields: dict[str, object], size: tuple[int, int]
) -> None:
    body = {"image": sent(noise(40, 24)), "upscaler_1": "tiny", **fields}
    answer = await api.http.post("/sdapi/v1/extra-single-image", json=body)
    assert pixels_of(answer.json()["image"]).shape == (*size[::-1], 3)


async def test_without_an_upscaler_the_picture_comes_back(api: Api) -> None:
    body = {"image": sent(noise(40, 24))}
    answer = await api.http.post("/sdapi/v1/extra-single-image", json=body)
    assert answer.json()["image"] == body["image"]
    assert not (await api.house.tracking.list()).jobs


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"upscaler_1": "Lanczos"}, "upscaler_1"),
        ({"upscaling_resize": 9}, "upscaling_resize"),
        ({"upscaling_resize": 0.5}, "upscaling_resize"),
        ({"gfpgan_visibility": 1}, "gfpgan_visibility"),
        (
            {"upscaler_2": "tiny", "extras_upscaler_2_visibility": 0.5},
            "extras_upscaler_2_visibility",
        ),
        ({"resize_mode": 1}, "upscaling_crop"),
        ({"resize_mode": 2}, "resize_mode"),
        ({"image": "!"}, "image"),
    ],
)
async def test_what_can_t_be_had_is_refused_by_its_name(
    api: Api, fields: dict[str, object], field: str
) -> None:
    body = {"image": sent(noise(40, 24)), "upscaler_1": "tiny", **fields}
    answer = await api.http.post("/sdapi/v1/extra-single-image", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"][0]["loc"] == ["body", field]


async def test_of_several_pictures_one_that_is_refused_takes_the_others_back(api: Api) -> None:
    small, large = sent(noise(40, 24)), sent(noise(1200, 8))
    files = [{"data": data, "name": "x"} for data in (small, large)]
    answer = await api.http.post(
        "/sdapi/v1/extra-batch-images",
        json={"imageList": files, "upscaler_1": "tiny", "upscaling_resize": 8},
    )
    assert answer.status_code == 422, answer.text
    for job in (await api.house.tracking.list()).jobs:
        ended = await api.house.finished(job)
        assert ended.status in (JobStatus.CANCELED, JobStatus.SUCCEEDED)


async def test_several_pictures_come_back_in_their_order(api: Api) -> None:
    images = [noise(16, 8, seed=1), noise(24, 8, seed=2)]
    files = [{"data": sent(image), "name": f"{n}.png"} for n, image in enumerate(images)]
    answer = await api.http.post(
        "/sdapi/v1/extra-batch-images",
        json={"imageList": files, "upscaler_1": "tiny", "upscaling_resize": 2},
    )
    assert answer.status_code == 200, answer.text
    assert [pixels_of(text).shape[1] for text in answer.json()["images"]] == [32, 48]
