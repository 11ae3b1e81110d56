"""Slots stacked into one batch, kept stacked for as long as its composition stays the same."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sfumato.engine.control import ControlRows
from sfumato.engine.families.sd import StableDiffusion
from sfumato.engine.lora import grouped
from sfumato.engine.network import NetworkInput
from sfumato.engine.noises import draw
from sfumato.engine.rows import Rows
from sfumato.engine.samplers import Coefficients, State, advance
from sfumato.engine.slots import DiffusionSlot


class Batch:
    """The slots of one step and their tensors, stacked.

    Between steps each slot's tensors are views of the batch's, so a slot can leave for another
    batch, be exported or rendered at any time.

    Alone or among others, a slot ends with the same latents to about 1e-5 in float32: for another
    number of rows the kernels add in another order. With a fixed number of rows it is the same to
    the bit, see :mod:`sfumato.engine.exactness`.
    """

    def __init__(self, slots: Sequence[DiffusionSlot], model: StableDiffusion) -> None:
        self._slots = list(slots)
        self._model = model
        self._state = _stacked([slot.state for slot in slots])
        self._views = [slot.state for slot in slots]
        self._memory = max(slot.table.memory for slot in slots)
        self._failed_at = torch.stack([slot.failed_at for slot in slots])
        self._fixed_rows = slots[0].batch_key.fixed_rows
        self._rows = Rows(
            [slot.conditioning for slot in slots],
            self._state.latents.device,
            padded_to=self._fixed_rows,
        )
        scales = [slot.stage.guidance_scale for slot in slots]
        controls = [slot.stage.controls for slot in slots]
        self._controls = ControlRows(controls, self._rows, self._state.latents.device)
        self._loras = grouped(
            self._rows.owners,
            [slot.stage.additions.changes() for slot in slots],
            self._state.latents.device,
            apart=self._fixed_rows > 0,
        )
        self._guidance = torch.tensor(scales, device=self._state.latents.device)
        beside = [slot.began.beside for slot in slots if slot.began.beside is not None]
        self._beside = self._rows.spread(torch.stack(beside)) if beside else None

    def holds(self, slots: Sequence[DiffusionSlot]) -> bool:
        """Whether it is made of exactly these slots, in this order, and none has moved on."""
        return len(slots) == len(self._slots) and all(
            mine is theirs and theirs.state is state
            for mine, theirs, state in zip(self._slots, slots, self._views, strict=True)
        )

    def step(self) -> None:
        """One denoising step. When the network raises, every slot is as it was."""
        slots, device = self._slots, self._state.latents.device
        coefficients = self._coefficients(slots)
        output = self._rows.combine(self._model.predict(self._given(coefficients.timesteps)))
        if self._fixed_rows:
            views = self._advanced_apart(output, self._noise())
            _put_back(slots, views)
            state = _stacked(views)
        else:
            state = advance(self._state, output, self._noise(), coefficients, self._memory)
            views = _views(slots, state)
            _put_back(slots, views)
        finite = state.latents.flatten(1).isfinite().all(dim=1)
        done = torch.tensor([slot.step + 1.0 for slot in slots], device=device)
        first = ~finite & (self._failed_at == 0)
        failed_at = torch.where(first, done, self._failed_at)
        self._views = views
        self._state, self._failed_at = state, failed_at
        for slot, view, failed in zip(slots, self._views, failed_at.unbind(), strict=True):
            slot.state, slot.failed_at = view, failed
            slot.step += 1

    def given(self) -> NetworkInput:
        """What the network is given at the next step."""
        return self._given(self._coefficients(self._slots).timesteps)

    def _coefficients(self, slots: Sequence[DiffusionSlot]) -> Coefficients:
        places = [(slot.table, slot.place) for slot in slots]
        return Coefficients.gather(places, self._state.latents.device)

    def _advanced_apart(self, output: Tensor, noise: Tensor | None) -> list[State]:
        """Each slot's next state, computed as if it were alone: where a tensor is split among
        threads, and ends, may decide how the last bit is rounded."""
        states = []
        for n, slot in enumerate(self._slots):
            own = slice(n, n + 1)
            state = advance(
                _stacked([slot.state]),
                output[own],
                None if noise is None else noise[own],
                self._coefficients([slot]),
                slot.table.memory,
            )
            states += _views([slot], state)
        return states

    def _given(self, timesteps: Tensor) -> NetworkInput:
        rows = self._rows
        embedded = self._guidance if self._model.guidance_embedded else None
        tokens, pooled = rows.encoded([slot.asked_step for slot in self._slots])
        return NetworkInput(
            latents=rows.spread(self._state.latents),
            timesteps=rows.spread(timesteps),
            tokens=tokens,
            pooled=pooled,
            negative=rows.negative,
            guidance=None if embedded is None else rows.spread(embedded),
            controls=self._controls.at([slot.place for slot in self._slots]),
            beside=self._beside,
            loras=self._loras,
        )

    def _noise(self) -> Tensor | None:
        """Fresh noise for the slots whose sampler asks for it in this step, zeros for others."""
        noisy = [slot.table.noisy(slot.place) for slot in self._slots]
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


def _put_back(slots: Sequence[DiffusionSlot], views: Sequence[State]) -> None:
    """Where a part alone is redrawn, the rest into what the step has made of it."""
    for slot, view in zip(slots, views, strict=True):
        reached = slot.table.reached[slot.place]
        if slot.began.kept is not None and reached is not None:
            slot.began.kept.put_back(view.latents, reached)
