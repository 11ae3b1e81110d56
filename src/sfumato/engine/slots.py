"""One picture inside the running batch, and its state as bytes."""

from __future__ import annotations

import json
from collections.abc import Hashable
from dataclasses import dataclass, field, fields

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from sfumato.core.errors import EngineFailure
from sfumato.core.ports import ImageTask
from sfumato.core.recipe import fingerprint
from sfumato.engine.conditioning import Conditioning
from sfumato.engine.samplers import SamplerTable, State

_FORMAT = "sfumato-slot-2"


@dataclass(slots=True, eq=False, repr=False)
class DiffusionSlot:
    """A slot of :class:`sfumato.engine.engine.DiffusionEngine`.

    Attributes:
        state: what the sampler holds; its tensors are float32 (channels, height, width).
        failed_at: float32 scalar: the first step whose latents were not finite; 0 for none.
            A tensor, so that watching for it never makes the device wait.
        generator: the slot's own source of noise.
        well: its last state without a number that is not finite, as of :func:`export_slot`.
        retried: whether it had such numbers, and went back to float32 for that once.
    """

    task: ImageTask
    table: SamplerTable
    batch_key: Hashable
    conditioning: Conditioning
    state: State
    failed_at: Tensor
    generator: torch.Generator
    step: int = 0
    notes: tuple[str, ...] = field(default=())
    well: bytes | None = None
    retried: bool = False

    def become(self, fresh: DiffusionSlot, notes: tuple[str, ...]) -> None:
        """Go on as another slot of the same picture, retried for good."""
        for each in fields(self):
            setattr(self, each.name, getattr(fresh, each.name))
        self.notes, self.retried = notes, True

    @property
    def rows(self) -> int:
        return self.conditioning.rows

    @property
    def cost(self) -> int:
        settings = self.task.settings
        return settings.render_width * settings.render_height * self.rows

    @property
    def steps(self) -> int:
        return len(self.table)

    @property
    def latents(self) -> Tensor:
        return self.state.latents

    @property
    def asked_step(self) -> int:
        """The step, of the ``num_inference_steps`` asked for, that the next evaluation is part of."""
        return self.step * self.task.settings.num_inference_steps // self.steps

    @property
    def denoised(self) -> Tensor:
        """The finished latents as guessed by the last evaluation; at the start, the noise."""
        if not self.step:
            return self.latents
        of_latents, of_estimate = self.table.glimpses[self.step - 1]
        return of_latents * self.latents + of_estimate * self.state.estimates[0]


def noise_source(seed: int) -> torch.Generator:
    """A CPU generator, so that neither device nor batch neighbours change the noise.

    Takes every seed of 64 bits, but torch's CPU generator tells apart only their low 32 bits:
    seeds that differ by a multiple of 2**32 draw the same noise, here as in diffusers.
    """
    return torch.Generator("cpu").manual_seed(seed)


def draw(slot_shape: tuple[int, ...], generator: torch.Generator, device: torch.device) -> Tensor:
    """Unit noise in float32."""
    return torch.randn(slot_shape, generator=generator).to(device)


def export_slot(slot: DiffusionSlot) -> bytes:
    """A safetensors blob of all that :func:`restore` needs to go on at the same step."""
    tensors = {
        "latents": slot.latents,
        **{f"estimate.{n}": tensor for n, tensor in enumerate(slot.state.estimates)},
        "failed_at": slot.failed_at,
        "generator": slot.generator.get_state(),
    }
    if slot.state.saved is not None:
        tensors["saved"] = slot.state.saved
    state = {"format": _FORMAT, "task": fingerprint(slot.task), "step": str(slot.step)}
    # Clones: a slot's tensors are views of its batch's.
    blob: bytes = save(
        {name: tensor.cpu().clone() for name, tensor in tensors.items()}, metadata=state
    )
    return blob


def restore(slot: DiffusionSlot, blob: bytes) -> None:
    """Bring a freshly admitted slot to the state that was exported.

    Raises:
        EngineFailure: the blob is damaged, or of another task or model size.
    """
    try:
        header = json.loads(blob[8 : 8 + int.from_bytes(blob[:8], "little")])
        state, tensors = header["__metadata__"], load(blob)
        fits = state["format"] == _FORMAT and state["task"] == fingerprint(slot.task)
        step = int(state["step"])
        fits = fits and tensors["latents"].shape == slot.latents.shape and step <= slot.steps
        if fits:
            device = slot.latents.device
            kept = [f"estimate.{n}" for n in range(min(step, slot.table.memory))]
            saved = tensors.get("saved")
            slot.state = State(
                tensors["latents"].to(device),
                None if saved is None else saved.to(device),
                tuple(tensors[name].to(device) for name in kept),
            )
            slot.failed_at = tensors["failed_at"].to(device)
            slot.generator.set_state(tensors["generator"])
            slot.step = step
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError):
        fits = False
    if not fits:
        raise EngineFailure("The checkpoint does not belong to this picture; it was not resumed.")
