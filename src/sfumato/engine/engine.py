"""The engine: load, admit, step, decode, on diffusers' model classes."""

from __future__ import annotations

import contextlib
import logging
import traceback
from collections.abc import Collection, Hashable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sfumato.core.errors import (
    EngineError,
    EngineFailure,
    InvalidRequest,
    ModelUnusable,
    NumericalError,
    OutOfMemory,
)
from sfumato.core.models import ModelInfo
from sfumato.core.ports import DecodedImage, EncodedImage, ImageTask, Slot
from sfumato.engine.batches import Batch
from sfumato.engine.conditioning import condition
from sfumato.engine.devices import place
from sfumato.engine.families.sd import StableDiffusion
from sfumato.engine.images import encode_image, to_bytes
from sfumato.engine.loaded import LoadedModels, free_unused
from sfumato.engine.memory import RowMemory
from sfumato.engine.previews import fit_colours, preview
from sfumato.engine.samplers import State, table_for
from sfumato.engine.slots import DiffusionSlot, draw, export_slot, noise_source, restore

log = logging.getLogger(__name__)


class BatchKey(NamedTuple):
    """What changes the network's shape: slots of equal key may share a step.

    ``precise``: in float32, whatever the engine's dtype is.
    """

    model: str
    latent_shape: tuple[int, int, int]
    prompt_tokens: int
    precise: bool = False


class DiffusionEngine:
    """Implements :class:`sfumato.core.ports.ImageEngine`.

    Args:
        device, dtype: as :func:`sfumato.engine.devices.place` reads them. Latents and sampler
            arithmetic are float32 whatever the dtype is.
        threads: CPU threads of this process for torch; None leaves torch's own choice, the
            number of physical cores.
        model_memory: bytes that the weights of all models in memory may take; None: as much as
            is free.
    """

    def __init__(
        self,
        device: str = "auto",
        dtype: str = "auto",
        threads: int | None = None,
        model_memory: int | None = None,
    ) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self._placement = place(device, dtype)
        self._models = LoadedModels(self._placement, model_memory)
        self._memory = RowMemory(self._placement.device, self._placement.dtype)
        self._batch: Batch | None = None

    def load(self, model: ModelInfo, *, in_use: Collection[str] = ()) -> None:
        if self._models.touch(model):
            return
        self._batch = None  # it holds a model that may have to go
        try:
            with _failures(f"load the model {model.name!r}", ModelUnusable):
                self._models.load(model, in_use)
        finally:
            self._memory.changed()

    def loaded(self) -> list[str]:
        return self._models.names()

    def make_room(self, *, in_use: Collection[str] = ()) -> bool:
        self._batch = None
        self._memory.changed()
        return self._models.make_room(in_use)

    @torch.inference_mode()
    def admit(self, task: ImageTask) -> DiffusionSlot:
        return self._admit(task, precise=False)

    def _admit(self, task: ImageTask, *, precise: bool) -> DiffusionSlot:
        model, settings = self._model(task, precise=precise), task.settings
        with _failures("admit a picture"):
            guided = settings.guidance_scale > 1 and not model.guidance_embedded
            conditioning = condition(model.prompts, task, guided=guided)
            table = table_for(
                settings.sampler, settings.num_inference_steps, model.schedule, settings.schedule
            )
            shape = model.latent_shape(settings.render_width, settings.render_height)
            generator = noise_source(settings.image_seed(task.index))
            latents = draw(shape, generator, self._placement.device) * table.initial_scale
            return DiffusionSlot(
                task=task,
                table=table,
                batch_key=BatchKey(task.model.name, shape, conditioning.tokens, precise),
                conditioning=conditioning,
                state=State(latents),
                failed_at=latents.new_zeros(()),
                generator=generator,
            )

    def row_limit(self, batch_key: Hashable) -> int:
        if not isinstance(batch_key, BatchKey):
            raise EngineFailure(f"{batch_key!r} is not a batch key of this engine.")
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
        precise = isinstance(key, BatchKey) and key.precise
        model = self._model(own[0].task, precise=precise)
        rows = sum(slot.rows for slot in own)
        with _failures("take a step"), self._memory.measured(key, rows):
            batch = self._batch
            if batch is None or not batch.holds(own):
                batch = Batch(own, model)
            # Forgotten until the step has succeeded: a failed one leaves the slots as they were.
            self._batch = None
            batch.step()
            self._batch = batch
        if self._placement.dtype != torch.float32:
            self._watch([slot for slot in own if not slot.retried])

    def _watch(self, slots: Sequence[DiffusionSlot]) -> None:
        """Every few steps, for to look is to wait for the device: keep the state of the slots that
        are well, and send those that are not back to theirs, in float32."""
        due = [slot for slot in slots if slot.step % _WATCHED_EVERY == 0 or slot.step == slot.steps]
        if not due:
            return
        failures = torch.stack([slot.failed_at for slot in due]).tolist()
        for slot, failed_at in zip(due, failures, strict=True):
            if failed_at:
                self._retry(slot, int(failed_at))
            elif slot.step < slot.steps:
                slot.well = export_slot(slot)

    def _retry(self, slot: DiffusionSlot, failed_at: int) -> None:
        slot.retried = True
        try:
            fresh = self._admit(slot.task, precise=True)
            if slot.well is not None:
                restore(fresh, slot.well)
        except EngineError as error:  # then it fails once its steps are done, as without a retry
            log.warning("job %s is not retried in float32: %s", slot.task.job_id, error)
            return
        note = (
            f"the network overflowed at step {failed_at}; drawn in float32 from step {fresh.step}"
        )
        slot.become(fresh, (*fresh.notes, note))

    def _model(self, task: ImageTask, *, precise: bool) -> StableDiffusion:
        loaded = self._models[task.model.name]
        if not precise:
            return loaded.model
        with _failures(f"load the model {task.model.name!r} in float32", ModelUnusable):
            return self._models.in_float32(loaded)

    @torch.inference_mode()
    def preview(self, slot: Slot) -> str:
        slot = _own(slot)
        loaded = self._models[slot.task.model.name]
        with _failures("draw a preview"):
            if loaded.colours is None:
                loaded.colours = fit_colours(loaded.model)
            return preview(slot.denoised, loaded.colours)

    def decode(self, slots: Sequence[Slot]) -> Iterator[DecodedImage]:
        """On a GPU a few at a time. On a CPU one by one: together they take as long, come later,
        and differ from what they are alone by 1/255 in a byte of ten thousand."""
        most = 1 if self._placement.device.type == "cpu" else _DECODED_TOGETHER
        own = [_own(slot) for slot in slots]
        for n in range(0, len(own), most):
            yield from self._decode(own[n : n + most])

    @torch.inference_mode()
    def _decode(self, slots: Sequence[DiffusionSlot]) -> list[DecodedImage]:
        for slot in slots:
            _check_done(slot)
        model = self._models[slots[0].task.model.name].model
        with _failures("decode a picture"):
            latents = torch.stack([slot.latents for slot in slots])
            decoded = model.decode(latents)
            if self._placement.dtype != torch.float32 and not decoded.isfinite().all():
                decoded = self._model(slots[0].task, precise=True).decode(latents)
            return [
                _drawn(slot, pixels, model.hash)
                for slot, pixels in zip(slots, decoded, strict=True)
            ]

    def encode(self, image: DecodedImage) -> EncodedImage:
        with _failures("encode a picture"):
            return encode_image(image)

    def export(self, slot: Slot) -> bytes:
        return export_slot(_own(slot))

    def resume(self, task: ImageTask, blob: bytes) -> DiffusionSlot:
        slot = self.admit(task)
        restore(slot, blob)
        return slot


#: On a CPU more rows than these per number of latent cells gain nothing, by measurement.
_CPU_ROWS = ((256, 32), (1024, 16), (4096, 4))
_CUDA_MOST_ROWS = 64
#: Steps between two looks for numbers that are not finite, where the dtype makes them likely.
_WATCHED_EVERY = 4
#: Pictures that a GPU decodes at once: the VAE's tensors are the largest of all.
_DECODED_TOGETHER = 4


def _own(slot: Slot) -> DiffusionSlot:
    if not isinstance(slot, DiffusionSlot):
        raise EngineFailure(f"{type(slot).__name__} is not a slot of this engine.")
    return slot


def _check_done(slot: DiffusionSlot) -> None:
    if slot.step < slot.steps:
        raise EngineFailure(f"The slot has done {slot.step} of {slot.steps} steps.")
    if failed_at := int(slot.failed_at):
        raise NumericalError(
            f"The network answered with numbers that are not finite at step {failed_at} of "
            f"{slot.steps}. Another seed, fewer guidance or another precision may help."
        )


def _drawn(slot: DiffusionSlot, pixels: Tensor, model_hash: str) -> DecodedImage:
    if not pixels.isfinite().all():
        raise NumericalError(
            "The VAE answered with numbers that are not finite. Another precision may help."
        )
    width, height = slot.task.settings.render_width, slot.task.settings.render_height
    drawn = to_bytes(pixels[:, :height, :width])
    return DecodedImage(slot.task, width, height, drawn, model_hash, slot.notes)


@contextlib.contextmanager
def _failures(doing: str, kind: type[EngineError] = EngineFailure) -> Iterator[None]:
    """Whatever torch, diffusers or Pillow raise, as an error of our tree: ``kind``, if not
    memory was what lacked."""
    try:
        yield
    except (EngineError, InvalidRequest):
        raise
    except Exception as error:  # the libraries raise kinds of their own
        if _is_lack_of_memory(error):
            # What the frames of the failure hold would be missing when fewer rows are tried.
            traceback.clear_frames(error.__traceback__)
            free_unused()
            raise OutOfMemory(
                f"There was not enough memory to {doing}. A smaller picture, or a device with more "
                "memory, would help."
            ) from error
        raise kind(f"The engine could not {doing}: {error}") from error


def _is_lack_of_memory(error: Exception) -> bool:
    # torch's CPU allocator has no class for it, and words of its own for each system.
    words = ("can't allocate memory", "not enough memory")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        word in str(error) for word in words
    )
