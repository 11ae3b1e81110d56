"""Which models there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sfumato.core.models import ModelInfo


class ModelCatalog(Protocol):
    """Which models there are, told without loading one. Cheap enough for every request."""

    def list(self) -> Sequence[ModelInfo]: ...

    def get(self, name: str | None) -> ModelInfo:
        """The model of that name; None: the default model.

        Raises ``UnknownModel`` or ``ModelRefused``.
        """
        ...
