"""A slot's state as bytes, and back: what a worker that leaves hands to the next one."""

from __future__ import annotations

import json

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from sfumato.core.errors import EngineFailure
from sfumato.core.ports import ImageTask
from sfumato.core.recipe import fingerprint
from sfumato.engine.masks import Kept
from sfumato.engine.samplers import State
from sfumato.engine.slots import DiffusionSlot
from sfumato.engine.stages import Beginning, Stage

_FORMAT = "sfumato-slot-3"


def export_slot(slot: DiffusionSlot) -> bytes:
    """A safetensors blob of all that :func:`restored` needs to go on at the same step."""
    tensors = {
        "latents": slot.latents,
        **{f"estimate.{n}": tensor for n, tensor in enumerate(slot.state.estimates)},
        "failed_at": slot.failed_at,
        "generator": slot.generator.get_state(),
    }
    kept = slot.began.kept
    further = {
        "saved": slot.state.saved,
        "beside": slot.began.beside,
        "kept.picture": None if kept is None else kept.picture,
        "kept.noise": None if kept is None else kept.noise,
        "kept.mask": None if kept is None else kept.mask,
    }
    tensors |= {name: tensor for name, tensor in further.items() if tensor is not None}
    state = {
        "format": _FORMAT,
        "task": fingerprint(slot.task),
        "stage": str(slot.stage_index),
        "step": str(slot.step),
    }
    # Clones: a slot's tensors are views of its batch's.
    blob: bytes = save(
        {name: tensor.cpu().clone() for name, tensor in tensors.items()}, metadata=state
    )
    return blob


def restored(
    task: ImageTask, stages: tuple[Stage, ...], blob: bytes, device: torch.device
) -> DiffusionSlot:
    """A slot in the state that was exported.

    Raises:
        EngineFailure: the blob is damaged, or of another task or model size.
    """
    try:
        header = json.loads(blob[8 : 8 + int.from_bytes(blob[:8], "little")])
        state, tensors = header["__metadata__"], load(blob)
        if state["format"] == _FORMAT and state["task"] == fingerprint(task):
            tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
            return _restored(task, stages, tensors, int(state["stage"]), int(state["step"]))
    except (SafetensorError, ValueError, KeyError, IndexError, TypeError, RuntimeError):
        pass
    raise EngineFailure("The checkpoint does not belong to this picture; it was not resumed.")


def _restored(
    task: ImageTask,
    stages: tuple[Stage, ...],
    tensors: dict[str, Tensor],
    stage_index: int,
    step: int,
) -> DiffusionSlot:
    """Raises ``ValueError`` and its like where the tensors don't fit the stages."""
    generator = torch.Generator("cpu")
    generator.set_state(tensors["generator"].cpu())
    kept = None
    if "kept.mask" in tensors:
        names = ("kept.picture", "kept.noise", "kept.mask")
        kept = Kept(*(tensors[name] for name in names))
    began = Beginning(tensors["latents"], kept, tensors.get("beside"))
    slot = DiffusionSlot.beginning(task, stages, generator, began)
    slot.stage_index, slot.step, slot.failed_at = stage_index, step, tensors["failed_at"]
    if not 0 <= slot.place <= len(slot.stage):
        raise ValueError(f"The checkpoint's step {step} is not of its stage {stage_index}.")
    if slot.latents.shape != slot.batch_key.latent_shape:
        raise ValueError("The checkpoint's latents are of another shape.")
    remembered = range(min(slot.place, slot.table.memory))
    estimates = tuple(tensors[f"estimate.{n}"] for n in remembered)
    slot.state = State(slot.latents, tensors.get("saved"), estimates)
    return slot
