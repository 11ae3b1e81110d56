"""Folders that are drawn with diffusers' own pipelines: FLUX, SD 3.5, Sana, Qwen-Image, Z-Image …"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sfumato.core.errors import InvalidRequest, ModelRefused
from sfumato.core.models import ModelDefaults
from sfumato.core.request import GenerationRequest

#: ``ModelInfo.family`` of such a model.
PIPELINE_FAMILY = "pipeline"
#: The only libraries whose classes a folder may name.
_LIBRARIES = ("diffusers", "transformers")
#: In the name of a pipeline's class: it needs more than a text, or answers no picture.
_NOT_FROM_TEXT = (
    *("Upscale", "Img2Img", "Inpaint", "Fill", "Edit", "Kontext", "Redux", "Control", "Pix2Pix"),
    *("Depth", "Variation", "Video", "Audio", "Music", "Prior", "3D"),
)
_SIDE = 1024


@dataclass(frozen=True, slots=True)
class _Usual:
    steps: int
    guidance: float


#: What their authors advise, by the pipeline's class.
_USUAL: Mapping[str, _Usual] = {
    "FluxPipeline": _Usual(28, 3.5),
    "StableDiffusion3Pipeline": _Usual(28, 7.0),
    "SanaPipeline": _Usual(20, 4.5),
    "SanaSprintPipeline": _Usual(2, 4.5),
    "QwenImagePipeline": _Usual(50, 4.0),
    "ZImagePipeline": _Usual(9, 0.0),
    "PixArtSigmaPipeline": _Usual(20, 4.5),
    "PixArtAlphaPipeline": _Usual(20, 4.5),
}
_OTHERS = _Usual(28, 4.0)

#: What a request may ask for that such a pipeline is not given: the fields and what they are.
_LACKS = {
    "init_image": "begin with a picture",
    "hires": "draw over what it has enlarged",
    "upscaling": "enlarge",
    "variation": "mix the noise of two seeds",
    "loras": "use LoRAs",
    "controls": "follow ControlNets",
    "vae": "use another VAE",
    "refiner": "be finished by another model",
}


def pipeline_parts(index: Mapping[str, Any]) -> dict[str, tuple[str, str] | None]:
    """The library and class of each part that ``model_index.json`` names; None for a part that the
    folder leaves out on purpose.

    Raises:
        ModelRefused: it does not draw from text alone, or names what is not of diffusers or
            transformers, which may be code of its own.
    """
    pipeline = index.get("_class_name")
    if not isinstance(pipeline, str):
        raise ModelRefused("it names no pipeline of diffusers.")
    if any(word in pipeline for word in _NOT_FROM_TEXT):
        raise ModelRefused(
            f"it is a {pipeline}, which makes something else than pictures from text alone; "
            "this engine has no code for it."
        )
    parts: dict[str, tuple[str, str] | None] = {}
    for name, value in index.items():
        if name.startswith("_") or not isinstance(value, list):
            continue
        match value:
            case [None, None]:
                parts[name] = None
            case [str(library), str(kind)] if library in _LIBRARIES:
                parts[name] = library, kind
            case _:
                raise ModelRefused(
                    f"its part {name!r} is {value!r}, and only classes of diffusers and "
                    "transformers are loaded: others are code of the folder's own."
                )
    return parts


def missing_parts(index: Mapping[str, Any], files: Collection[str]) -> list[str]:
    """The folders of parts that are named but hold nothing. Raises as :func:`pipeline_parts`."""
    folders = {path.partition("/")[0] for path in files if "/" in path}
    named = [name for name, part in pipeline_parts(index).items() if part is not None]
    return [f"{name}/" for name in named if name not in folders]


def pipeline_defaults(
    index: Mapping[str, Any], transformer: Mapping[str, Any], vae: Mapping[str, Any]
) -> ModelDefaults:
    """What a request gets that says no more than a prompt.

    Args:
        transformer, vae: the parts' ``config.json``; empty where there is none.
    """
    usual = _USUAL.get(str(index.get("_class_name")), _OTHERS)
    if index.get("_class_name") == "FluxPipeline" and not transformer.get("guidance_embeds"):
        usual = _Usual(4, 0.0)  # schnell, which was distilled to four steps
    side = _SIDE
    cells, widths = transformer.get("sample_size"), vae.get("block_out_channels")
    if isinstance(cells, int) and isinstance(widths, list):
        side = cells * 2 ** (len(widths) - 1)
    return ModelDefaults(side, side, usual.steps, usual.guidance, "euler")


def check_for_pipeline(request: GenerationRequest, model: str) -> None:
    """Refuse what only this engine's own families can do.

    Raises:
        InvalidRequest: naming the first such field.
    """
    for field, doing in _LACKS.items():
        if getattr(request, field):
            raise InvalidRequest(
                f"{model} is drawn with diffusers' own pipeline, which can't {doing} here.",
                field=field,
                accepted="nothing for this model",
            )


def rounded_up(side: int, multiple: int) -> int:
    return math.ceil(side / multiple) * multiple
