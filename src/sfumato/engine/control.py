"""ControlNets beside the network: which picture each slot follows, how much, and in which steps."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sfumato.core.extras import Control
from sfumato.core.sizes import Size
from sfumato.engine.families.controlnets import ControlNet
from sfumato.engine.images import fit
from sfumato.engine.network import ControlInput, NetworkInput
from sfumato.engine.rows import Rows


@dataclass(frozen=True, slots=True, eq=False)
class SlotControl:
    """A ControlNet of one slot, for one of its stages.

    Attributes:
        picture: 8 bits (3, height, width) on the CPU, of the stage's size.
        use: the request's own words, of which strength, start and end count here.
        steps: of which start and end are parts: those of the stage, with what a refiner takes
            over of it.
    """

    net: ControlNet
    picture: Tensor
    use: Control
    steps: int

    def scale(self, done: int) -> float:
        """How much it steers in the step after ``done`` of them.

        Nothing in a step that begins before ``start`` or ends after ``end``, as in diffusers.
        """
        outside = done / self.steps < self.use.start or (done + 1) / self.steps > self.use.end
        return 0.0 if outside else self.use.strength


def picture_for(image: Image.Image, size: Size, cell: int) -> Tensor:
    """A control picture as :class:`SlotControl` holds it.

    Of other proportions than what is drawn it is cropped around its centre, as pictures to begin
    with are; where latents reach beyond the picture, its edges are drawn out.

    Args:
        size: width and height of what is drawn, in pixels.
        cell: pixels a side of a latent cell.
    """
    pixels = np.asarray(fit(image, *size))
    beyond = ((0, -size[1] % cell), (0, -size[0] % cell), (0, 0))
    return torch.from_numpy(np.pad(pixels, beyond, mode="edge")).permute(2, 0, 1)


def in_order(controls: Sequence[SlotControl]) -> tuple[SlotControl, ...]:
    """In the same order whichever the request has them in, so that like sets share a batch."""
    return tuple(sorted(controls, key=lambda control: control.net.hash))


class ControlRows:
    """The ControlNets of a batch. Every slot has the same ones, in the same order.

    Args:
        slots: the controls of each slot.
    """

    def __init__(
        self, slots: Sequence[Sequence[SlotControl]], rows: Rows, device: torch.device
    ) -> None:
        self._slots = slots
        self._rows = rows
        self._device = device
        self._nets = [control.net for control in slots[0]]
        self._pictures = [
            net.prepared(rows.spread(_stacked(slots, n).to(device)))
            for n, net in enumerate(self._nets)
        ]
        self._last: list[list[float]] = []
        self._inputs: tuple[ControlInput, ...] = ()

    def at(self, places: Sequence[int]) -> tuple[ControlInput, ...]:
        """What steers slots that have done so many steps of their stage.

        A ControlNet that no slot needs in this step is left out.
        """
        scales = [
            [controls[n].scale(place) for controls, place in zip(self._slots, places, strict=True)]
            for n in range(len(self._nets))
        ]
        if scales != self._last:
            self._last = scales
            self._inputs = tuple(
                ControlInput(net, pictures, self._rows.spread(self._tensor(each)))
                for net, pictures, each in zip(self._nets, self._pictures, scales, strict=True)
                if any(each)
            )
        return self._inputs

    def _tensor(self, scales: list[float]) -> Tensor:
        return torch.tensor(scales, device=self._device)


def _stacked(slots: Sequence[Sequence[SlotControl]], nth: int) -> Tensor:
    return torch.stack([controls[nth].picture for controls in slots])


def steering(given: NetworkInput, latents: Tensor, added: dict[str, Any] | None) -> dict[str, Any]:
    """What the ControlNets add inside a UNet, as keywords of diffusers' UNet.

    Args:
        latents: the latents alone, in the network's precision.
        added: as of ``added_cond_kwargs``.
    """
    descents, middles = [], []
    for control in given.controls:
        descent, middle = control.net.residuals(
            latents,
            given.timesteps,
            given.tokens,
            added=added,
            pictures=control.pictures,
            scales=control.scales,
        )
        descents.append(descent)
        middles.append(middle)
    if not descents:
        return {}
    return {
        "down_block_additional_residuals": [
            functools.reduce(torch.add, level) for level in zip(*descents, strict=True)
        ],
        "mid_block_additional_residual": functools.reduce(torch.add, middles),
    }
