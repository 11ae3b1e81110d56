"""The stages of a picture: each draws with one model, at one size, down one sampler's table.

Most pictures have one stage. After the last step of a stage the slot goes on to the next, which has
a batch key of its own: hires fix draws small, enlarges, and draws over it at the larger size; a
refiner finishes what another model began.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from sfumato.engine.additions import NOTHING, Additions
from sfumato.engine.conditioning import Conditioning
from sfumato.engine.control import SlotControl
from sfumato.engine.families.vaes import Vae
from sfumato.engine.masks import Kept
from sfumato.engine.networks import Networks
from sfumato.engine.samplers import SamplerTable


class BatchKey(NamedTuple):
    """What changes the network's shape: slots of equal key may share a step.

    ``precise``: in float32, whatever the engine's dtype is. ``controls``: hashes of the ControlNets
    that steer, in order. ``fixed_rows``: how many rows every step has, whoever shares it; 0: as
    many as its slots take.
    """

    model: str
    latent_shape: tuple[int, int, int]
    prompt_tokens: int
    precise: bool = False
    controls: tuple[str, ...] = ()
    fixed_rows: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Beginning:
    """What a stage begins with. All are float32, on the engine's device.

    Attributes:
        latents: (channels, height, width), at the noise level of the table's first row and in the
            network's own space.
        kept: where a part alone is redrawn, the rest.
        beside: (channels, height, width), what a network for inpainting takes beside the latents.
    """

    latents: Tensor
    kept: Kept | None = None
    beside: Tensor | None = None


class Origin(Protocol):
    """How a stage begins."""

    def begin(
        self,
        stage: Stage,
        before: Beginning | None,
        generator: torch.Generator,
        networks: Networks,
    ) -> Beginning:
        """Make the first latents.

        Args:
            before: what the stage before began with, its finished latents in place of the first;
                None for the first stage.
            generator: the slot's own source of noise.

        Raises:
            EngineError, InvalidRequest: it concerns this slot alone.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """One stage. Nothing in it changes while it is drawn.

    Attributes:
        key: the batch key of a slot while it is in this stage; it names the model.
        width, height: what is drawn, in pixels.
        guidance_scale: what a model that has guidance embedded is told.
        asked: which of the steps asked for it takes: from the first, counted from 0, up to the
            second. Prompts that change by the step follow it.
        controls: as the key names them.
        vae: in place of the model's own.
        additions: LoRAs of its model, and what its prompts were read with.
    """

    key: BatchKey
    width: int
    height: int
    table: SamplerTable
    conditioning: Conditioning
    guidance_scale: float
    asked: tuple[int, int]
    origin: Origin
    controls: tuple[SlotControl, ...] = ()
    vae: Vae | None = None
    additions: Additions = NOTHING

    def __len__(self) -> int:
        """How many steps it takes: evaluations of the network."""
        return len(self.table)

    def asked_step(self, place: int) -> int:
        """The step, of those asked for, that the evaluation after ``place`` others is part of."""
        first, end = self.asked
        return first + place * (end - first) // len(self)
