"""What the denoising network is given at one step: one row for each prompt of each slot."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sfumato.engine.families.controlnets import ControlNet
from sfumato.engine.lora import RowLoras


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """A text as the network reads it.

    Attributes:
        tokens: (tokens, width), what it attends to.
        pooled: (pooled width,), the whole text in one vector, for families that take one.
    """

    tokens: Tensor
    pooled: Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ControlInput:
    """A ControlNet and the rows that it steers.

    Attributes:
        pictures: (rows, 3, height, width), as :meth:`ControlNet.prepared` makes them.
        scales: float32 (rows,).
    """

    net: ControlNet
    pictures: Tensor
    scales: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class NetworkInput:
    """The rows of one step. What a family does not take stays None.

    Attributes:
        latents: float32 (rows, channels, height, width).
        timesteps: float32 (rows,).
        tokens: (rows, tokens, width); the very tensor of the step before where nothing changed.
        pooled: (rows, pooled width).
        guidance: float32 (rows,), for a model that has it embedded.
        negative: bool (rows,), which rows are of negative prompts; None: none.
        beside: float32 (rows, further channels, height, width), what a network for inpainting
            takes beside the latents: the mask, 1 where it is redrawn, and the latents of what is
            seen of the picture.
        loras: what changes the network's layers for some rows; None: nothing.
    """

    latents: Tensor
    timesteps: Tensor
    tokens: Tensor
    pooled: Tensor | None = None
    guidance: Tensor | None = None
    negative: Tensor | None = None
    controls: tuple[ControlInput, ...] = ()
    beside: Tensor | None = None
    loras: RowLoras | None = None
