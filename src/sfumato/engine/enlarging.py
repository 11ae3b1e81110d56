"""The upscaler that a task names, ready to be used."""

from __future__ import annotations

from torch import Tensor

from sfumato.core.errors import NumericalError
from sfumato.core.models import ModelKind
from sfumato.core.ports import ImageTask
from sfumato.core.sizes import Size
from sfumato.engine.networks import Networks
from sfumato.engine.resampling import cover
from sfumato.engine.upscalers import load_upscaler
from sfumato.engine.upscaling import upscale


class Enlarging:
    """Brings pictures to one size by an upscaler.

    Args:
        size: width and height in pixels.

    Raises:
        ModelRefused, ModelUnusable: the upscaler can't be loaded.
        EngineFailure: whoever made the task left it out.
    """

    def __init__(self, task: ImageTask, networks: Networks, upscaler: str, size: Size) -> None:
        self._info = task.extra(ModelKind.UPSCALER, upscaler)
        self._networks = networks
        self._size = size
        self._upscaler = networks.extra(self._info, load_upscaler)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Pixels (3, h, w) in 0 … 1 at the size, proportions kept; float32 on the CPU.

        Raises:
            NumericalError: the network overflows in float32, too.
        """
        width, height = self._size
        scale = max(1.0, width / pixels.shape[2], height / pixels.shape[1])
        try:
            enlarged = upscale(pixels, self._upscaler, scale)
        except NumericalError:
            precise = self._networks.extra(self._info, load_upscaler, precise=True)
            if precise is self._upscaler:
                raise
            enlarged = upscale(pixels, precise, scale)
        return cover(enlarged, width, height)
