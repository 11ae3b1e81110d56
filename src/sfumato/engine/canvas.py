"""What a picture that is brought along means to the engine: what it begins with, what it redraws,
and how the result is put back."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import NamedTuple
from weakref import WeakValueDictionary

import numpy as np
from PIL import Image, ImageFilter
from torch import Tensor

from sfumato.core.edits import Fill, Inpainting, Outpainting
from sfumato.core.errors import InvalidRequest
from sfumato.core.inputs import InputImage
from sfumato.core.ports import ImageTask
from sfumato.core.sizes import Grown, Size, finished_size, grown
from sfumato.engine.filling import fill_around
from sfumato.engine.images import fit
from sfumato.engine.pictures import open_mask, open_picture
from sfumato.engine.resampling import lanczos, to_tensor

#: Left, top, right and bottom, in pixels.
Box = tuple[int, int, int, int]

_LANCZOS, _BILINEAR = Image.Resampling.LANCZOS, Image.Resampling.BILINEAR
#: How far a blur reaches, in radii: Pillow's, three boxes, ends at two and a half.
_REACH = 2.6


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Canvas:
    """The picture that a task begins with. Nothing in it changes, so slots may share it.

    Attributes:
        picture: float32 (3, height, width) in 0 … 1, of the size that is drawn; :attr:`Fill.BLUR`
            is done.
        mask: float32 (1, height, width) in 0 … 1: 1 is redrawn, blurred at its edges. None: all is.
        fill: what stands below the mask.
        base: the finished picture as far as it is kept, RGB; None: nothing is.
        box: the part of the finished picture that is drawn.
        cover: the mask, (1, height, width) of that box.
        notes: what the caller should know.
    """

    picture: Tensor
    mask: Tensor | None
    fill: Fill
    base: Image.Image | None
    box: Box
    cover: Tensor | None
    notes: tuple[str, ...] = ()

    def paste(self, pixels: Tensor) -> Tensor:
        """What was drawn, (3, h, w) in 0 … 1 of any size, at the size of the finished picture, as
        float32 on the CPU. Where the mask is 0, the bytes are those of the picture brought along."""
        left, top, right, bottom = self.box
        drawn = lanczos(pixels, right - left, bottom - top)
        if self.base is None or self.cover is None:
            return drawn
        finished = to_tensor(self.base)
        finished[:, top:bottom, left:right].lerp_(drawn, self.cover)
        return finished


class _Layers(NamedTuple):
    """A picture of which a part is redrawn.

    Attributes:
        base, box: as of :class:`Canvas`.
        mask: of the box; what is redrawn.
        hole: of the box; what :attr:`Fill.BLUR` fills.
    """

    base: Image.Image
    box: Box
    mask: Image.Image
    hole: Image.Image


def prepare(task: ImageTask) -> Canvas | None:
    """What the task begins with; None: noise alone. The images of a job share it while one of them
    is under way.

    Raises:
        InvalidRequest: a picture can't be read, or the mask leaves nothing to draw.
    """
    request, settings, defaults = task.request, task.settings, task.model.defaults
    if request.init_image is None:
        return None
    finished = finished_size(request, (defaults.width, defaults.height))
    drawn = settings.render_width, settings.render_height
    edit = request.inpainting or request.outpainting
    key = request.init_image, edit, finished, drawn
    canvas = _IN_USE.get(key)
    if canvas is None:
        canvas = _IN_USE[key] = _prepare(task, request.init_image, edit, finished, drawn)
    return canvas


#: What slots hold, by all that it follows from.
_IN_USE: WeakValueDictionary[Hashable, Canvas] = WeakValueDictionary()


def _prepare(
    task: ImageTask,
    image: InputImage,
    edit: Inpainting | Outpainting | None,
    finished: Size,
    drawn: Size,
) -> Canvas:
    picture, transparent = open_picture(task, image, field="init_image")
    notes = ("the transparent parts of init_image were seen on white",) if transparent else ()
    if edit is None:
        begin = to_tensor(fit(picture, *finished).resize(drawn, _LANCZOS))
        return Canvas(begin, None, Fill.ORIGINAL, None, (0, 0, *finished), None, notes)
    if isinstance(edit, Inpainting):
        mask = open_mask(task, edit.mask, field="inpainting.mask", alpha=edit.alpha)
        layers = _inpainted(edit, fit(picture, *finished), fit(mask, *finished), drawn)
    else:
        layers = _outpainted(edit, picture, grown(image, edit), drawn)
    base, box, cover, hole = layers
    begin = to_tensor(base.crop(box).resize(drawn, _LANCZOS))
    if edit.fill is Fill.BLUR:
        begin = fill_around(begin, to_tensor(hole.resize(drawn, _BILINEAR)))
    shown = to_tensor(cover.resize(drawn, _BILINEAR))
    return Canvas(begin, shown, edit.fill, base, box, to_tensor(cover), notes)


def _inpainted(edit: Inpainting, base: Image.Image, mask: Image.Image, drawn: Size) -> _Layers:
    if edit.invert:
        mask = Image.eval(mask, lambda value: 255 - value)
    bounds = mask.getbbox()
    if bounds is None:
        raise InvalidRequest(
            "The mask leaves nothing to redraw.",
            field="inpainting.mask",
            accepted=f"a mask that is {_redrawn(edit)} where to redraw",
        )
    box: Box = (0, 0, *base.size)
    if edit.only_masked:
        box = crop_box(bounds, edit.padding, base.size, drawn)
    # The radius counts in pixels that are drawn; here they are as large as the crop makes them.
    mask = _blurred(mask, edit.blur * (box[2] - box[0] + box[3] - box[1]) / sum(drawn)).crop(box)
    return _Layers(base, box, mask, mask)


def _redrawn(edit: Inpainting) -> str:
    if edit.alpha:
        return "opaque" if edit.invert else "transparent"
    return "black" if edit.invert else "white"


def _outpainted(edit: Outpainting, picture: Image.Image, canvas: Grown, drawn: Size) -> _Layers:
    """What is new, and the blur's reach into the old, so that the mask is whole where the new
    begins. Below the new lie the old picture's edges, drawn out."""
    size = canvas.width, canvas.height
    right = size[0] - canvas.left - picture.width
    bottom = size[1] - canvas.top - picture.height
    edges = ((canvas.top, bottom), (canvas.left, right), (0, 0))
    base = Image.fromarray(np.pad(np.asarray(picture), edges, mode="edge"))
    new = Image.new("L", size, 255)
    new.paste(0, (canvas.left, canvas.top, size[0] - right, size[1] - bottom))
    radius = edit.blur * sum(size) / sum(drawn)
    reach = math.ceil(radius * _REACH)
    left = canvas.left + reach if canvas.left else 0
    top = canvas.top + reach if canvas.top else 0
    right = size[0] - (right + reach if right else 0)
    bottom = size[1] - (bottom + reach if bottom else 0)
    mask = Image.new("L", size, 255)
    if left < right and top < bottom:
        mask.paste(0, (left, top, right, bottom))
    mask = _blurred(mask, radius)
    mask.paste(255, mask=new)
    return _Layers(base, (0, 0, *size), mask, new)


def _blurred(mask: Image.Image, radius: float) -> Image.Image:
    return mask.filter(ImageFilter.GaussianBlur(radius)) if radius else mask


def crop_box(bounds: Box, padding: int, size: Size, drawn: Size) -> Box:
    """The part of a picture to draw: the mask's bounds and padding around them, grown to the
    proportions of what is drawn as far as the picture allows, as A1111's "only masked" does.

    Args:
        bounds: of the mask. It lies inside the result, which lies inside the picture.
        size, drawn: width and height of the picture, and of what is drawn.
    """
    left, right = max(0, bounds[0] - padding), min(size[0], bounds[2] + padding)
    top, bottom = max(0, bounds[1] - padding), min(size[1], bounds[3] + padding)
    aspect = drawn[0] / drawn[1]
    width, height = right - left, bottom - top
    if width < height * aspect:
        left, right = _widen(left, right, round(height * aspect), size[0])
    else:
        top, bottom = _widen(top, bottom, round(width / aspect), size[1])
    return left, top, right, bottom


def _widen(low: int, high: int, wanted: int, limit: int) -> tuple[int, int]:
    """The span grown to both sides alike, moved inside 0 … ``limit``."""
    length = min(max(wanted, high - low), limit)
    low = min(max(0, low - (length - (high - low)) // 2), limit - length)
    return low, low + length
