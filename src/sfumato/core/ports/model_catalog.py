"""Which models there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sfumato.core.models import ModelInfo, ModelKind


class ModelCatalog(Protocol):
    """Which models there are, told without loading one. Cheap enough for every request.

    ``list`` and ``get`` never wait for a network: what they tell may be some seconds old.
    """

    def list(self) -> Sequence[ModelInfo]:
        """Every model of every kind. Names are unique within a kind."""
        ...

    def get(self, name: str | None, kind: ModelKind = ModelKind.BASE) -> ModelInfo:
        """The model of that name and kind; None: the default model, which is a base model.

        Raises ``UnknownModel`` or ``ModelRefused``.
        """
        ...

    async def refresh(self, *, max_age: float = 0.0) -> None:
        """Look anew, unless that was done in the last ``max_age`` seconds.

        Raises ``Unavailable``; the catalogue then goes on with what it knew.
        """
        ...
