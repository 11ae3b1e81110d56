"""How a model's files come to the machine that draws with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from sfumato.core.models import ModelInfo

#: Called on the event loop with the bytes that are here, and those of all that is brought.
BytesProgress = Callable[[int, int], None]


class ModelFiles(Protocol):
    def hold(
        self, models: Sequence[ModelInfo], progress: BytesProgress
    ) -> AbstractAsyncContextManager[Sequence[ModelInfo]]:
        """Bring a model and what is used beside it here, whole and checked, and keep all of it for
        as long as the block runs.

        Gives them in their order, with their local ``path``. One that is on disk already is given
        as it is, at no cost. Whoever waits for room holds nothing meanwhile, so that no two wait
        for each other.

        Raises:
            ModelUnusable: a file is not what the catalogue says, or is gone; nothing is kept.
            StorageFull: this machine's disk takes no more.
            Unavailable: the place it lies in does not answer.
        """
        ...
