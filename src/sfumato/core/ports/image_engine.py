"""What turns requests into pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sfumato.core.job import ImageRecord, Settings
from sfumato.core.models import ModelInfo
from sfumato.core.request import GenerationRequest


@dataclass(frozen=True, slots=True)
class ImageTask:
    """One picture of a job, for the engine: image ``index`` (from 0)."""

    job_id: str
    index: int
    request: GenerationRequest
    settings: Settings
    model: ModelInfo
    notes: tuple[str, ...] = ()


class Slot(Protocol):
    """One picture inside the running batch.

    A step is one evaluation of its network. Solvers of second order, as Heun, take about two for
    each of the ``num_inference_steps`` that the request counts.
    """

    @property
    def task(self) -> ImageTask: ...

    @property
    def batch_key(self) -> Hashable:
        """Slots of equal key may share a step."""
        ...

    @property
    def rows(self) -> int:
        """Rows of the network's batch that it takes: 2 with guidance, else 1."""
        ...

    @property
    def cost(self) -> int:
        """What one step of it takes, in compute units: pixels drawn × rows."""
        ...

    @property
    def step(self) -> int:
        """Steps done."""
        ...

    @property
    def steps(self) -> int: ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What the engine found that the caller should know."""
        ...


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """A picture as the model drew it, neither resampled nor encoded yet.

    Attributes:
        pixels: red, green and blue of 8 bits each, row by row.
        model_hash: identity of the weights that drew it.
        notes: as of its slot.
    """

    task: ImageTask
    width: int
    height: int
    pixels: bytes
    model_hash: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """A finished picture with its recipe inside. ``recipe``: the JSON twin, as plain data."""

    index: int
    data: bytes
    media_type: str
    width: int
    height: int
    seed: int
    recipe: Mapping[str, object] = field(default_factory=dict)

    def stored_at(self, key: str) -> ImageRecord:
        """The record of this picture under that key."""
        return ImageRecord(
            index=self.index,
            key=key,
            media_type=self.media_type,
            width=self.width,
            height=self.height,
            size_bytes=len(self.data),
            sha256=hashlib.sha256(self.data).hexdigest(),
            seed=self.seed,
        )


class ImageEngine(Protocol):
    """Turns tasks into pictures. Synchronous; called from one thread at a time, but for ``encode``.

    An ``EngineError`` from a method concerns the model, task or slots it was called with alone;
    everything else that was loaded or admitted stays usable.
    """

    def load(self, model: ModelInfo, *, in_use: Collection[str] = ()) -> None:
        """Bring a model into memory; at once when it is there. The least recently used make room.

        Args:
            in_use: names of models that must stay.

        Raises:
            ModelUnusable: the others stay as they are.
            OutOfMemory: there is no room, or none beside those in use.
        """
        ...

    def loaded(self) -> Collection[str]:
        """Names of the models in memory."""
        ...

    def make_room(self, *, in_use: Collection[str] = ()) -> bool:
        """Let go of the models that are not in use. False: there were none."""
        ...

    def admit(self, task: ImageTask) -> Slot:
        """Encode the prompt, draw the noise. The model must be loaded."""
        ...

    def row_limit(self, batch_key: Hashable) -> int:
        """How many rows a step of this key may have, at least 2."""
        ...

    def step(self, slots: Sequence[Slot]) -> None:
        """One denoising step of every slot; all have one batch key and steps left.

        A slot that has to be retried in another precision goes back some steps, once, and gets
        another batch key. When it raises, every slot is as it was.
        """
        ...

    def preview(self, slot: Slot) -> str:
        """A small picture of a slot under way, as a data URL of a few kilobytes."""
        ...

    def decode(self, slots: Sequence[Slot]) -> Iterator[DecodedImage]:
        """The pictures of slots whose steps are done, in this order, each once it is ready.

        All have one batch key. An error is of one that was not yielded, or of their number: each
        may be asked for again alone.
        """
        ...

    def encode(self, image: DecodedImage) -> EncodedImage:
        """Resample a picture to the size asked for, write its file. Called from any thread."""
        ...

    def export(self, slot: Slot) -> bytes:
        """The state of a slot under way, enough for :meth:`resume` to end with the same pixels."""
        ...

    def resume(self, task: ImageTask, blob: bytes) -> Slot:
        """Raises ``EngineFailure`` when the blob does not fit the task."""
        ...
