"""What edits and other weights accept, and that they survive their plain form with their hash."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.core.edits import Fill, Hires, Inpainting, Outpainting, Upscaling, Variation
from sfumato.core.errors import InvalidRequest
from sfumato.core.extras import Control, LoraUse, Refiner
from sfumato.core.inputs import InputImage
from sfumato.core.request import Determinism, GenerationRequest, canonical_json

IMAGE = InputImage("ab" * 32, "image/png", 64, 48, 1000)
MASK = InputImage("cd" * 32, "image/webp", 64, 48, 100)


@pytest.mark.parametrize(
    ("kind", "fields", "field"),
    [
        (Inpainting, {"mask": MASK, "blur": -1}, "inpainting.blur"),
        (Inpainting, {"mask": MASK, "blur": 257}, "inpainting.blur"),
        (Inpainting, {"mask": MASK, "blur": 1.5}, "inpainting.blur"),
        (Inpainting, {"mask": MASK, "blur": True}, "inpainting.blur"),
        (Inpainting, {"mask": MASK, "padding": 513}, "inpainting.padding"),
        (Outpainting, {}, "outpainting"),
        (Outpainting, {"left": -8}, "outpainting.left"),
        (Outpainting, {"bottom": 2049}, "outpainting.bottom"),
        (Outpainting, {"top": 8, "blur": 1000}, "outpainting.blur"),
        (Hires, {"scale": 0.99}, "hires.scale"),
        (Hires, {"scale": 8.01}, "hires.scale"),
        (Hires, {"scale": math.nan}, "hires.scale"),
        (Hires, {"strength": 0}, "hires.strength"),
        (Hires, {"strength": 1.01}, "hires.strength"),
        (Hires, {"num_inference_steps": 0}, "hires.num_inference_steps"),
        (Hires, {"num_inference_steps": 151}, "hires.num_inference_steps"),
        (Upscaling, {"upscaler": "x", "scale": math.inf}, "upscaling.scale"),
        (Variation, {"seed": -1, "strength": 0.5}, "variation.seed"),
        (Variation, {"seed": 2**64, "strength": 0.5}, "variation.seed"),
        (Variation, {"seed": 1, "strength": -0.1}, "variation.strength"),
        (Variation, {"seed": 1, "strength": "0.5"}, "variation.strength"),
        (LoraUse, {"name": "x", "weight": 11}, "loras.weight"),
        (LoraUse, {"name": "x", "weight": math.nan}, "loras.weight"),
        (Control, {"model": "x", "image": IMAGE, "strength": -1}, "controls.strength"),
        (Control, {"model": "x", "image": IMAGE, "strength": 4.5}, "controls.strength"),
        (Control, {"model": "x", "image": IMAGE, "start": 1.5}, "controls.start"),
        (Control, {"model": "x", "image": IMAGE, "start": 0.5, "end": 0.5}, "controls.end"),
        (Control, {"model": "x", "image": IMAGE, "start": 0.5, "end": 0.2}, "controls.end"),
        (Refiner, {"model": "x", "switch_at": 0}, "refiner.switch_at"),
        (Refiner, {"model": "x", "switch_at": 1.5}, "refiner.switch_at"),
    ],
)
def test_a_bad_part_is_named_with_what_it_accepts(
    kind: type, fields: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        kind(**fields)
    assert caught.value.field == field
    assert caught.value.accepted


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"strength": 0.5}, "init_image"),
        ({"inpainting": Inpainting(MASK)}, "init_image"),
        ({"outpainting": Outpainting(left=8)}, "init_image"),
        (
            {
                "init_image": IMAGE,
                "inpainting": Inpainting(MASK),
                "outpainting": Outpainting(left=8),
            },
            "outpainting",
        ),
        ({"init_image": IMAGE, "strength": 0.0}, "strength"),
        ({"init_image": IMAGE, "strength": 1.5}, "strength"),
        (
            {"init_image": IMAGE, "inpainting": Inpainting(InputImage("e", "image/png", 8, 8, 1))},
            "inpainting.mask",
        ),
        ({"loras": (LoraUse("x"),) * 17}, "loras"),
        ({"controls": (Control("x", IMAGE),) * 5}, "controls"),
    ],
)
def test_parts_that_do_not_go_together(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        GenerationRequest("a castle", **fields)
    assert caught.value.field == field
    assert caught.value.accepted


def test_each_picture_is_named_once() -> None:
    request = GenerationRequest(
        "a castle",
        init_image=IMAGE,
        inpainting=Inpainting(MASK),
        controls=(Control("canny", IMAGE), Control("depth", MASK)),
    )
    assert request.inputs() == (IMAGE, MASK)
    assert GenerationRequest("a castle").inputs() == ()


fractions = st.floats(0, 1)
above_zero = st.floats(0.001, 1)
names = st.sampled_from(("one", "two"))
images = st.builds(
    InputImage,
    sha256=st.sampled_from(("ab" * 32, "cd" * 32)),
    media_type=st.sampled_from(("image/png", "image/jpeg", "image/webp")),
    width=st.just(64),
    height=st.just(48),
    size_bytes=st.integers(1, 1000),
)
inpaintings = st.builds(
    Inpainting,
    mask=images,
    blur=st.integers(0, 256),
    fill=st.sampled_from(Fill),
    only_masked=st.booleans(),
    padding=st.integers(0, 512),
    invert=st.booleans(),
    alpha=st.booleans(),
)
outpaintings = st.builds(
    Outpainting,
    left=st.integers(1, 2048),
    top=st.integers(0, 2048),
    fill=st.sampled_from(Fill),
    blur=st.integers(0, 256),
)
controls = st.builds(
    Control,
    model=names,
    image=images,
    strength=st.floats(0, 4),
    start=st.floats(0, 0.5),
    end=st.floats(0.6, 1),
)
edited = st.builds(
    GenerationRequest,
    prompt=st.just("a castle"),
    init_image=images,
    strength=st.none() | above_zero,
    inpainting=st.none() | inpaintings,
    hires=st.none()
    | st.builds(
        Hires,
        scale=st.floats(1, 8),
        strength=above_zero,
        num_inference_steps=st.none() | st.integers(1, 150),
    ),
    upscaling=st.none() | st.builds(Upscaling, upscaler=names, scale=st.floats(1, 8)),
    variation=st.none()
    | st.builds(Variation, seed=st.integers(0, 2**64 - 1), strength=fractions),
    loras=st.lists(
        st.builds(LoraUse, name=names, weight=st.floats(-10, 10)), max_size=3
    ).map(tuple),
    controls=st.lists(controls, max_size=3).map(tuple),
    vae=st.none() | names,
    refiner=st.none() | st.builds(Refiner, model=names, switch_at=above_zero),
    determinism=st.none() | st.sampled_from(Determinism),
)  # fmt: skip
continued = st.builds(
    GenerationRequest, prompt=st.just("a castle"), init_image=images, outpainting=outpaintings
)


@given(edited | continued)
def test_an_edited_request_survives_json(request: GenerationRequest) -> None:
    again = GenerationRequest.from_dict(json.loads(canonical_json(request.as_dict())))
    assert again == request
    assert again.canonical_hash() == request.canonical_hash()
    assert hash(again.inputs()) == hash(request.inputs())


@given(edited, edited)
def test_other_edits_have_other_hashes(one: GenerationRequest, other: GenerationRequest) -> None:
    same = canonical_json(one.as_dict()) == canonical_json(other.as_dict())
    assert (one.canonical_hash() == other.canonical_hash()) == same


def test_the_hash_of_a_plain_request_is_that_of_the_first_version() -> None:
    """A literal: idempotency keys in a store were kept with it."""
    request = GenerationRequest("a castle", seed=1)
    assert request.canonical_hash() == (
        "767d31a5ed8a8c2e7425436fb8158faf7f68d2e8f38d0d5ef980912d48a8b316"
    )


def test_the_hash_of_a_mask_is_that_of_before_masks_could_be_transparent() -> None:
    image = InputImage("00" * 32, "image/png", 64, 64, 100)
    request = GenerationRequest("a castle", seed=1, init_image=image, inpainting=Inpainting(image))
    assert request.canonical_hash() == (
        "32bea35d0f3462ec094cf88865a57fc449328737cb198f3cb48f13d9a6272388"
    )
