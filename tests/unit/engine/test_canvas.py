from __future__ import annotations

import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from sfumato.core.edits import Fill, Hires, Inpainting, Outpainting
from sfumato.core.errors import InvalidRequest
from sfumato.core.models import ModelDefaults, ModelInfo, ModelLayout
from sfumato.core.request import GenerationRequest
from sfumato.engine.canvas import Canvas, crop_box, prepare
from sfumato.engine.filling import fill_around
from sfumato.engine.images import to_bytes
from sfumato.engine.resampling import to_tensor
from tests.support.pictures import Brought, noise, rectangle

MODEL = ModelInfo("tiny", "sd1", ModelLayout.CHECKPOINT, "/x", defaults=ModelDefaults(64, 64))
BLACK = torch.zeros(3, 64, 64)


def canvas_of(
    picture: Image.Image,
    mask: Image.Image | None = None,
    *,
    model: ModelInfo = MODEL,
    outpainting: Outpainting | None = None,
    hires: Hires | None = None,
    size: tuple[int, int] | None = None,
    **edit: object,
) -> Canvas:
    brought = Brought()
    width, height = size or (None, None)
    request = GenerationRequest(
        "x",
        init_image=brought.add(picture),
        inpainting=None if mask is None else Inpainting(brought.add(mask), **edit),  # type: ignore[arg-type]
        outpainting=outpainting,
        hires=hires,
        width=width,
        height=height,
    )
    canvas = prepare(brought.task(request, model))
    assert canvas is not None
    return canvas


def mask_of(canvas: Canvas) -> Tensor:
    assert canvas.mask is not None
    return canvas.mask


def array(pixels: Tensor) -> np.ndarray:
    """As the bytes that are delivered."""
    height, width = pixels.shape[1:]
    return np.frombuffer(to_bytes(pixels), np.uint8).reshape(height, width, 3)


def test_a_request_without_a_picture_begins_with_noise() -> None:
    assert prepare(Brought().task(GenerationRequest("x"), MODEL)) is None


def test_a_picture_is_taken_as_it_is() -> None:
    picture = noise(72, 64)
    canvas = canvas_of(picture)
    assert torch.equal(canvas.picture, to_tensor(picture))
    assert canvas.mask is None
    assert np.array_equal(array(canvas.paste(canvas.picture)), np.asarray(picture))


def test_the_images_of_a_job_share_it_while_one_is_under_way() -> None:
    brought = Brought()
    request = GenerationRequest("x", init_image=brought.add(noise(64, 64, seed=9)), num_images=2)
    first, second = (prepare(brought.task(request, MODEL, index)) for index in (0, 1))
    assert first is second is not None
    other = replace(request, width=32, height=32)
    assert prepare(brought.task(other, MODEL)) is not first
    gone = weakref.ref(first)
    del first, second
    assert gone() is None


def test_a_picture_of_any_size_is_drawn_at_eights_and_comes_back_at_its_own() -> None:
    canvas = canvas_of(noise(101, 67))
    assert canvas.picture.shape == (3, 64, 104)
    assert canvas.paste(torch.rand(3, 64, 104)).shape == (3, 67, 101)


def test_a_second_pass_is_pasted_at_its_own_size() -> None:
    canvas = canvas_of(noise(64, 64), hires=Hires(2))
    drawn = torch.rand(3, 128, 128)
    assert torch.equal(canvas.paste(drawn), drawn)


@pytest.mark.parametrize("size", [(64, 64), (101, 67), (130, 90)])
@pytest.mark.parametrize("only_masked", [False, True])
@pytest.mark.parametrize("blur", [0, 4])
def test_what_the_mask_spares_keeps_its_bytes(
    size: tuple[int, int], only_masked: bool, blur: int
) -> None:
    picture = noise(*size)
    mask = rectangle(*size, (20, 20, 30, 32))
    canvas = canvas_of(picture, mask, only_masked=only_masked, blur=blur, padding=8)
    before = np.asarray(picture)
    after = array(canvas.paste(torch.zeros_like(canvas.picture)))
    assert after.shape == before.shape
    changed = (after != before).any(-1)
    assert changed[22:30, 22:28].mean() > 0.9
    # A blur ends after two and a half radii, which count in drawn pixels.
    reach = 3 * blur
    far = np.ones_like(changed)
    far[max(0, 20 - reach) : 32 + reach, max(0, 20 - reach) : 30 + reach] = False
    assert not changed[far].any()
    if not blur:
        assert (after[20:32, 20:30] == 0).all()


def test_the_mask_is_blurred_and_may_be_inverted() -> None:
    mask = rectangle(64, 64, (0, 0, 32, 64))
    sharp = mask_of(canvas_of(noise(64, 64), mask, blur=0))[0]
    assert sharp[:, :32].eq(1).all()
    assert sharp[:, 32:].eq(0).all()
    inverted = mask_of(canvas_of(noise(64, 64), mask, blur=0, invert=True))[0]
    assert torch.equal(inverted, 1 - sharp)
    row = mask_of(canvas_of(noise(64, 64), mask, blur=4))[0, 32]
    assert ((row[1:] - row[:-1]) <= 0).all()
    assert row[31] > 0.5 > row[32]
    # One deviation away a Gaussian's integral is 0.841 and 0.159.
    assert (row[27:29].mean() - 0.841).abs() < 0.02
    assert (row[35:37].mean() - 0.159).abs() < 0.02
    assert row[:20].eq(1).all()
    assert row[44:].eq(0).all()


def test_a_transparent_hole_may_be_the_mask() -> None:
    hole = rectangle(64, 64, (8, 0, 32, 64))
    mask = noise(64, 64).convert("RGBA")
    mask.putalpha(Image.eval(hole, lambda value: 255 - value))
    sharp = mask_of(canvas_of(noise(64, 64), hole, blur=0))
    assert torch.equal(mask_of(canvas_of(noise(64, 64), mask, blur=0, alpha=True)), sharp)
    inverted = mask_of(canvas_of(noise(64, 64), mask, blur=0, alpha=True, invert=True))
    assert torch.equal(inverted, 1 - sharp)
    # Without transparency there is nothing else to read but the colours.
    assert torch.equal(mask_of(canvas_of(noise(64, 64), hole, blur=0, alpha=True)), sharp)
    with pytest.raises(InvalidRequest) as caught:
        canvas_of(noise(64, 64), noise(64, 64).convert("RGBA"), alpha=True)
    assert caught.value.accepted == "a mask that is transparent where to redraw"


def test_a_mask_without_anything_to_redraw_is_refused() -> None:
    for mask, invert in (
        (Image.new("L", (64, 64), 0), False),
        (Image.new("L", (64, 64), 255), True),
    ):
        with pytest.raises(InvalidRequest, match="nothing to redraw") as caught:
            canvas_of(noise(64, 64), mask, invert=invert)
        assert caught.value.field == "inpainting.mask"


def test_only_the_masked_part_is_enlarged() -> None:
    picture = noise(128, 128)
    mask = rectangle(128, 128, (40, 48, 56, 64))
    canvas = canvas_of(picture, mask, only_masked=True, padding=8, blur=0)
    assert canvas.box == (32, 40, 64, 72)
    assert canvas.picture.shape == (3, 64, 64)
    assert mask_of(canvas)[0, 20:44, 20:44].eq(1).all()
    assert mask_of(canvas)[0, :12].eq(0).all()
    white = array(canvas.paste(torch.ones(3, 64, 64)))
    assert (white[48:64, 40:56] == 255).all()
    assert (white != np.asarray(picture)).any(-1).sum() <= 16 * 16


def test_a_model_with_sizes_of_its_own_gets_one_of_them() -> None:
    model = ModelInfo("s", "sd1", ModelLayout.CHECKPOINT, "/x", sizes=((64, 64), (64, 96)))
    picture = noise(100, 140)
    canvas = canvas_of(picture, rectangle(100, 140, (0, 0, 50, 70)), model=model, blur=0)
    assert canvas.picture.shape == (3, 96, 64)
    after = array(canvas.paste(BLACK))
    assert (after[:70, :50] == 0).all()
    assert np.array_equal(after[70:], np.asarray(picture)[70:])


def test_another_aspect_crops_picture_and_mask_alike() -> None:
    picture = Image.new("RGB", (128, 64), "white")
    picture.paste((0, 0, 0), (48, 0, 80, 64))
    mask = rectangle(128, 64, (48, 0, 80, 64))
    canvas = canvas_of(picture, mask, size=(64, 64), blur=0)
    assert torch.equal(canvas.picture[0] < 0.5, mask_of(canvas)[0] > 0.5)
    assert mask_of(canvas)[0].mean() == 0.5


def test_an_outpainting_grows_and_redraws_what_is_new() -> None:
    picture = noise(100, 64)
    canvas = canvas_of(picture, outpainting=Outpainting(left=32, bottom=10, blur=2))
    assert canvas.picture.shape == (3, 80, 136)
    mask = mask_of(canvas)[0]
    # Rounding added 4 to the left and 6 below.
    assert mask[:, :36].eq(1).all()
    assert mask[64:].eq(1).all()
    assert mask[:40, 60:].eq(0).all()
    after = array(canvas.paste(torch.zeros(3, 80, 136)))
    assert (after[:, :36] == 0).all()
    assert np.array_equal(after[:40, 60:], np.asarray(picture)[:40, 24:])


def test_an_outpainting_without_blur_keeps_every_old_pixel() -> None:
    picture = noise(64, 64)
    canvas = canvas_of(picture, outpainting=Outpainting(right=8, top=8, blur=0))
    after = array(canvas.paste(torch.zeros(3, 72, 72)))
    assert np.array_equal(after[8:, :64], np.asarray(picture))
    assert (after[:8] == 0).all()
    assert (after[:, 64:] == 0).all()


@pytest.mark.parametrize("fill", [Fill.ORIGINAL, Fill.NOISE, Fill.NOTHING])
def test_below_what_is_new_lie_the_edges(fill: Fill) -> None:
    picture = noise(64, 64)
    canvas = canvas_of(picture, outpainting=Outpainting(right=8, fill=fill))
    assert canvas.fill is fill
    edge = to_tensor(picture)[:, :, -1:]
    assert torch.equal(canvas.picture[:, :, 64:], edge.expand(-1, -1, 8))


def test_a_hole_is_filled_with_the_colours_around() -> None:
    picture = Image.new("RGB", (64, 64), (255, 0, 0))
    picture.paste((0, 0, 255), (32, 0, 64, 64))
    picture.paste((0, 255, 0), (8, 24, 56, 40))
    mask = rectangle(64, 64, (8, 24, 56, 40))
    begun = canvas_of(picture, mask, fill=Fill.BLUR, blur=0).picture
    assert begun[1].max() < 0.01
    assert begun[0, 24:40, 8:20].min() > 0.9
    assert begun[2, 24:40, 44:56].min() > 0.9
    middle = begun[:, 32, 31]
    assert 0.2 < middle[0] < 0.8
    assert torch.equal(begun[:, :24], to_tensor(picture)[:, :24])


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**16))
def test_a_fill_stays_between_the_colours_it_is_made_of(width: int, height: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    picture = torch.rand(3, height, width, generator=generator) * 0.5 + 0.25
    hole = (torch.rand(1, height, width, generator=generator) < 0.7).float()
    filled = fill_around(picture, hole)
    assert torch.equal(filled[:, hole[0] == 0], picture[:, hole[0] == 0])
    assert filled.min() >= 0.25 - 1e-5
    assert filled.max() <= 0.75 + 1e-5


def test_a_fill_without_any_colour_is_grey() -> None:
    filled = fill_around(torch.rand(3, 7, 5), torch.ones(1, 7, 5))
    assert torch.allclose(filled, torch.full_like(filled, 0.5))


sides = st.integers(1, 200)


@given(
    st.tuples(sides, sides),
    st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
    st.integers(0, 64),
    st.tuples(sides, sides),
)
def test_a_crop_holds_the_mask_and_lies_inside_the_picture(
    size: tuple[int, int],
    parts: tuple[float, float, float, float],
    padding: int,
    drawn: tuple[int, int],
) -> None:
    across = sorted(int(part * (size[0] - 1)) for part in parts[:2])
    down = sorted(int(part * (size[1] - 1)) for part in parts[2:])
    bounds = (across[0], down[0], across[1] + 1, down[1] + 1)
    left, top, right, bottom = crop_box(bounds, padding, size, drawn)
    assert 0 <= left <= bounds[0] < bounds[2] <= right <= size[0]
    assert 0 <= top <= bounds[1] < bounds[3] <= bottom <= size[1]
    width, height = right - left, bottom - top
    # Of the proportions of what is drawn, to a pixel, unless the picture ends before that.
    if width < size[0] and height < size[1]:
        aspect = drawn[0] / drawn[1]
        assert abs(width - height * aspect) <= 0.5 or abs(height - width / aspect) <= 0.5


def test_the_caller_is_told_of_what_was_transparent() -> None:
    picture = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    canvas = canvas_of(picture)
    assert canvas.notes == ("the transparent parts of init_image were seen on white",)
    assert canvas.picture.eq(1).all()
