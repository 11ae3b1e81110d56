"""From A1111's fields to the request and its pictures."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, NamedTuple

from sfumato.api.context import ApiContext
from sfumato.api.dialects.a1111.drawing import Drawing, Img2Img, Txt2Img, check
from sfumato.api.dialects.a1111.names import name_of
from sfumato.api.dialects.a1111.options import Options
from sfumato.api.dialects.a1111.scripts import PLACE, units_of
from sfumato.api.inputs import read_picture
from sfumato.core.edits import LATENT_UPSCALER, Fill, Hires, Inpainting, Variation
from sfumato.core.errors import InvalidRequest, NotFound
from sfumato.core.extras import Control, Refiner
from sfumato.core.inputs import InputImage
from sfumato.core.models import ModelKind
from sfumato.core.request import MAX_IMAGES, GenerationRequest
from sfumato.core.samplers import resolve_sampler

#: In a job's metadata: which call of this API made it, and what its caller names it.
CALL, TASK = "sdapi", "task_id"
#: What A1111 calls our fields.
NAMES: Mapping[str, str] = {
    "num_inference_steps": "steps",
    "guidance_scale": "cfg_scale",
    "num_images": "n_iter",
    "sampler": "sampler_name",
    "schedule": "scheduler",
    "model": "override_settings.sd_model_checkpoint",
    "vae": "override_settings.sd_vae",
    "init_image": "init_images",
    "strength": "denoising_strength",
    "inpainting": "mask",
    "inpainting.mask": "mask",
    "inpainting.blur": "mask_blur",
    "inpainting.padding": "inpaint_full_res_padding",
    "hires": "enable_hr",
    "hires.scale": "hr_scale",
    "hires.upscaler": "hr_upscaler",
    "hires.strength": "denoising_strength",
    "hires.num_inference_steps": "hr_second_pass_steps",
    "variation.seed": "subseed",
    "variation.strength": "subseed_strength",
    "refiner.model": "refiner_checkpoint",
    "refiner.switch_at": "refiner_switch_at",
    "loras": "prompt",
    "controls": PLACE,
    "controls.strength": f"{PLACE}.weight",
    "controls.start": f"{PLACE}.guidance_start",
    "controls.end": f"{PLACE}.guidance_end",
}
_FILLS = (Fill.BLUR, Fill.ORIGINAL, Fill.NOISE, Fill.NOTHING)
_LATENT = "latent"
_NO_REFINER = frozenset(("", "none"))
#: A random seed has as many bits as A1111's.
_SEED_BITS = 32
#: Proportions that agree to this count as equal: stretched and cropped, they look alike.
_ALIKE = 0.99


class Translated(NamedTuple):
    """The request, the files of its pictures by their SHA-256, and the seed of the second noise."""

    request: GenerationRequest
    files: dict[str, bytes]
    subseed: int


class _Pictures:
    """Reads pictures, and keeps their files."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context
        self.files: dict[str, bytes] = {}

    async def read(self, value: Any, field: str) -> InputImage:
        context = self._context
        image, data = await read_picture(value, context.tracking, context.web, field=field)
        self.files[image.sha256] = data
        return image


async def translated(context: ApiContext, body: Drawing, options: Options) -> Translated:
    """What a body asks for.

    Raises ``InvalidRequest`` and ``NotFound``, naming A1111's field; what the core finds is of the
    core's fields, which :data:`NAMES` translates.
    """
    sampler = body.sampler_name or body.sampler_index
    canonical, _ = resolve_sampler(sampler, body.scheduler)
    check(body, canonical)
    if body.batch_size * body.n_iter > MAX_IMAGES:
        raise InvalidRequest(
            f"batch_size {body.batch_size} times n_iter {body.n_iter} is too many pictures.",
            field="n_iter",
            accepted=f"at most {MAX_IMAGES} together",
        )
    subseed = body.subseed if body.subseed >= 0 else secrets.randbits(_SEED_BITS)
    pictures = _Pictures(context)
    editing = await _editing(body, pictures) if isinstance(body, Img2Img) else {}
    request = GenerationRequest(
        prompt=body.prompt,
        negative_prompt=body.negative_prompt,
        model=options.model(context),
        vae=options.vae(context),
        width=body.width,
        height=body.height,
        num_inference_steps=body.steps,
        guidance_scale=body.cfg_scale,
        seed=None if body.seed == -1 else body.seed,
        num_images=body.batch_size * body.n_iter,
        sampler=sampler,
        schedule=body.scheduler,
        output_format=options.output_format,
        output_quality=options.output_quality,
        clip_skip=options.CLIP_stop_at_last_layers if body.clip_skip is None else body.clip_skip,
        variation=Variation(subseed, body.subseed_strength) if body.subseed_strength else None,
        hires=_hires(context, body) if isinstance(body, Txt2Img) and body.enable_hr else None,
        refiner=_refiner(context, body),
        controls=await _controls(context, body, pictures, editing.get("init_image")),
        metadata=noted(type(body).__name__.lower(), body.force_task_id),
        **editing,
    )
    return Translated(request, pictures.files, subseed)


def noted(call: str, task: str = "") -> dict[str, str]:
    """The metadata of a job of this API's."""
    return {CALL: call, TASK: task} if task else {CALL: call}


async def _editing(body: Img2Img, pictures: _Pictures) -> dict[str, Any]:
    given = body.init_images or []
    if not given:
        raise NotFound("Init image not found", field="init_images", accepted="a list of a picture")
    if len(given) > 1:
        raise InvalidRequest(
            f"init_images has {len(given)} pictures.",
            field="init_images",
            accepted="one picture; send a request for each",
        )
    image = await pictures.read(given[0], "init_images.0")
    fields: dict[str, Any] = {"init_image": image, "strength": body.denoising_strength}
    if body.mask is not None:
        mask = await pictures.read(body.mask, "mask")
        fields["inpainting"] = _inpainting(body, mask)
    only_masked = body.mask is not None and body.inpaint_full_res
    if body.resize_mode != 1 and not only_masked and not _alike(image, body):
        raise InvalidRequest(
            f"resize_mode {body.resize_mode} would change the proportions of a picture of "
            f"{image.width}x{image.height} pixels to those of {body.width}x{body.height}.",
            field="resize_mode",
            accepted="1, which crops; or width and height of the picture's proportions",
        )
    return fields


def _inpainting(body: Img2Img, mask: InputImage) -> Inpainting:
    blur = body.mask_blur
    if blur is None:
        blur = body.mask_blur_x
        if blur != body.mask_blur_y:
            raise InvalidRequest(
                f"mask_blur_x is {blur}, mask_blur_y {body.mask_blur_y}.",
                field="mask_blur_y",
                accepted="the same for both",
            )
    return Inpainting(
        mask,
        blur=blur,
        fill=_FILLS[body.inpainting_fill],
        only_masked=body.inpaint_full_res,
        padding=body.inpaint_full_res_padding,
        invert=body.inpainting_mask_invert == 1,
    )


def _hires(context: ApiContext, body: Txt2Img) -> Hires:
    upscaler = body.hr_upscaler
    if upscaler.casefold() == _LATENT:
        upscaler = LATENT_UPSCALER
    else:
        upscaler = name_of(upscaler, ModelKind.UPSCALER, context.catalog.list())
    return Hires(
        scale=_hires_scale(body),
        upscaler=upscaler,
        strength=body.denoising_strength,
        num_inference_steps=body.hr_second_pass_steps or None,
    )


def _hires_scale(body: Txt2Img) -> float:
    """A side given alone gives the other; both must have the first pass's proportions."""
    sides = ((body.hr_resize_x, body.width), (body.hr_resize_y, body.height))
    scales = [wanted / max(1, side) for wanted, side in sides if wanted]
    if not scales:
        return body.hr_scale
    if min(scales) < max(scales) * _ALIKE:
        raise InvalidRequest(
            f"hr_resize_x and hr_resize_y, {body.hr_resize_x}x{body.hr_resize_y}, have other "
            f"proportions than {body.width}x{body.height}.",
            field="hr_resize_y",
            accepted="0, or the proportions of width and height",
        )
    return scales[0]


def _refiner(context: ApiContext, body: Drawing) -> Refiner | None:
    text = body.refiner_checkpoint
    if text.casefold() in _NO_REFINER:
        return None
    name = name_of(text, ModelKind.BASE, context.catalog.list())
    return Refiner(name, body.refiner_switch_at)


async def _controls(
    context: ApiContext, body: Drawing, pictures: _Pictures, init_image: InputImage | None
) -> tuple[Control, ...]:
    controls = []
    for place, unit in units_of(body.alwayson_scripts):
        image = init_image
        if unit.picture is not None:
            image = await pictures.read(unit.picture, f"{place}.image")
        if image is None:
            raise InvalidRequest(
                f"{place}.image is missing.", field=f"{place}.image", accepted="a picture"
            )
        if not unit.crops and not _alike(image, body):
            raise InvalidRequest(
                f"{place}.image has {image.width}x{image.height} pixels, other proportions than "
                f"{body.width}x{body.height}.",
                field=f"{place}.resize_mode",
                accepted="Crop and Resize, or a picture of these proportions",
            )
        name = name_of(unit.model, ModelKind.CONTROLNET, context.catalog.list())
        end = unit.guidance_end if unit.guidance is None else unit.guidance
        controls.append(Control(name, image, unit.weight, unit.guidance_start, end))
    return tuple(controls)


def _alike(image: InputImage, body: Drawing) -> bool:
    """Whether the picture has the proportions of what is drawn."""
    ratio = (image.width * max(1, body.height)) / (image.height * max(1, body.width))
    return min(ratio, 1 / ratio) >= _ALIKE
