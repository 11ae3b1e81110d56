"""A request as the arguments of a pipeline's ``__call__``, by their names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sfumato.core.pipelines import rounded_up
from sfumato.core.ports import ImageTask
from sfumato.engine.families.pipeline import LoadedPipeline
from sfumato.engine.noises import noise_source

#: Guidance of models that were distilled with it has an argument of the usual name; the real one,
#: with a negative prompt, then has this.
_TRUE_GUIDANCE = "true_cfg_scale"


def drawn_size(pipeline: LoadedPipeline, task: ImageTask) -> tuple[int, int]:
    """What the pipeline draws: at least what was asked for, in multiples that it takes."""
    settings = task.settings
    return (
        rounded_up(settings.render_width, pipeline.multiple),
        rounded_up(settings.render_height, pipeline.multiple),
    )


def arguments_for(pipeline: LoadedPipeline, tasks: Sequence[ImageTask]) -> dict[str, Any]:
    """For pictures of one job, drawn together."""
    task = tasks[0]
    width, height = drawn_size(pipeline, task)
    guidance, negative = task.settings.guidance_scale, task.request.negative_prompt
    wanted: dict[str, Any] = {
        "prompt": task.request.prompt,
        "width": width,
        "height": height,
        "num_inference_steps": task.settings.num_inference_steps,
        "num_images_per_prompt": len(tasks),
        "generator": [noise_source(task.settings.image_seed(task.index)) for task in tasks],
        "output_type": "np",
    }
    if _guides_truly(pipeline):
        wanted[_TRUE_GUIDANCE] = max(1.0, guidance)
        # Without any text they leave guidance out.
        wanted["negative_prompt"] = negative or " "
    else:
        wanted["guidance_scale"] = guidance
        if negative and not pipeline.takes(_TRUE_GUIDANCE):
            wanted["negative_prompt"] = negative
    return {name: value for name, value in wanted.items() if pipeline.takes(name)}


def notes_on(pipeline: LoadedPipeline, task: ImageTask) -> tuple[str, ...]:
    """What of the request the pipeline does not take."""
    request, name = task.request, type(pipeline.pipe).__name__
    notes = []
    if request.sampler is not None or request.schedule is not None:
        solver = type(getattr(pipeline.pipe, "scheduler", None)).__name__
        notes.append(f"{name} has a solver of its own, {solver}; the sampler was not used")
    distilled = pipeline.takes(_TRUE_GUIDANCE) and not _guides_truly(pipeline)
    if request.negative_prompt and (distilled or not pipeline.takes("negative_prompt")):
        notes.append(f"{name} takes no negative prompt beside the guidance it was distilled with")
    if request.clip_skip > 1:
        notes.append(f"{name} takes no clip skip")
    guides = pipeline.takes("guidance_scale") or pipeline.takes(_TRUE_GUIDANCE)
    if request.guidance_scale is not None and not guides:
        notes.append(f"{name} takes no guidance scale")
    width, height = drawn_size(pipeline, task)
    asked = task.settings.render_width, task.settings.render_height
    if (width, height) != asked:
        notes.append(
            f"drawn at {width}x{height}, for its sides are multiples of {pipeline.multiple}"
        )
    return tuple(notes)


def _guides_truly(pipeline: LoadedPipeline) -> bool:
    """Whether the model's real guidance has an argument of its own, and the usual one means
    something that it may lack."""
    usual = pipeline.parameters.get("guidance_scale")
    return pipeline.takes(_TRUE_GUIDANCE) and (usual is None or usual.default is None)
