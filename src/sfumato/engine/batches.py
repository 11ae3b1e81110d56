"""Slots stacked into one batch, kept stacked for as long as its composition stays the same."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sfumato.engine.families.sd import StableDiffusion
from sfumato.engine.rows import Rows
from sfumato.engine.samplers import Coefficients, State, advance
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
        self._state = _stacked([slot.state for slot in slots])
        self._views = [slot.state for slot in slots]
        self._memory = max(slot.table.memory for slot in slots)
        self._failed_at = torch.stack([slot.failed_at for slot in slots])
        self._rows = Rows([slot.conditioning for slot in slots], self._state.latents.device)
        scales = [slot.task.settings.guidance_scale for slot in slots]
        self._guidance = torch.tensor(scales, device=self._state.latents.device)

    def holds(self, slots: Sequence[DiffusionSlot]) -> bool:
        """Whether it is made of exactly these slots, in this order, and none has moved on."""
        return len(slots) == len(self._slots) and all(
            mine is theirs and theirs.state is state
            for mine, theirs, state in zip(self._slots, slots, self._views, strict=True)
        )

    def step(self) -> None:
        """One denoising step. When the network raises, every slot is as it was."""
        slots, device = self._slots, self._state.latents.device
        places = [(slot.table, slot.step) for slot in slots]
        coefficients = Coefficients.gather(places, device)
        output = self._guided_output(coefficients.timesteps)
        state = advance(self._state, output, self._noise(), coefficients, self._memory)
        finite = state.latents.flatten(1).isfinite().all(dim=1)
        done = torch.tensor([slot.step + 1.0 for slot in slots], device=device)
        first = ~finite & (self._failed_at == 0)
        failed_at = torch.where(first, done, self._failed_at)
        self._views = _views(slots, state)
        self._state, self._failed_at = state, failed_at
        for slot, view, failed in zip(slots, self._views, failed_at.unbind(), strict=True):
            slot.state, slot.failed_at = view, failed
            slot.step += 1

    def _guided_output(self, timesteps: Tensor) -> Tensor:
        """The network's output, (slots, channels, height, width), guidance applied."""
        rows = self._rows
        embedded = self._guidance if self._model.guidance_embedded else None
        output = self._model.predict(
            rows.spread(self._state.latents),
            rows.spread(timesteps),
            rows.embeddings([slot.asked_step for slot in self._slots]),
            None if embedded is None else rows.spread(embedded),
        )
        return rows.combine(output)

    def _noise(self) -> Tensor | None:
        """Fresh noise for the slots whose sampler asks for it in this step, zeros for others."""
        noisy = [slot.table.noisy(slot.step) for slot in self._slots]
        if not any(noisy):
            return None
        noise = torch.zeros_like(self._state.latents)
        for n, slot in enumerate(self._slots):
            if noisy[n]:
                noise[n] = draw(tuple(slot.latents.shape), slot.generator, noise.device)
        return noise


def _stacked(states: Sequence[State]) -> State:
    """The slots' states as one; zeros stand for what a slot has not got."""
    blank = torch.zeros_like(states[0].latents)

    def stack(tensors: list[Tensor | None]) -> Tensor:
        return torch.stack([blank if tensor is None else tensor for tensor in tensors])

    saved = [state.saved for state in states]
    depth = max(len(state.estimates) for state in states)
    estimates = [
        stack([state.estimates[n] if n < len(state.estimates) else None for state in states])
        for n in range(depth)
    ]
    return State(
        torch.stack([state.latents for state in states]),
        None if all(tensor is None for tensor in saved) else stack(saved),
        tuple(estimates),
    )


def _views(slots: Sequence[DiffusionSlot], state: State) -> list[State]:
    """Each slot's part of the batch's state: what its sampler keeps, and no more."""
    saved = None if state.saved is None else state.saved.unbind()
    newest = state.estimates[0].unbind()
    return [
        State(
            latents,
            saved[n] if saved is not None and any(slot.table.saves) else None,
            (newest[n], *slot.state.estimates)[: slot.table.memory],
        )
        for n, (slot, latents) in enumerate(zip(slots, state.latents.unbind(), strict=True))
    ]
