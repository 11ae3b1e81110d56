"""The engine: load, admit, step, decode, on diffusers' model classes."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Collection, Hashable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from sfumato.core.errors import EngineFailure, ModelUnusable, NumericalError, SfumatoError
from sfumato.core.models import ModelInfo
from sfumato.core.ports import DecodedImage, EncodedImage, ImageTask, Slot
from sfumato.core.safety import Safety
from sfumato.engine.admission import admit, read_together, resume
from sfumato.engine.aftermath import check_finite, enter_next, watch
from sfumato.engine.batches import Batch
from sfumato.engine.checking import Checking
from sfumato.engine.checkpoints import export_slot
from sfumato.engine.devices import place
from sfumato.engine.exactness import RowPlaces, engine_facts
from sfumato.engine.failures import failures
from sfumato.engine.images import encode_image, to_bytes
from sfumato.engine.loaded import LoadedModels
from sfumato.engine.memory import RowMemory, keep_to_share
from sfumato.engine.networks import Networks
from sfumato.engine.previews import fit_colours, preview
from sfumato.engine.slots import DiffusionSlot
from sfumato.engine.stages import BatchKey


class DiffusionEngine:
    """Implements :class:`sfumato.core.ports.ImageEngine`.

    Args:
        device, dtype: as :func:`sfumato.engine.devices.place` reads them. Latents and sampler
            arithmetic are float32 whatever the dtype is.
        threads: CPU threads of this process for torch; None leaves torch's own choice, the
            number of physical cores.
        model_memory: bytes that the weights of all models in memory may take; None: as much as
            is free.
        gpu_share: of a GPU's memory that this process may take, above 0; None: all of it.
    """

    def __init__(
        self,
        device: str = "auto",
        dtype: str = "auto",
        threads: int | None = None,
        model_memory: int | None = None,
        gpu_share: float | None = None,
    ) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self._placement = place(device, dtype)
        if gpu_share is not None:
            keep_to_share(self._placement.device, gpu_share)
        self._models = LoadedModels(self._placement, model_memory)
        self._networks = Networks(self._models, self._placement)
        self._checking = Checking(self._networks)
        self._memory = RowMemory(self._placement.device, self._placement.dtype)
        self._places = RowPlaces()
        self._facts = engine_facts(self._placement)
        self._batch: Batch | None = None

    def load(self, model: ModelInfo, *, in_use: Collection[str] = ()) -> None:
        if self._models.touch(model):
            return
        self._batch = None  # it holds a model that may have to go
        try:
            with failures(f"load the model {model.name!r}", ModelUnusable):
                self._models.load(model, in_use)
        finally:
            self._memory.changed()

    @property
    def models(self) -> LoadedModels:
        """Those in memory. Whoever else keeps weights shares their budget."""
        return self._models

    @property
    def checking(self) -> Checking:
        return self._checking

    def loaded(self) -> list[str]:
        return self._models.names()

    def forget_batch(self) -> None:
        """Hold no model that may have to go, and ask anew how much memory there is."""
        self._batch = None
        self._memory.changed()

    def make_room(self, *, in_use: Collection[str] = ()) -> bool:
        self.forget_batch()
        return self._models.make_room(in_use)

    @torch.inference_mode()
    def prepare(self, tasks: Sequence[ImageTask]) -> None:
        """Read the prompts of all together, so that no batch of the text encoder is half empty."""
        with contextlib.suppress(SfumatoError), failures("read prompts"):
            read_together(tasks, self._networks)

    @torch.inference_mode()
    def admit(self, task: ImageTask) -> DiffusionSlot:
        with failures("admit a picture"):
            notes = self._checking.ready(task)
            return _with_notes(admit(task, self._networks), notes)

    def row_limit(self, batch_key: Hashable) -> int:
        if not isinstance(batch_key, BatchKey):
            raise EngineFailure(f"{batch_key!r} is not a batch key of this engine.")
        if batch_key.fixed_rows:
            # Whatever memory there is: with less the job fails, for fewer rows would change bits.
            return 1 if self._places.matter(batch_key) else batch_key.fixed_rows
        _, height, width = batch_key.latent_shape
        cells, most = height * width, _CUDA_MOST_ROWS
        if self._placement.device.type != "cuda":
            most = next((rows for upto, rows in _CPU_ROWS if cells <= upto), 2)
        fitting = self._memory.rows(batch_key, cells)
        return max(2, most if fitting is None else min(most, fitting))

    @torch.inference_mode()
    def step(self, slots: Sequence[Slot]) -> None:
        own = [_own(slot) for slot in slots]
        if not own:
            return
        if len({slot.batch_key for slot in own}) > 1:
            raise EngineFailure("The slots of one step must have one batch key.")
        if any(slot.step >= slot.steps for slot in own):
            raise EngineFailure("A slot that is done can't take another step.")
        key = own[0].batch_key
        model = self._networks.model(key.model, precise=key.precise)
        rows = key.fixed_rows or sum(slot.rows for slot in own)
        doing = f"take a step of {rows} rows, as strict determinism asks" if key.fixed_rows else ""
        with failures(doing or "take a step"), self._memory.measured(key, rows):
            batch = self._batch
            if batch is None or not batch.holds(own):
                batch = Batch(own, model)
                if key.fixed_rows and len(own) > 1:
                    self._places.check(key, model.predict, batch.given)
            # Forgotten until the step has succeeded: a failed one leaves the slots as they were.
            self._batch = None
            batch.step()
            self._batch = batch
        narrow = self._placement.dtype != torch.float32
        if narrow:
            watch(own, self._networks)
        for slot in own:
            if slot.ends_stage:
                enter_next(slot, self._networks, watched=narrow)

    @torch.inference_mode()
    def preview(self, slot: Slot) -> str:
        slot = _own(slot)
        with failures("draw a preview"):
            vae = self._networks.vae_of(slot.stage)
            if vae.colours is None:
                vae.colours = fit_colours(vae)
            blocking = slot.task.settings.safety is Safety.BLOCK
            return preview(slot.denoised, vae.colours, mosaic=blocking)

    def decode(self, slots: Sequence[Slot]) -> Iterator[DecodedImage]:
        """On a GPU a few at a time, unless they are strict. On a CPU one by one: together they take
        as long, come later, and differ from what they are alone by 1/255 in a byte of ten
        thousand."""
        own = [_own(slot) for slot in slots]
        alone = self._placement.device.type == "cpu" or any(
            slot.batch_key.fixed_rows for slot in own
        )
        most = 1 if alone else _DECODED_TOGETHER
        for _vae, group in itertools.groupby(own, lambda slot: id(slot.stage.vae)):
            alike = list(group)
            for n in range(0, len(alike), most):
                decoded = self._decode(alike[n : n + most])
                for done, image in enumerate(decoded):
                    yield replace(image, together=len(decoded) - done)

    @torch.inference_mode()
    def _decode(self, slots: Sequence[DiffusionSlot]) -> list[DecodedImage]:
        for slot in slots:
            _check_done(slot)
        stage = slots[0].stage
        # The first model's, which the recipe names, also where a refiner had the last word.
        hashes = [self._networks.model(slot.task.model.name, precise=False).hash for slot in slots]
        with failures("decode a picture"):
            decoded = self._networks.decode(stage, torch.stack([slot.latents for slot in slots]))
            images = [
                _drawn(slot, pixels, model_hash)
                for slot, pixels, model_hash in zip(slots, decoded, hashes, strict=True)
            ]
        return self._checking.look(images)

    def encode(self, image: DecodedImage) -> EncodedImage:
        with failures("encode a picture"):
            return encode_image(image, self._facts)

    def export(self, slot: Slot) -> bytes:
        return export_slot(_own(slot))

    @torch.inference_mode()
    def resume(self, task: ImageTask, blob: bytes) -> DiffusionSlot:
        with failures("resume a picture"):
            notes = self._checking.ready(task)
            return _with_notes(resume(task, blob, self._networks), notes)


#: On a CPU more rows than these per number of latent cells gain nothing, by measurement.
_CPU_ROWS = ((256, 32), (1024, 16), (4096, 4))
_CUDA_MOST_ROWS = 64
#: Pictures that a GPU decodes at once: the VAE's tensors are the largest of all.
_DECODED_TOGETHER = 4


def _own(slot: Slot) -> DiffusionSlot:
    if not isinstance(slot, DiffusionSlot):
        raise EngineFailure(f"{type(slot).__name__} is not a slot of this engine.")
    return slot


def _with_notes(slot: DiffusionSlot, notes: tuple[str, ...]) -> DiffusionSlot:
    slot.notes += notes
    return slot


def _check_done(slot: DiffusionSlot) -> None:
    if slot.step < slot.steps:
        raise EngineFailure(f"The slot has done {slot.step} of {slot.steps} steps.")
    if slot.error is not None:
        raise slot.error
    check_finite(slot)


def _drawn(slot: DiffusionSlot, pixels: Tensor, model_hash: str) -> DecodedImage:
    if not pixels.isfinite().all():
        raise NumericalError(
            "The VAE answered with numbers that are not finite. Another precision may help."
        )
    pixels = pixels[:, : slot.stage.height, : slot.stage.width]
    pixels = slot.finishing(pixels)
    height, width = pixels.shape[1:]
    return DecodedImage(slot.task, width, height, to_bytes(pixels), model_hash, slot.notes)
