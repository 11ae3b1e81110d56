"""What a settled request costs, and whether an operator allows that."""

from __future__ import annotations

from sfumato.core.errors import InvalidRequest
from sfumato.core.job import Settings
from sfumato.core.request import MIN_SIDE, SIDE_MULTIPLE, GenerationRequest, Limits
from sfumato.core.sizes import Size, hires_size


def check_sides(limits: Limits, *, width: int | None, height: int | None) -> None:
    """Refuse a side above ``max_side``, by name; None passes.

    Raises ``InvalidRequest``.
    """
    for name, side in (("width", width), ("height", height)):
        if side is not None and side > limits.max_side:
            raise InvalidRequest(
                f"{name} is {side}, above this server's limit of {limits.max_side}.",
                field=name,
                accepted=f"a multiple of {SIDE_MULTIPLE} from {MIN_SIDE} to {limits.max_side}",
            )


def check_cost(limits: Limits, request: GenerationRequest, settings: Settings) -> None:
    """Refuse a settled request that is larger than ``limits`` allow.

    Raises:
        InvalidRequest: on a side that is too long on any of the picture's ways, naming the field
            that makes it so and what would do; or on too many pixel-steps.
    """
    _check_drawn(limits, request, settings)
    _check_delivered(limits, request, settings)
    cost = pixel_steps(request, settings)
    if cost > limits.max_pixel_steps:
        size = f"{settings.render_width}x{settings.render_height}"
        raise InvalidRequest(
            f"{request.num_images} image(s) of {size} at {settings.num_inference_steps} steps"
            f"{_beside(request)} are {cost:,} pixel-steps, above this server's limit of "
            f"{limits.max_pixel_steps:,}. Ask for fewer images, a smaller size or fewer steps.",
            field="num_images" if request.num_images > 1 else "width",
            accepted=f"width × height × num_images × num_inference_steps ≤ {limits.max_pixel_steps}",
        )


def pixel_steps(request: GenerationRequest, settings: Settings) -> int:
    """Pixels drawn × steps over both passes, and each pixel that an upscaler delivers once: an
    ESRGAN takes about as long for one as Stable Diffusion's step. An upper bound: ``strength`` may
    leave out steps."""
    steps = settings.num_inference_steps
    cost = settings.render_width * settings.render_height * steps
    if request.hires is not None:
        width, height = hires_size(request, (settings.render_width, settings.render_height))
        cost += width * height * (request.hires.num_inference_steps or steps)
    if request.upscaling is not None:
        cost += settings.width * settings.height
    return cost * request.num_images


def _check_drawn(limits: Limits, request: GenerationRequest, settings: Settings) -> None:
    check_sides(limits, width=request.width, height=request.height)
    first = settings.render_width, settings.render_height
    longest = max(hires_size(request, first))
    if longest <= limits.max_side:
        return
    above = f"above this server's limit of {limits.max_side} for what is drawn"
    if request.hires is not None and max(first) <= limits.max_side:
        raise InvalidRequest(
            f"The second pass would have a side of {longest}, {above}.",
            field="hires.scale",
            accepted=f"at most {_floor(limits.max_side / max(first))}, or a smaller size",
        )
    if request.outpainting is not None:
        raise InvalidRequest(
            f"The canvas of the outpainting would be {_text(first)}, {above}.",
            field="outpainting",
            accepted="less to add, or a smaller picture",
        )
    if request.init_image is not None and request.width is None and request.height is None:
        width, height = _shrunk(first, limits.max_side)
        raise InvalidRequest(
            f"init_image would be drawn at {_text(first)}, {above}. Ask for width {width} and "
            f"height {height}, or draw a part of it with inpainting.only_masked.",
            field="width",
            accepted=f"a multiple of {SIDE_MULTIPLE} from {MIN_SIDE} to {limits.max_side}",
        )
    check_sides(limits, width=first[0], height=first[1])


def _check_delivered(limits: Limits, request: GenerationRequest, settings: Settings) -> None:
    size = settings.width, settings.height
    scale = 1.0 if request.upscaling is None else request.upscaling.scale
    finished = max(size) / scale
    only_masked = request.inpainting is not None and request.inpainting.only_masked
    if not only_masked and request.hires is None and request.init_image is None:
        # What is drawn smaller and resampled is no reason for a picture of any size.
        check_sides(limits, width=round(size[0] / scale), height=round(size[1] / scale))
    if max(size) <= limits.max_result_side:
        return
    above = f"above this server's limit of {limits.max_result_side}"
    if request.upscaling is not None and finished <= limits.max_result_side:
        raise InvalidRequest(
            f"Enlarged, the picture would be {_text(size)}, {above}.",
            field="upscaling.scale",
            accepted=f"at most {_floor(limits.max_result_side / finished)}, or a smaller size",
        )
    field = "init_image" if request.hires is None else "hires.scale"
    raise InvalidRequest(
        f"The picture would be {_text(size)}, {above}.",
        field=field,
        accepted=f"a result of at most {limits.max_result_side} pixels a side",
    )


def _beside(request: GenerationRequest) -> str:
    parts = [name for name in ("hires", "upscaling") if getattr(request, name) is not None]
    return f" with {' and '.join(parts)}" if parts else ""


def _shrunk(size: Size, limit: int) -> Size:
    """The largest size of these proportions that is within the limit."""
    longest = max(size)

    def side(of: int) -> int:
        return max(MIN_SIDE, of * limit // longest // SIDE_MULTIPLE * SIDE_MULTIPLE)

    return side(size[0]), side(size[1])


def _floor(scale: float) -> str:
    return f"{int(scale * 100) / 100:g}"


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
