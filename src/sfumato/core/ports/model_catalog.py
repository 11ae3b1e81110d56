"""Which models there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sfumato.core.models import ModelInfo


class ModelCatalog(Protocol):
    """Which models there are, told without loading one. Cheap enough for every request.

    ``list`` and ``get`` never wait for a network: what they tell may be some seconds old.
    """

    def list(self) -> Sequence[ModelInfo]: ...

    def get(self, name: str | None) -> ModelInfo:
        """The model of that name; None: the default model.

        Raises ``UnknownModel`` or ``ModelRefused``.
        """
        ...

    async def refresh(self, *, max_age: float = 0.0) -> None:
        """Look anew, unless that was done in the last ``max_age`` seconds.

        Raises ``Unavailable``; the catalogue then goes on with what it knew.
        """
        ...
