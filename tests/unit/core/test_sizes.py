from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.core.edits import Hires, Inpainting, Outpainting, Upscaling
from sfumato.core.errors import InvalidRequest
from sfumato.core.inputs import InputImage
from sfumato.core.models import ModelDefaults, ModelInfo, ModelLayout, notes_for, settle
from sfumato.core.ports import ImageTask
from sfumato.core.recipe import Recipe
from sfumato.core.request import GenerationRequest
from sfumato.core.sizes import finished_size, grown

NATIVE = ModelDefaults(512, 768)
SIZES = ((128, 128), (128, 192), (192, 128))


def model(*sizes: tuple[int, int]) -> ModelInfo:
    return ModelInfo("tiny", "sd1", ModelLayout.CHECKPOINT, "/x", defaults=NATIVE, sizes=sizes)


def image(width: int, height: int) -> InputImage:
    return InputImage("a" * 64, "image/png", width, height, 100)


def sizes(request: GenerationRequest, *known: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """Drawn, delivered."""
    settings = settle(request, model(*known), random_seed=0)
    return (settings.render_width, settings.render_height), (settings.width, settings.height)


def notes(request: GenerationRequest, *known: tuple[int, int]) -> tuple[str, ...]:
    return notes_for(request, settle(request, model(*known), random_seed=0), model(*known))


asked_sides = st.none() | st.integers(1, 128).map(lambda side: side * 8)
images = st.builds(image, st.integers(1, 2000), st.integers(1, 2000))
edges = st.integers(0, 300)
scales = st.floats(1, 8)


@st.composite
def requests(draw: st.DrawFn) -> GenerationRequest:
    """Of every kind, all at once where that goes together."""
    fields: dict[str, object] = {
        "width": draw(asked_sides),
        "height": draw(asked_sides),
        "upscaling": draw(st.none() | st.builds(Upscaling, st.just("esrgan"), scales)),
    }
    kind = draw(st.sampled_from(["noise", "image", "inpainting", "outpainting"]))
    if kind != "noise":
        fields["init_image"] = brought = draw(images)
    if kind == "inpainting":
        fields["inpainting"] = Inpainting(brought, only_masked=draw(st.booleans()))
    elif kind == "outpainting":
        sides = draw(st.tuples(edges, edges, edges, edges).filter(any))
        fields["outpainting"] = Outpainting(*sides)
    else:
        fields["hires"] = draw(st.none() | st.builds(Hires, scales))
    return GenerationRequest("x", **fields)  # type: ignore[arg-type]


@given(requests(), st.sampled_from([(), SIZES]))
def test_what_is_drawn_is_a_size_that_the_model_can_draw(
    request: GenerationRequest, known: tuple[tuple[int, int], ...]
) -> None:
    drawn, delivered = sizes(request, *known)
    assert drawn in known if known else all(side % 8 == 0 and side >= 8 for side in drawn)
    assert min(delivered) >= 1


@given(requests(), st.sampled_from([(), SIZES]))
def test_what_was_asked_for_is_delivered(
    request: GenerationRequest, known: tuple[tuple[int, int], ...]
) -> None:
    _, delivered = sizes(request, *known)
    finished = finished_size(request, (NATIVE.width, NATIVE.height))
    scale = request.upscaling.scale if request.upscaling else 1
    assert delivered == (round(finished[0] * scale), round(finished[1] * scale))
    if request.hires is not None or request.outpainting is not None:
        assert all(side % 8 == 0 for side in finished)
    elif request.inpainting is not None and request.inpainting.only_masked:
        assert finished == (request.inpainting.mask.width, request.inpainting.mask.height)
    else:
        assert request.width in {None, finished[0]}
        assert request.height in {None, finished[1]}


@given(requests(), st.sampled_from([(), SIZES]))
def test_a_recipe_asks_for_the_same_sizes_again(
    request: GenerationRequest, known: tuple[tuple[int, int], ...]
) -> None:
    settings = settle(request, model(*known), random_seed=0)
    recipe = Recipe.of(ImageTask("job", 0, request, settings, model(*known)), model_hash="")
    again = Recipe.from_json(recipe.as_json()).request()
    assert sizes(again, *known) == sizes(request, *known)


@given(images, st.tuples(edges, edges, edges, edges).filter(any))
def test_a_grown_canvas_holds_the_old_picture_and_all_that_is_added(
    old: InputImage, added: tuple[int, int, int, int]
) -> None:
    edit = Outpainting(*added)
    canvas = grown(old, edit)
    right = canvas.width - canvas.left - old.width
    bottom = canvas.height - canvas.top - old.height
    for got, wanted in (
        (canvas.left, edit.left),
        (right, edit.right),
        (canvas.top, edit.top),
        (bottom, edit.bottom),
    ):
        assert wanted <= got < wanted + 8


def test_a_picture_is_delivered_at_its_own_size() -> None:
    assert sizes(GenerationRequest("x", init_image=image(500, 333))) == ((504, 336), (500, 333))
    assert sizes(GenerationRequest("x", init_image=image(640, 480))) == ((640, 480), (640, 480))
    assert sizes(GenerationRequest("x", init_image=image(20, 640))) == ((64, 640), (20, 640))
    assert sizes(GenerationRequest("x", init_image=image(20, 20), width=32, height=32)) == (
        (32, 32),
        (32, 32),
    )


def test_one_side_gives_the_other_by_the_pictures_aspect() -> None:
    request = GenerationRequest("x", init_image=image(1000, 500), width=512)
    assert sizes(request) == ((512, 256), (512, 256))


def test_only_the_masked_part_is_drawn_at_the_size_asked_for() -> None:
    edit = Inpainting(image(4000, 3000), only_masked=True)
    request = GenerationRequest("x", init_image=image(4000, 3000), inpainting=edit)
    assert sizes(request) == ((512, 768), (4000, 3000))
    assert notes(request) == ()


def test_a_second_pass_and_an_upscaler_multiply() -> None:
    request = GenerationRequest(
        "x", width=512, height=520, hires=Hires(1.5), upscaling=Upscaling("x4", 1.5)
    )
    assert sizes(request) == ((512, 520), (1152, 1176))


def test_a_model_with_sizes_of_its_own_is_resampled_after_its_second_pass() -> None:
    request = GenerationRequest("x", width=512, height=512, hires=Hires(2))
    assert sizes(request, *SIZES) == ((128, 128), (1024, 1024))
    assert notes(request, *SIZES) == (
        "drawn at 256x256, the nearest size tiny knows, and resampled to 1024x1024",
    )


def test_the_caller_is_told_of_every_size_that_was_changed() -> None:
    old = image(500, 300)
    assert notes(GenerationRequest("x", init_image=old)) == (
        "drawn at 504x304 and resampled to 500x300",
    )
    assert notes(GenerationRequest("x", init_image=old, width=256, height=256)) == (
        "init_image, 500x300, is cropped to the proportions of 256x256",
    )
    request = GenerationRequest("x", init_image=old, outpainting=Outpainting(left=4), width=512)
    assert notes(request) == (
        "the canvas of an outpainting follows from the picture: 504x304, not from width and height",
    )


def test_a_second_pass_over_a_part_is_refused() -> None:
    old = image(64, 64)
    for edit in ({"inpainting": Inpainting(old)}, {"outpainting": Outpainting(left=8)}):
        request = GenerationRequest("x", init_image=old, hires=Hires(), **edit)  # type: ignore[arg-type]
        with pytest.raises(InvalidRequest, match=r"hires and \w+painting") as caught:
            settle(request, model(), random_seed=0)
        assert caught.value.field == "hires"


def test_strength_follows_from_what_is_redrawn() -> None:
    old = image(64, 64)
    for fields, strength in (
        ({}, None),
        ({"init_image": old}, 0.75),
        ({"init_image": old, "strength": 0.3}, 0.3),
        ({"init_image": old, "inpainting": Inpainting(old)}, 1.0),
        ({"init_image": old, "outpainting": Outpainting(top=8)}, 1.0),
        ({"init_image": old, "outpainting": Outpainting(top=8), "strength": 0.9}, 0.9),
    ):
        request = GenerationRequest("x", **fields)  # type: ignore[arg-type]
        assert settle(request, model(), random_seed=0).strength == strength
