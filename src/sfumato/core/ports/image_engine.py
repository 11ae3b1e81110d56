"""What turns requests into pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sfumato.core.errors import EngineFailure
from sfumato.core.inputs import InputImage
from sfumato.core.job import ImageRecord, Settings
from sfumato.core.models import ModelInfo, ModelKind
from sfumato.core.request import GenerationRequest


@dataclass(frozen=True, slots=True)
class ImageTask:
    """One picture of a job, for the engine: image ``index`` (from 0).

    Attributes:
        extras: the other weights that the request names, on this machine's disk.
        inputs: the files of the pictures that it brings along, by their SHA-256.
    """

    job_id: str
    index: int
    request: GenerationRequest
    settings: Settings
    model: ModelInfo
    notes: tuple[str, ...] = ()
    extras: tuple[ModelInfo, ...] = ()
    inputs: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        """Of the picture's own noise. The variations of a job all have that of the first picture, as
        in A1111: they differ by the other noise alone."""
        variation = self.request.variation
        varied = variation is not None and variation.strength > 0
        return self.settings.image_seed(0 if varied else self.index)

    def extra(self, kind: ModelKind, name: str) -> ModelInfo:
        """Raises ``EngineFailure``: whoever made the task left it out."""
        for model in self.extras:
            if (model.kind, model.name) == (kind, name):
                return model
        raise EngineFailure(f"The {kind.value} {name!r} was not brought to this worker.")

    def input(self, image: InputImage) -> bytes:
        """Raises ``EngineFailure``: whoever made the task left it out."""
        data = self.inputs.get(image.sha256)
        if data is None:
            raise EngineFailure("A picture that the request names was not brought to this worker.")
        return data


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
        """What a step with its present batch key takes, in compute units: pixels drawn × rows."""
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
        together: how many pictures were decoded at once: this one, and those that come after it.
    """

    task: ImageTask
    width: int
    height: int
    pixels: bytes
    model_hash: str
    notes: tuple[str, ...] = ()
    together: int = 1


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

    def prepare(self, tasks: Sequence[ImageTask]) -> None:
        """Do what is done faster for several tasks at once, before each is admitted. Their models
        must be loaded. Never raises for one of them: what is wrong is told when that is admitted.
        """
        ...

    def admit(self, task: ImageTask) -> Slot:
        """Encode the prompt, draw the noise, or bring in the picture to begin with. The models must
        be loaded. Raises ``InvalidRequest`` too, where what the request brings is of no use."""
        ...

    def row_limit(self, batch_key: Hashable) -> int:
        """How many rows a step of this key may have, at least 2."""
        ...

    def step(self, slots: Sequence[Slot]) -> None:
        """One denoising step of every slot; all have one batch key and steps left.

        A slot that has to be retried in another precision goes back some steps, once, and gets
        another batch key. So does one that goes on to a larger picture or another model. Where it
        can't, that is told when it is decoded, and its steps count as done. When this raises, every
        slot is as it was.
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
