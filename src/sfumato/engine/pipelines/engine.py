"""An engine for models that diffusers' own pipelines draw."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sfumato.core.errors import EngineFailure, ModelUnusable, OutOfMemory
from sfumato.core.models import ModelInfo
from sfumato.core.pipelines import check_for_pipeline
from sfumato.core.ports import DecodedImage, ImageTask, Slot
from sfumato.core.request import Determinism
from sfumato.core.safety import Safety
from sfumato.engine.checking import Checking
from sfumato.engine.failures import failures
from sfumato.engine.families.pipeline import LoadedPipeline, load_pipeline, weights_size
from sfumato.engine.loaded import LoadedModels
from sfumato.engine.memory import free_unused
from sfumato.engine.pipelines.arguments import arguments_for, drawn_size, notes_on
from sfumato.engine.pipelines.glimpses import glimpse
from sfumato.engine.pipelines.runs import PipelineRun, callbacks
from sfumato.engine.pipelines.slots import PipelineSlot, SharedRun, advance

#: Rows of one call: larger ones gain little with models of this size.
_MOST_ROWS = {"cuda": 8}
_LEAST_ROWS = 2


class PipelineKey(NamedTuple):
    """The pictures of one job share their steps. ``alone``: the index of one that must be drawn alone."""

    job_id: str
    alone: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Loaded:
    info: ModelInfo
    pipeline: LoadedPipeline


class PipelineEngine:
    """The part of :class:`sfumato.engine.any_family.AnyEngine` for these models.

    A job's pictures are one call of the pipeline, and no other job's are in it. Its state can't be
    exported: a job that its worker gives back begins anew.

    Args:
        others: the models of other families, whose budget these share.
    """

    def __init__(self, others: LoadedModels, checking: Checking) -> None:
        self._placement = others.placement
        self._budget = others.budget
        self._others = others
        self._checking = checking
        self._models: dict[str, _Loaded] = {}

    def names(self) -> list[str]:
        return list(self._models)

    def load(self, model: ModelInfo, in_use: Collection[str]) -> None:
        """Raises ``ModelUnusable``; ``OutOfMemory`` when those in use leave no room."""
        known = self._models.get(model.name)
        if known is not None and known.info.path == model.path:
            self._models[model.name] = self._models.pop(model.name)
            return
        with failures(f"load the model {model.name!r}", ModelUnusable):
            size = weights_size(Path(model.path), self._placement)
            while not self._budget.fits(size) and self._others.evict(in_use):
                pass
            if in_use and not self._budget.fits(size):
                raise OutOfMemory(f"There is no room for {model.name!r} beside the models in use.")
            pipeline = load_pipeline(Path(model.path), self._placement)
        self._let_go(model.name)
        self._models[model.name] = _Loaded(model, pipeline)
        self._budget.used += pipeline.size

    def evict(self, in_use: Collection[str]) -> bool:
        """Let go of the least recently used model that is not in use; whether there was one."""
        name = next((name for name in self._models if name not in in_use), None)
        if name is None:
            return False
        self._let_go(name)
        free_unused()
        return True

    def _let_go(self, name: str) -> None:
        if name in self._models:
            self._budget.used -= self._models.pop(name).pipeline.size

    def admit(self, task: ImageTask) -> PipelineSlot:
        check_for_pipeline(task.request, task.model.name)
        pipeline = self._pipeline(task)
        together = pipeline.takes("num_images_per_prompt")
        exact = task.settings.determinism is Determinism.STRICT
        alone = task.index if exact or not together else None
        return PipelineSlot(
            task=task,
            batch_key=PipelineKey(task.job_id, alone),
            rows=2 if task.settings.guidance_scale > 1 else 1,
            notes=(*notes_on(pipeline, task), *self._checking.ready(task)),
        )

    def row_limit(self, batch_key: Hashable) -> int:
        del batch_key
        return _MOST_ROWS.get(self._placement.device.type, _LEAST_ROWS)

    def step(self, slots: Sequence[Slot]) -> None:
        own = [_own(slot) for slot in slots]
        if len({slot.batch_key for slot in own}) > 1:
            raise EngineFailure("The slots of one step must have one batch key.")
        if any(slot.step >= slot.steps for slot in own):
            raise EngineFailure("A slot that is done can't take another step.")
        with failures("take a step"):
            begun = [slot for slot in own if slot.shared is not None]
            fresh = [slot for slot in own if slot.shared is None]
            if fresh:
                shared = self._begin([slot.task for slot in fresh])
                try:
                    for slot in fresh:
                        slot.shared = shared
                    advance(fresh)
                except BaseException:
                    for slot in fresh:
                        slot.shared = None  # they may be tried again, from the start
                    raise
            advance(begun)

    def _begin(self, tasks: Sequence[ImageTask]) -> SharedRun:
        pipeline = self._pipeline(tasks[0])
        arguments = arguments_for(pipeline, tasks)
        # Each run has what changes while it goes on: the call's own settings, and the solver.
        pipe = copy.copy(pipeline.pipe)
        if hasattr(pipe, "scheduler"):
            vars(pipe)["scheduler"] = copy.deepcopy(pipe.scheduler)

        def call(stepped: Callable[..., None]) -> Any:
            return pipe(**arguments, **callbacks(pipeline.parameters, stepped))

        places = {task.index: place for place, task in enumerate(tasks)}
        return SharedRun(PipelineRun(call), places)

    def preview(self, slot: Slot) -> str:
        slot = _own(slot)
        pipeline = self._pipeline(slot.task)
        with failures("draw a preview"):
            latents = None if slot.shared is None else slot.shared.latents_of(slot.task.index)
            if slot.task.settings.safety is Safety.BLOCK:
                latents = None  # nobody may see it before it was checked
            return glimpse(pipeline, latents, drawn_size(pipeline, slot.task))

    def decode(self, slots: Sequence[Slot]) -> Iterator[DecodedImage]:
        for slot in map(_own, slots):
            if slot.shared is None or slot.step < slot.steps:
                raise EngineFailure(f"The slot has done {slot.step} of {slot.steps} steps.")
            picture = slot.shared.picture_of(slot.task.index)
            height, width = picture.shape[:2]
            pixels = (picture.clip(0, 1) * 255).round().astype("uint8").tobytes()
            model_hash = self._pipeline(slot.task).hash
            drawn = DecodedImage(slot.task, width, height, pixels, model_hash, slot.notes)
            yield from self._checking.look([drawn])

    def _pipeline(self, task: ImageTask) -> LoadedPipeline:
        loaded = self._models.get(task.model.name)
        if loaded is None:
            raise EngineFailure(f"The model {task.model.name!r} is not loaded.")
        return loaded.pipeline


def _own(slot: Slot) -> PipelineSlot:
    if not isinstance(slot, PipelineSlot):
        raise EngineFailure(f"{type(slot).__name__} is not a slot of a pipeline.")
    return slot
