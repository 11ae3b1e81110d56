"""How large a picture is on its way: what the model draws, what is finished, what is delivered.

The model draws at multiples of 8, or at one of the sizes that it knows. What it drew is resampled
to the finished size, which follows from the request, and enlarged by ``request.upscaling``.
"""

from __future__ import annotations

from dataclasses import dataclass

from sfumato.core.edits import Outpainting
from sfumato.core.errors import InvalidRequest
from sfumato.core.inputs import InputImage
from sfumato.core.request import SIDE_MULTIPLE, GenerationRequest

#: Width and height in pixels.
Size = tuple[int, int]

#: A picture that is brought along is drawn at no smaller a side than this, or than the model's own:
#: eight latent cells, which Stable Diffusion's UNet halves three times.
MIN_DRAWN_SIDE = 64


@dataclass(frozen=True, slots=True)
class Grown:
    """The canvas of an outpainting, and where the old picture lies on it. In pixels."""

    width: int
    height: int
    left: int
    top: int


def grown(image: InputImage, edges: Outpainting) -> Grown:
    """The picture with what is added, rounded up to multiples of 8.

    What rounding adds goes where something is added anyway: right and below, or else left and
    above.
    """
    width = image.width + edges.left + edges.right
    height = image.height + edges.top + edges.bottom
    more_width, more_height = -width % SIDE_MULTIPLE, -height % SIDE_MULTIPLE
    return Grown(
        width + more_width,
        height + more_height,
        edges.left + (more_width if edges.left and not edges.right else 0),
        edges.top + (more_height if edges.top and not edges.bottom else 0),
    )


def drawn_size(request: GenerationRequest, native: Size, sizes: tuple[Size, ...]) -> Size:
    """The size of the model's first pass.

    Args:
        native: the model's own size.
        sizes: those that it draws well; empty: any.
    """
    if request.inpainting is not None and request.inpainting.only_masked:
        return nearest_size(sizes, *_asked(request, native))
    width, height = _before_hires(request, native)
    if request.init_image is not None:
        least = min(MIN_DRAWN_SIDE, *native)
        sides = request.width, request.height
        width, height = (
            # A side that was asked for is drawn as it was asked for.
            side if side in sides and request.outpainting is None else max(least, _eights(side))
            for side in (width, height)
        )
    return nearest_size(sizes, width, height)


def hires_size(request: GenerationRequest, drawn: Size) -> Size:
    """The size of the second pass; of the first where there is no second."""
    if request.hires is None:
        return drawn
    return _scaled(drawn, request.hires.scale)


def finished_size(request: GenerationRequest, native: Size) -> Size:
    """The size of the picture before ``request.upscaling``.

    That of the init image where only a part is drawn or nothing else is asked for. A width or a
    height alone gives the other by the init image's aspect, or else by the model's.
    """
    size = _before_hires(request, native)
    return size if request.hires is None else _scaled(size, request.hires.scale)


def delivered_size(request: GenerationRequest, native: Size) -> Size:
    """The size of the picture that the caller gets."""
    width, height = finished_size(request, native)
    scale = 1.0 if request.upscaling is None else request.upscaling.scale
    return round(width * scale), round(height * scale)


def size_notes(
    request: GenerationRequest, drawn: Size, native: Size, model: str | None
) -> list[str]:
    """What the caller should know of the sizes: what was changed, and why.

    Args:
        drawn: as :func:`drawn_size` told.
        model: the name of a model that draws at its own sizes only; None for others.
    """
    notes = []
    finished = finished_size(request, native)
    if request.outpainting is not None and (request.width or request.height):
        notes.append(
            "the canvas of an outpainting follows from the picture: "
            f"{_text(finished)}, not from width and height"
        )
    image = request.init_image
    only_masked = request.inpainting is not None and request.inpainting.only_masked
    if image is not None and not only_masked and request.outpainting is None:
        brought, size = (image.width, image.height), _before_hires(request, native)
        if _agreement(brought, size) < 0.99:
            notes.append(
                f"init_image, {_text(brought)}, is cropped to the proportions of {_text(size)}"
            )
    last = hires_size(request, drawn)
    if last != finished and not only_masked:
        why = "" if model is None else f", the nearest size {model} knows,"
        notes.append(f"drawn at {_text(last)}{why} and resampled to {_text(finished)}")
    return notes


def _agreement(one: Size, other: Size) -> float:
    """How far two aspects agree: 1, equal, to 0."""
    ratio = (one[0] * other[1]) / (one[1] * other[0])
    return min(ratio, 1 / ratio)


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def asked_size(request: GenerationRequest, native: Size) -> tuple[int | None, int | None]:
    """The width and height to ask for to get the same sizes again, whatever the model's own may
    have become; None: those of the picture that is brought along."""
    if request.outpainting is not None:
        return None, None
    only_masked = request.inpainting is not None and request.inpainting.only_masked
    if request.init_image is None or only_masked:
        return _asked(request, native)
    return request.width, request.height


def nearest_size(sizes: tuple[Size, ...], width: int, height: int) -> Size:
    """The size the model draws at for a picture of ``width`` × ``height``: by aspect, then by area."""
    if not sizes or (width, height) in sizes:
        return width, height

    def distance(size: Size) -> tuple[float, float]:
        aspect = (size[0] / size[1]) / (width / height)
        area = (size[0] * size[1]) / (width * height)
        return max(aspect, 1 / aspect), max(area, 1 / area)

    return min(sizes, key=distance)


def check_edits(request: GenerationRequest) -> None:
    """Refuse what can't be done together. Raises ``InvalidRequest``."""
    part = "inpainting" if request.inpainting is not None else "outpainting"
    if request.hires is not None and getattr(request, part) is not None:
        raise InvalidRequest(
            f"hires and {part} can't be combined: a second pass would draw over what is kept. "
            "Enlarge the result with upscaling.",
            field="hires",
            accepted=f"hires or {part}, not both",
        )


def _before_hires(request: GenerationRequest, native: Size) -> Size:
    image = request.init_image
    if image is None:
        return _asked(request, native)
    if request.outpainting is not None:
        canvas = grown(image, request.outpainting)
        return canvas.width, canvas.height
    only_masked = request.inpainting is not None and request.inpainting.only_masked
    if only_masked or (request.width is None and request.height is None):
        return image.width, image.height
    return _asked(request, (image.width, image.height))


def _asked(request: GenerationRequest, like: Size) -> Size:
    """What the request asks for; what it leaves out by the aspect of ``like``."""
    width, height = request.width, request.height
    if width is not None and height is not None:
        return width, height
    if width is not None:
        return width, _eights(width * like[1] / like[0])
    if height is not None:
        return _eights(height * like[0] / like[1]), height
    return like


def _scaled(size: Size, scale: float) -> Size:
    return _eights(size[0] * scale), _eights(size[1] * scale)


def _eights(side: float) -> int:
    return max(SIDE_MULTIPLE, int(side / SIDE_MULTIPLE + 0.5) * SIDE_MULTIPLE)
