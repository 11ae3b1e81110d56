"""How a model's files come to the machine that draws with them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from sfumato.core.models import ModelInfo

#: Called on the event loop with the bytes that are here, and those of the whole model.
BytesProgress = Callable[[int, int], None]


class ModelFiles(Protocol):
    def hold(
        self, model: ModelInfo, progress: BytesProgress
    ) -> AbstractAsyncContextManager[ModelInfo]:
        """Bring the model here, whole and checked, and keep it for as long as the block runs.

        Gives the model with its local ``path``. One that is on disk already is given as it is,
        at no cost.

        Raises:
            ModelUnusable: a file is not what the catalogue says, or is gone; nothing is kept.
            StorageFull: this machine's disk takes no more.
            Unavailable: the place it lies in does not answer.
        """
        ...
