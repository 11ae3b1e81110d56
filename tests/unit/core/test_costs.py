from __future__ import annotations

import pytest

from sfumato.core.costs import check_cost, pixel_steps
from sfumato.core.edits import Hires, Inpainting, Outpainting, Upscaling
from sfumato.core.errors import InvalidRequest
from sfumato.core.inputs import InputImage
from sfumato.core.models import ModelDefaults, ModelInfo, ModelLayout, settle
from sfumato.core.request import GenerationRequest, Limits

MODEL = ModelInfo("tiny", "sd1", ModelLayout.CHECKPOINT, "/x", defaults=ModelDefaults(512, 512, 10))
LIMITS = Limits(max_side=1024, max_pixel_steps=1024 * 1024 * 20, max_result_side=2048)


def image(width: int, height: int) -> InputImage:
    return InputImage("a" * 64, "image/png", width, height, 100)


def check(limits: Limits = LIMITS, model: ModelInfo = MODEL, **fields: object) -> None:
    request = GenerationRequest("x", **fields)  # type: ignore[arg-type]
    check_cost(limits, request, settle(request, model, random_seed=0))


def refused(limits: Limits = LIMITS, **fields: object) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        check(limits, **fields)
    return caught.value


def test_it_is_capped_over_all_four_factors_together() -> None:
    limits = Limits(max_side=1024, max_pixel_steps=512 * 512 * 20)
    check(limits, num_inference_steps=20)
    for excess in ({"num_images": 2}, {"num_inference_steps": 21}, {"width": 520}):
        refused(limits, **{"num_inference_steps": 20, **excess})


def test_a_side_above_the_limit_is_named() -> None:
    assert refused(width=64, height=1032).field == "height"
    tall = ModelInfo("tall", "sd1", ModelLayout.CHECKPOINT, "/x", defaults=ModelDefaults(8, 16))
    with pytest.raises(InvalidRequest) as caught:
        check(model=tall, width=1024)
    assert caught.value.field == "height"


def test_each_pass_and_each_enlarged_pixel_counts() -> None:
    def cost(**fields: object) -> int:
        request = GenerationRequest("x", num_images=2, **fields)  # type: ignore[arg-type]
        return pixel_steps(request, settle(request, MODEL, random_seed=0))

    first = 512 * 512 * 10
    assert cost() == 2 * first
    assert cost(hires=Hires(2)) == 2 * (first + 4 * first)
    assert cost(hires=Hires(1.5, num_inference_steps=4)) == 2 * (first + 768 * 768 * 4)
    assert cost(upscaling=Upscaling("x4", 4)) == 2 * (first + 2048 * 2048)


def test_a_second_pass_beyond_the_limit_says_which_scale_would_do() -> None:
    error = refused(hires=Hires(2.5))
    assert (error.field, error.accepted) == ("hires.scale", "at most 2, or a smaller size")
    check(hires=Hires(2, num_inference_steps=2))


def test_a_picture_beyond_the_limit_says_which_size_to_ask_for() -> None:
    error = refused(init_image=image(4000, 3000))
    assert "Ask for width 1024 and height 768" in error.message
    assert error.field == "width"
    check(init_image=image(4000, 3000), width=1024, height=768)


def test_a_canvas_beyond_the_limit_is_refused() -> None:
    assert refused(init_image=image(1000, 600), outpainting=Outpainting(left=64)).field == (
        "outpainting"
    )


def test_a_part_of_a_large_picture_may_be_redrawn() -> None:
    def part(side: int) -> dict[str, object]:
        edit = Inpainting(image(side, 500), only_masked=True)
        return {"init_image": image(side, 500), "inpainting": edit}

    check(**part(2048))
    assert refused(**part(2049)).field == "init_image"


def test_an_enlarged_picture_has_a_limit_of_its_own() -> None:
    check(upscaling=Upscaling("x4", 4))
    error = refused(upscaling=Upscaling("x4", 5))
    assert (error.field, error.accepted) == ("upscaling.scale", "at most 4, or a smaller size")
