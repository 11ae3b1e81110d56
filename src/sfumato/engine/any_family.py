"""The engine of a worker: one for the families with step-level batching, one for pipelines."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Sequence
from typing import TYPE_CHECKING

from sfumato.core.errors import EngineFailure
from sfumato.core.models import ModelInfo
from sfumato.core.pipelines import PIPELINE_FAMILY
from sfumato.core.ports import DecodedImage, EncodedImage, ImageTask, Slot
from sfumato.engine.engine import DiffusionEngine
from sfumato.engine.slots import DiffusionSlot
from sfumato.engine.stages import BatchKey

if TYPE_CHECKING:
    from sfumato.engine.pipelines.engine import PipelineEngine


class AnyEngine:
    """Implements :class:`sfumato.core.ports.ImageEngine`.

    What pipelines need is imported with the first of them: it takes seconds that a worker without
    any need not wait. All weights share one budget.
    """

    def __init__(self, diffusion: DiffusionEngine) -> None:
        self._diffusion = diffusion
        self._opened: PipelineEngine | None = None

    @property
    def _pipelines(self) -> PipelineEngine:
        if self._opened is None:
            from sfumato.engine.pipelines.engine import PipelineEngine  # noqa: PLC0415 - see above

            models = self._diffusion.models
            self._opened = PipelineEngine(models, self._diffusion.checking)
            models.evict_first = self._opened.evict
        return self._opened

    def load(self, model: ModelInfo, *, in_use: Collection[str] = ()) -> None:
        if model.family == PIPELINE_FAMILY:
            self._diffusion.forget_batch()
            self._pipelines.load(model, in_use)
        else:
            self._diffusion.load(model, in_use=in_use)

    def loaded(self) -> list[str]:
        theirs = [] if self._opened is None else self._opened.names()
        return [*self._diffusion.loaded(), *theirs]

    def make_room(self, *, in_use: Collection[str] = ()) -> bool:
        return self._diffusion.make_room(in_use=in_use)

    def prepare(self, tasks: Sequence[ImageTask]) -> None:
        """A pipeline reads its prompts itself."""
        own = [task for task in tasks if task.model.family != PIPELINE_FAMILY]
        self._diffusion.prepare(own)

    def admit(self, task: ImageTask) -> Slot:
        if task.model.family == PIPELINE_FAMILY:
            return self._pipelines.admit(task)
        return self._diffusion.admit(task)

    def row_limit(self, batch_key: Hashable) -> int:
        if isinstance(batch_key, BatchKey):
            return self._diffusion.row_limit(batch_key)
        return self._pipelines.row_limit(batch_key)

    def step(self, slots: Sequence[Slot]) -> None:
        if all(isinstance(slot, DiffusionSlot) for slot in slots):
            self._diffusion.step(slots)
        else:
            self._pipelines.step(slots)

    def preview(self, slot: Slot) -> str:
        if isinstance(slot, DiffusionSlot):
            return self._diffusion.preview(slot)
        return self._pipelines.preview(slot)

    def decode(self, slots: Sequence[Slot]) -> Iterator[DecodedImage]:
        if all(isinstance(slot, DiffusionSlot) for slot in slots):
            return self._diffusion.decode(slots)
        return self._pipelines.decode(slots)

    def encode(self, image: DecodedImage) -> EncodedImage:
        return self._diffusion.encode(image)

    def export(self, slot: Slot) -> bytes:
        if isinstance(slot, DiffusionSlot):
            return self._diffusion.export(slot)
        raise EngineFailure("A pipeline keeps its state to itself; its picture begins anew.")

    def resume(self, task: ImageTask, blob: bytes) -> Slot:
        if task.model.family == PIPELINE_FAMILY:
            raise EngineFailure("A picture of a pipeline can't be resumed.")
        return self._diffusion.resume(task, blob)
