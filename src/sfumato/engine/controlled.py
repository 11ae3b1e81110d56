"""The ControlNets of a task, found, checked, and given their pictures at each stage's size."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple
from weakref import WeakValueDictionary

from PIL import Image
from torch import Tensor

from sfumato.core.extras import Control
from sfumato.core.inputs import InputImage
from sfumato.core.models import ModelKind
from sfumato.core.ports import ImageTask
from sfumato.core.sizes import Size
from sfumato.engine.control import SlotControl, in_order, picture_for
from sfumato.engine.families.controlnets import load_controlnet
from sfumato.engine.families.sd import StableDiffusion
from sfumato.engine.images import fit
from sfumato.engine.networks import Networks
from sfumato.engine.pictures import open_picture


class Frame(NamedTuple):
    """Which part of the finished picture is drawn: ``box`` of one of ``size``, in pixels."""

    size: Size
    box: tuple[int, int, int, int]


class Controlled:
    """What a task's control pictures show.

    Args:
        frame: where a part alone is drawn: the control pictures are of the whole.
    """

    def __init__(self, task: ImageTask, frame: Frame | None = None) -> None:
        self._task = task
        self._frame = frame
        self._pictures: dict[InputImage, Image.Image] = {}

    def at(
        self, networks: Networks, model: StableDiffusion, size: Size, *, steps: int, precise: bool
    ) -> tuple[SlotControl, ...]:
        """For a stage that draws pixels of a size with a model, in so many steps.

        Raises:
            InvalidRequest: a ControlNet was not made for such models, or a picture can't be read.
            ModelUnusable: it can't be loaded.
        """
        latents = model.latent_channels, model.latent_scale
        controls = []
        for use in self._task.request.controls:
            info = self._task.extra(ModelKind.CONTROLNET, use.model)
            net = networks.extra(info, load_controlnet, precise=precise)
            net.check_fits(model.network_config, latents=latents, base=self._task.model.name)
            controls.append(SlotControl(net, self._picture(use, size, net.cell), use, steps))
        return in_order(controls)

    def _picture(self, use: Control, size: Size, cell: int) -> Tensor:
        key = use.image, self._frame, size, cell
        picture = _IN_USE.get(key)
        if picture is None:
            shown = self._shown(use.image)
            picture = _IN_USE[key] = picture_for(shown, size, cell)
        return picture

    def _shown(self, image: InputImage) -> Image.Image:
        """The part of a control picture that is drawn. Decoded once for all stages."""
        if image not in self._pictures:
            picture, _ = open_picture(self._task, image, field="controls")
            if self._frame is not None:
                picture = fit(picture, *self._frame.size).crop(self._frame.box)
            self._pictures[image] = picture
        return self._pictures[image]


#: What slots hold, by all that it follows from: the images of a job share it.
_IN_USE: WeakValueDictionary[Hashable, Tensor] = WeakValueDictionary()
