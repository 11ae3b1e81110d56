"""How a stage begins: from noise, from a picture, from what the stage before has drawn.

The order in which noise is drawn is that of diffusers' pipelines, so that one seed draws one
picture here and there.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from sfumato.core.edits import Fill
from sfumato.core.errors import EngineFailure
from sfumato.core.ports import ImageTask
from sfumato.engine.canvas import Canvas
from sfumato.engine.masks import Kept, hard, latent_mask, seen_through
from sfumato.engine.networks import Networks
from sfumato.engine.noises import draw, first_noise
from sfumato.engine.stages import Beginning, Stage


class FromNoise:
    """Noise alone, as text-to-image begins. A network for inpainting is told that all is redrawn."""

    def __init__(self, task: ImageTask) -> None:
        self._task = task

    def begin(
        self,
        stage: Stage,
        before: Beginning | None,
        generator: torch.Generator,
        networks: Networks,
    ) -> Beginning:
        del before
        noise = first_noise(self._task, stage.key.latent_shape, generator, networks.device)
        beside = _beside(stage, None, None, generator, networks)
        return Beginning(noise * stage.table.initial_scale, beside=beside)


class FromPicture:
    """A picture with noise over it, as image-to-image and inpainting begin.

    Where a part alone is redrawn, and wholly anew, it begins with noise alone, as diffusers does.
    """

    def __init__(self, task: ImageTask, canvas: Canvas) -> None:
        self._task = task
        self._canvas = canvas

    def begin(
        self,
        stage: Stage,
        before: Beginning | None,
        generator: torch.Generator,
        networks: Networks,
    ) -> Beginning:
        del before
        model = networks.model(stage.key.model, precise=stage.key.precise)
        picture, mask = self._canvas.picture, self._canvas.mask
        if mask is not None:
            mask = hard(mask)
        from_noise = mask is not None and self._task.settings.strength == 1
        finished = None
        if not (from_noise and model.inpaints):
            finished = networks.encode(stage, picture, generator)
        noise = first_noise(self._task, stage.key.latent_shape, generator, networks.device)
        beside = _beside(stage, picture, mask, generator, networks)
        cells = None
        if finished is not None and mask is not None:
            cells = latent_mask(mask, model.latent_scale).to(networks.device)
            finished = _filled(finished, cells, self._canvas.fill, generator)
        if from_noise or finished is None:
            latents = noise * stage.table.initial_scale
        else:
            latents = _mixed(stage, finished, noise)
        kept = None
        if cells is not None and finished is not None and not model.inpaints:
            kept = Kept(finished, noise, cells > 0)
        return Beginning(latents, kept, beside)


class Enlarged:
    """What the stage before has drawn, at this stage's size and with noise over it: hires fix.

    Args:
        enlarge: pixels (3, height, width) in 0 … 1 to this stage's size; None: the latents
            themselves are interpolated.
    """

    def __init__(self, size: tuple[int, int], enlarge: Callable[[Tensor], Tensor] | None) -> None:
        self._size = size
        self._enlarge = enlarge

    def begin(
        self,
        stage: Stage,
        before: Beginning | None,
        generator: torch.Generator,
        networks: Networks,
    ) -> Beginning:
        if before is None:
            raise EngineFailure("There is nothing to enlarge before the first stage.")
        key = stage.key
        if self._enlarge is None:
            finished = functional.interpolate(
                before.latents[None], size=key.latent_shape[1:], mode="bilinear"
            )[0]
        else:
            width, height = self._size
            drawn = networks.decode(stage, before.latents[None])[0, :, :height, :width]
            pixels = self._enlarge(drawn)
            finished = networks.encode(stage, pixels, generator)
        noise = draw(key.latent_shape, generator, networks.device)
        beside = _beside(stage, None, None, generator, networks)
        return Beginning(_mixed(stage, finished, noise), beside=beside)


def _mixed(stage: Stage, finished: Tensor, noise: Tensor) -> Tensor:
    signal, of_noise = stage.table.begins
    return signal * finished + of_noise * noise


def _filled(finished: Tensor, cells: Tensor, fill: Fill, generator: torch.Generator) -> Tensor:
    """The latents with what stands below the mask; the other fills are done in the picture."""
    if fill is Fill.NOTHING:
        return finished * (1 - cells)
    if fill is Fill.NOISE:
        noise = draw(tuple(finished.shape), generator, finished.device)
        return torch.where(cells > 0, noise, finished)
    return finished


def _beside(
    stage: Stage,
    picture: Tensor | None,
    mask: Tensor | None,
    generator: torch.Generator,
    networks: Networks,
) -> Tensor | None:
    """Mask and latents for a network for inpainting; None for others.

    Without a mask all is redrawn and nothing is seen, as in A1111.
    """
    key = stage.key
    model = networks.model(key.model, precise=key.precise)
    if not model.inpaints:
        return None
    if picture is None or mask is None:
        picture = torch.full((3, stage.height, stage.width), 0.5)
        mask = torch.ones(1, stage.height, stage.width)
    seen = networks.encode(stage, seen_through(picture, mask), generator)
    cells = latent_mask(mask, model.latent_scale).to(networks.device)
    return torch.cat([cells, seen])
