"""What is typed for pictures and edits becomes the request's fields, or one clear line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.cli.edits import EditFlags, checked
from sfumato.core.edits import Fill
from sfumato.core.errors import InvalidRequest
from sfumato.core.request import Determinism, GenerationRequest
from tests.support.png import png

PICTURE = png(64, 48)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "in.png").write_bytes(PICTURE)
    (tmp_path / "mask.png").write_bytes(png(64, 48, value=255))
    (tmp_path / "a:b.png").write_bytes(PICTURE)
    (tmp_path / "notes.txt").write_text("no picture")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_everything_together() -> None:
    flags = EditFlags(
        init_image="in.png",
        strength=0.5,
        mask="mask.png",
        mask_blur=0,
        mask_padding=8,
        fill=Fill.NOISE,
        only_masked=True,
        upscale="x4:3",
        variation="7:0.25",
        lora=("ink:0.8", "line", "a:b"),
        control=("depth=in.png", "canny=in.png:0.5", "pose=a:b.png:1:0.1-.9"),
        vae="fine",
        determinism=Determinism.STRICT,
    )
    options = flags.options()
    assert options["inpainting"] == {
        "mask": png(64, 48, value=255),
        "blur": 0,
        "fill": "noise",
        "only_masked": True,
        "padding": 8,
    }
    assert options["upscaling"] == {"upscaler": "x4", "scale": 3.0}
    assert options["loras"] == [
        {"name": "ink", "weight": 0.8},
        {"name": "line"},
        {"name": "a:b"},
    ]
    assert options["controls"] == [
        {"model": "depth", "image": PICTURE},
        {"model": "canny", "image": PICTURE, "strength": 0.5},
        {"model": "pose", "image": PICTURE, "strength": 1.0, "start": 0.1, "end": 0.9},
    ]
    request = GenerationRequest("a castle", **checked(options))
    assert request.init_image is not None
    assert (request.init_image.width, request.strength) == (64, 0.5)
    assert len(request.inputs()) == 2


def test_nothing_typed_asks_for_nothing() -> None:
    assert EditFlags().options() == {}
    assert GenerationRequest("a castle", **checked({})) == GenerationRequest("a castle")


def test_edges_and_a_second_pass() -> None:
    flags = EditFlags(outpaint="left=64, right=8", fill=Fill.BLUR, hires=1.5, hires_steps=9)
    assert flags.options() == {
        "outpainting": {"left": 64, "right": 8, "fill": "blur"},
        "hires": {"scale": 1.5, "num_inference_steps": 9},
    }


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ({"outpaint": "left"}, "--outpaint has 'left'"),
        ({"outpaint": "up=8"}, "left=64,right=64"),
        ({"outpaint": "left=-8"}, "--outpaint"),
        ({"variation": "7"}, "SEED:STRENGTH"),
        ({"variation": "x:0.5"}, "SEED:STRENGTH"),
        ({"lora": (":0.5",)}, "NAME:NUMBER"),
        ({"upscale": ""}, "NAME:NUMBER"),
        ({"control": ("depth",)}, "MODEL=FILE"),
        ({"mask_blur": 4}, "--mask FILE"),
        ({"only_masked": True}, "--mask FILE"),
        ({"fill": Fill.BLUR}, "--outpaint SIDES"),
        ({"hires_strength": 0.5}, "--hires SCALE"),
        ({"hires_upscaler": "x4"}, "--hires SCALE"),
        ({"init_image": "notes.txt"}, "no picture that can be read"),
        ({"init_image": "in.png", "mask": "notes.txt"}, "inpainting.mask is no picture"),
        ({"control": ("depth=notes.txt",)}, "controls.0.image is no picture"),
        ({"mask": "mask.png"}, "needs a picture to begin with"),
        ({"init_image": "in.png", "strength": 2.0}, "strength is 2.0"),
        ({"hires": 9.0}, "hires.scale"),
        ({"lora": ("ink:nan",)}, "loras.weight"),
        ({"control": ("depth=in.png:9",)}, "controls.strength"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_what_is_wrong_is_said(typed: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        GenerationRequest("a castle", **checked(replace(EditFlags(), **typed).options()))
    assert words in f"{caught.value.message} {caught.value.accepted}"


@pytest.mark.usefixtures("folder")
def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        EditFlags(init_image="gone.png").options()


@given(st.text(max_size=30), st.sampled_from(("lora", "upscale", "variation", "outpaint")))
def test_whatever_is_typed_is_read_or_refused(text: str, name: str) -> None:
    typed: dict[str, Any] = {name: (text,) if name == "lora" else text}
    try:
        checked(replace(EditFlags(), **typed).options())
    except InvalidRequest as error:
        assert error.accepted  # noqa: PT017 - either is right
