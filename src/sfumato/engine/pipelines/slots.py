"""Slots of pictures that a pipeline draws, and the run that those of one job share."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from sfumato.core.errors import EngineFailure, NumericalError
from sfumato.core.ports import ImageTask
from sfumato.engine.pipelines.runs import PipelineRun


@dataclass(slots=True, eq=False)
class SharedRun:
    """One call for several pictures.

    Attributes:
        places: of the job's images in it, by their index.
        step: how many steps it has made.
    """

    run: PipelineRun
    places: dict[int, int]
    step: int = 0

    def latents_of(self, index: int) -> Tensor | None:
        """Of the job's image ``index``; None where the pipeline does not tell them."""
        latents, place = self.run.latents, self.places[index]
        if latents is None or latents.shape[0] != len(self.places):
            return None
        return latents[place]

    def picture_of(self, index: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        """(height, width, 3) in 0 … 1. Raises ``NumericalError``, ``EngineFailure``."""
        images = getattr(self.run.answer, "images", None)
        if images is None or len(images) != len(self.places):
            raise EngineFailure("The pipeline has answered with something else than pictures.")
        picture = np.asarray(images[self.places[index]], dtype=np.float32)
        if not np.isfinite(picture).all():
            raise NumericalError(
                "The pipeline answered with numbers that are not finite. Another seed may help."
            )
        return picture


@dataclass(slots=True, eq=False)
class PipelineSlot:
    """One picture. ``shared`` is there from its first step on."""

    task: ImageTask
    batch_key: Hashable
    rows: int
    notes: tuple[str, ...]
    step: int = 0
    shared: SharedRun | None = None

    @property
    def steps(self) -> int:
        return self.task.settings.num_inference_steps

    @property
    def cost(self) -> int:
        settings = self.task.settings
        return settings.render_width * settings.render_height * self.rows


def advance(slots: Sequence[PipelineSlot]) -> None:
    """One step of slots that have a run. One that others of it have taken alone is not made again.

    The number of steps that a pipeline makes may be another than that asked for: the last one is
    whatever is left. When it raises, the run is over, and with it all who share it.
    """
    for slot in slots:
        assert slot.shared is not None  # noqa: S101 - see above
        shared = slot.shared
        if shared.step > slot.step:
            continue
        if slot.step + 1 == slot.steps:
            shared.run.advance_to_end()
        else:
            shared.run.advance()
        shared.step += 1
    for slot in slots:
        slot.step += 1
