"""A1111's parameters in a task, as the request that they are here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sfumato.core.edits import Fill, Inpainting
from sfumato.core.errors import InvalidRequest
from sfumato.core.inputs import InputImage
from sfumato.core.request import GenerationRequest
from sfumato.core.samplers import resolve_sampler

TEXT_TO_IMAGE = "text-to-image"
IMAGE_TO_IMAGE = "image-to-image"
#: The types of task that the contracts name.
KINDS = (TEXT_TO_IMAGE, IMAGE_TO_IMAGE, "extra-single-image", "extra-batch-image", "pipeline")
_DRAWN = (TEXT_TO_IMAGE, IMAGE_TO_IMAGE)

#: Entries of ``alwayson_scripts`` that are no scripts: they route a task, or settle its model.
_ROUTING = frozenset(
    {
        "task",
        "id_task",
        "uid",
        "sd_model_checkpoint",
        "image_link",
        "save_dir",
        "sd_vae",
        "override_settings",
    }
)
#: Parameters that would change the picture in ways that are not drawn from a task.
_NOT_DRAWN = ("enable_hr", "restore_faces", "tiling", "styles", "script_name", "resize_mode")
#: Those that hold a picture, which is not repeated in an answer.
PICTURES = ("init_images", "mask")
#: The settings that may be overridden; whatever else is must not be left out silently.
_SETTINGS = ("sd_model_checkpoint", "sd_vae", "CLIP_stop_at_last_layers")
#: A1111's ``inpainting_fill``, by its number.
_FILLS = (Fill.BLUR, Fill.ORIGINAL, Fill.NOISE, Fill.NOTHING)
#: A1111's own defaults of its image-to-image.
_STRENGTH, _MASK_BLUR = 0.75, 4


@dataclass(frozen=True, slots=True)
class Edit:
    """The picture of an image-to-image task.

    Attributes:
        picture, mask: as they were given: base64, a data URL, or an address.
        field: what named the picture, for errors.
        strength: how much of it is drawn anew.
        painting: the fields of an ``Inpainting`` beside its mask.
    """

    picture: str
    field: str
    strength: float
    mask: str | None
    painting: Mapping[str, Any]

    @property
    def pictures(self) -> dict[str, str]:
        """Every picture, by the field that named it."""
        return {self.field: self.picture, **({} if self.mask is None else {"mask": self.mask})}

    def applied(
        self, request: GenerationRequest, images: Mapping[str, InputImage]
    ) -> GenerationRequest:
        """The request with its pictures, by their fields. Raises ``InvalidRequest``."""
        return replace(
            request,
            init_image=images[self.field],
            strength=self.strength,
            inpainting=Inpainting(images["mask"], **self.painting) if "mask" in images else None,
        )


def check_kind(kind: Any) -> None:
    """Raises ``InvalidRequest`` for a type of task that is not drawn."""
    if kind in _DRAWN:
        return
    if kind in KINDS:
        raise InvalidRequest(
            f"Tasks of the type {kind} are not drawn here.", field="task", accepted=_DRAWN
        )
    raise InvalidRequest("Unsupported task type.", field="task", accepted=_DRAWN)


def check_drawn(kind: Any, parameters: Mapping[str, Any], header: Mapping[str, Any]) -> None:
    """Refuse what would be another picture than the one asked for, rather than leave it out."""
    scripts = [script if script.isidentifier() else "…" for script in header.keys() - _ROUTING]
    named = [name for name in _NOT_DRAWN if parameters.get(name)]
    if kind == TEXT_TO_IMAGE:
        named.extend(name for name in PICTURES if parameters.get(name))
        if header.get("image_link"):
            named.append("alwayson_scripts.image_link")
    named.extend(f"alwayson_scripts.{script}" for script in sorted(scripts))
    settings = _settings(parameters, header)
    unknown = sorted(name for name in settings.keys() - set(_SETTINGS) if settings[name])
    named.extend(f"override_settings.{name[:64]}" for name in unknown)
    if named:
        raise InvalidRequest(
            f"{', '.join(named)[:200]}: not drawn here.",
            field=named[0][:80],
            accepted=f"{kind} without it",
        )


def request_of(
    parameters: Mapping[str, Any], header: Mapping[str, Any], name: str
) -> GenerationRequest:
    """The request, but for its pictures. Raises ``InvalidRequest``."""
    sampler, schedule = _sampler(parameters)
    seed = _whole(parameters, "seed")
    images = [_whole(parameters, field) for field in ("n_iter", "batch_size")]
    rounds, size = (1 if count is None else count for count in images)
    if min(rounds, size) < 1:
        raise InvalidRequest("n_iter and batch_size are at least 1.", field="batch_size")
    settings = _settings(parameters, header)
    clip_skip = _whole(settings, "CLIP_stop_at_last_layers")
    return GenerationRequest(
        prompt=parameters.get("prompt") or "",
        negative_prompt=parameters.get("negative_prompt") or "",
        model=model_of(parameters, header),
        width=_whole(parameters, "width"),
        height=_whole(parameters, "height"),
        num_inference_steps=_whole(parameters, "steps"),
        guidance_scale=_number(parameters, "cfg_scale"),
        seed=None if seed == -1 else seed,
        num_images=rounds * size,
        sampler=sampler,
        schedule=schedule,
        clip_skip=1 if clip_skip is None else clip_skip,
        vae=_vae(header.get("sd_vae") or settings.get("sd_vae")),
        metadata={"id_task": name},
    )


def edit_of(parameters: Mapping[str, Any], header: Mapping[str, Any]) -> Edit:
    """The picture that an image-to-image task begins with. Raises ``InvalidRequest``."""
    link, given = header.get("image_link"), parameters.get("init_images")
    found: list[Any] = given if isinstance(given, list) else []
    field = "init_images"
    if link:
        field, found = "alwayson_scripts.image_link", str(link).split(",")
    if len(found) != 1 or not isinstance(found[0], str) or not found[0].strip():
        raise InvalidRequest(
            f"An image-to-image task begins with one picture; {field} has {len(found)}.",
            field=field,
            accepted="one picture",
        )
    mask = parameters.get("mask") or None
    if mask is not None and not isinstance(mask, str):
        raise InvalidRequest("mask is no picture.", field="mask", accepted="a picture in base64")
    strength = _number(parameters, "denoising_strength")
    return Edit(
        picture=found[0].strip(),
        field=field,
        strength=_STRENGTH if strength is None else strength,
        mask=mask,
        painting={} if mask is None else _painting(parameters),
    )


def model_of(parameters: Mapping[str, Any], header: Mapping[str, Any]) -> str | None:
    """The checkpoint's name as the model catalogue has it: no folder, ending or hash."""
    overridden = _settings(parameters, header).get("sd_model_checkpoint")
    for title in (header.get("sd_model_checkpoint"), overridden):
        if isinstance(title, str) and title.strip():
            file = re.sub(r"\s*\[[0-9a-f]+\]$", "", title.strip()).replace("\\", "/")
            return _without_ending(file)
    return None


def _painting(parameters: Mapping[str, Any]) -> dict[str, Any]:
    fill = _whole(parameters, "inpainting_fill") or 0
    if fill not in range(len(_FILLS)):
        raise InvalidRequest(
            f"inpainting_fill is {fill}.", field="inpainting_fill", accepted="0, 1, 2 or 3"
        )
    blur = _whole(parameters, "mask_blur")
    return {
        "blur": _MASK_BLUR if blur is None else blur,
        "fill": _FILLS[fill],
        "only_masked": parameters.get("inpaint_full_res", True) not in (False, 0),
        "padding": _whole(parameters, "inpaint_full_res_padding") or 0,
        "invert": bool(_whole(parameters, "inpainting_mask_invert")),
    }


def _settings(parameters: Mapping[str, Any], header: Mapping[str, Any]) -> dict[str, Any]:
    """What is overridden, in either place; the header's goes before."""
    places = (parameters.get("override_settings"), header.get("override_settings"))
    return {
        str(name): value
        for place in places
        if isinstance(place, dict)
        for name, value in place.items()
    }


def _vae(name: Any) -> str | None:
    """``Automatic`` and ``None`` are the model's own."""
    if not isinstance(name, str) or name.strip().lower() in ("", "automatic", "none"):
        return None
    return _without_ending(name.strip())


def _without_ending(file: str) -> str:
    return re.sub(r"\.(safetensors|ckpt|pt)$", "", file.rpartition("/")[2])


def _sampler(parameters: Mapping[str, Any]) -> tuple[str | None, str | None]:
    sampler = parameters.get("sampler_name") or parameters.get("sampler_index")
    schedule = parameters.get("scheduler")
    schedule = schedule if isinstance(schedule, str) and schedule else None
    return resolve_sampler(sampler, schedule) if isinstance(sampler, str) else (None, schedule)


def _whole(parameters: Mapping[str, Any], field: str) -> int | None:
    """A whole number, also as A1111 takes it: 20.0, "20"."""
    number = _number(parameters, field)
    if number is None or isinstance(number, int):
        return number
    if not number.is_integer():
        raise InvalidRequest(f"{field} is no whole number.", field=field)
    return int(number)


def _number(parameters: Mapping[str, Any], field: str) -> float | None:
    value = parameters.get(field)
    if value is None:
        return None
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,20}", value.strip()):
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,20}\.\d{0,20}", value.strip()):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRequest(f"{field} is no number.", field=field)
    return value
