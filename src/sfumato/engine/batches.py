"""Slots stacked into one batch, kept stacked for as long as its composition stays the same."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sfumato.engine.families.sd import StableDiffusion
from sfumato.engine.rows import Rows
from sfumato.engine.samplers import advance
from sfumato.engine.slots import DiffusionSlot, draw


class Batch:
    """The slots of one step and their tensors, stacked.

    Between steps each slot's tensors are views of the batch's, so a slot can leave for another
    batch, be exported or rendered at any time.

    Alone or among others, a slot ends with the same latents to about 1e-5 in float32: for another
    number of rows the kernels add in another order. Among as many rows it is the same to the bit, whoever they belong to.
    """

    def __init__(self, slots: Sequence[DiffusionSlot], model: StableDiffusion) -> None:
        self._slots = list(slots)
        self._model = model
        self._latents = torch.stack([slot.latents for slot in slots])
        self._views = [slot.latents for slot in slots]
        self._denoised = torch.stack([slot.denoised for slot in slots])
        self._failed_at = torch.stack([slot.failed_at for slot in slots])
        self._rows = Rows([slot.conditioning for slot in slots], self._latents.device)
        scales = [slot.task.settings.guidance_scale for slot in slots]
        self._guidance = torch.tensor(scales, device=self._latents.device)

    def holds(self, slots: Sequence[DiffusionSlot]) -> bool:
        """Whether it is made of exactly these slots, in this order, and none has moved on."""
        return len(slots) == len(self._slots) and all(
            mine is theirs and theirs.latents is latents
            for mine, theirs, latents in zip(self._slots, slots, self._views, strict=True)
        )

    def step(self) -> None:
        """One denoising step. When the network raises, every slot is as it was."""
        slots, device = self._slots, self._latents.device
        timesteps = torch.stack([slot.table.timesteps[slot.step] for slot in slots]).to(device)
        rows = torch.stack([slot.table.coefficients[slot.step] for slot in slots]).to(device)
        output = self._guided_output(timesteps)
        following, denoised = advance(self._latents, output, self._denoised, self._noise(), rows)
        finite = following.flatten(1).isfinite().all(dim=1)
        done = torch.tensor([slot.step + 1.0 for slot in slots], device=device)
        first = ~finite & (self._failed_at == 0)
        failed_at = torch.where(first, done, self._failed_at)
        self._latents, self._denoised, self._failed_at = following, denoised, failed_at
        self._views = list(following.unbind())
        state = zip(slots, self._views, denoised.unbind(), failed_at.unbind(), strict=True)
        for slot, *tensors in state:
            slot.latents, slot.denoised, slot.failed_at = tensors
            slot.step += 1

    def _guided_output(self, timesteps: Tensor) -> Tensor:
        """The network's output, (slots, channels, height, width), guidance applied."""
        rows = self._rows
        embedded = self._guidance if self._model.guidance_embedded else None
        output = self._model.predict(
            rows.spread(self._latents),
            rows.spread(timesteps),
            rows.embeddings([slot.step for slot in self._slots]),
            None if embedded is None else rows.spread(embedded),
        )
        return rows.combine(output)

    def _noise(self) -> Tensor | None:
        """Fresh noise for the slots whose sampler asks for it in this step, zeros for others."""
        noisy = [slot.table.noisy[slot.step] for slot in self._slots]
        if not any(noisy):
            return None
        noise = torch.zeros_like(self._latents)
        for n, slot in enumerate(self._slots):
            if noisy[n]:
                noise[n] = draw(tuple(slot.latents.shape), slot.generator, noise.device)
        return noise
