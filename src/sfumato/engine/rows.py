"""The rows of the network's batch: which slot each belongs to, and what becomes of its answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sfumato.engine.conditioning import Conditioning
from sfumato.engine.network import Encoded


class _Term(NamedTuple):
    """What the slots' n-th prompts add: ``scales · (output[prompts] - output[negatives])``."""

    slots: Tensor
    prompts: Tensor
    negatives: Tensor
    scales: Tensor


class Rows:
    """Every slot's prompts, slot by slot, then the negative prompts of the slots that have one.

    Args:
        padded_to: rows there are at least; the last one is repeated, and what the network answers
            to these copies is dropped.

    Attributes:
        owners: the slot of each row, but for the copies.
        padding: how many copies there are.
        negative: bool (rows,), which rows are of negative prompts.
    """

    def __init__(
        self, slots: Sequence[Conditioning], device: torch.device, *, padded_to: int = 0
    ) -> None:
        self._slots = slots
        prompt_rows = [[n] * len(slot.prompts) for n, slot in enumerate(slots)]
        guided = [n for n, slot in enumerate(slots) if slot.negative is not None]
        owners = [n for rows in prompt_rows for n in rows] + guided
        each = list(range(len(slots)))
        self.owners = owners
        self.padding = max(0, padded_to - len(owners))
        self._unguided = owners == each
        self._all_guided = owners == each * 2
        self._places = torch.tensor(owners + owners[-1:] * self.padding, device=device)
        negatives = [n >= len(owners) - len(guided) for n in range(len(owners))]
        self.negative = torch.tensor(negatives + negatives[-1:] * self.padding, device=device)
        first = [owners.index(n) for n in each]
        negative = {n: len(owners) - len(guided) + place for place, n in enumerate(guided)}
        self._base = torch.tensor([negative.get(n, first[n]) for n in each], device=device)
        self._terms = []
        for nth in range(max(len(slot.prompts) for slot in slots)):
            members = [n for n in guided if nth < len(slots[n].prompts)]
            if not members:
                continue
            scales = [slots[n].weights[nth] * slots[n].scale for n in members]
            self._terms.append(
                _Term(
                    slots=torch.tensor(members, device=device),
                    prompts=torch.tensor([first[n] + nth for n in members], device=device),
                    negatives=torch.tensor([negative[n] for n in members], device=device),
                    scales=torch.tensor(scales, device=device).view(-1, 1, 1, 1),
                )
            )
        self._stacked: list[Encoded] = []
        self._tokens = torch.empty(0)
        self._pooled: Tensor | None = None

    def spread(self, values: Tensor) -> Tensor:
        """One value a slot, as one a row."""
        if not self.padding:
            if self._unguided:
                return values
            if self._all_guided:
                return values.repeat(2, *[1] * (values.ndim - 1))
        return values[self._places]

    def encoded(self, steps: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """(rows, tokens, width), and (rows, pooled width) where the family has such, for slots
        that have done so many steps.

        The very tensors of the step before where no prompt has changed since.
        """
        pairs = list(zip(self._slots, steps, strict=True))
        wanted = [prompt.at(step) for slot, step in pairs for prompt in slot.prompts]
        wanted += [slot.negative.at(step) for slot, step in pairs if slot.negative is not None]
        wanted += wanted[-1:] * self.padding
        if [*map(id, wanted)] != [*map(id, self._stacked)]:
            self._stacked = wanted
            self._tokens = torch.stack([text.tokens for text in wanted])
            pooled = [text.pooled for text in wanted if text.pooled is not None]
            self._pooled = torch.stack(pooled) if pooled else None
        return self._tokens, self._pooled

    def combine(self, output: Tensor) -> Tensor:
        """One answer a slot from one a row, by the formula of :class:`Conditioning`."""
        output = output[: len(self.owners)]
        if self._unguided:
            return output
        if self._all_guided:
            prompts, negatives = output.chunk(2)
            return negatives + self._terms[0].scales * (prompts - negatives)
        combined = output[self._base]
        for term in self._terms:
            difference = output[term.prompts] - output[term.negatives]
            combined.index_add_(0, term.slots, term.scales * difference)
        return combined
