"""How a model's files go to a worker that has no key to where they lie."""

from __future__ import annotations

from typing import Protocol

from sfumato.core.models import ModelFile, ModelInfo


class ModelReader(Protocol):
    """Reads the files of the catalogue's models. Raises ``ModelUnusable`` or ``Unavailable``."""

    async def marked(self, model: ModelInfo) -> ModelInfo:
        """The model with a digest or a version for each file, so that two contents of a name
        can be told apart."""
        ...

    async def download_url(
        self, model: ModelInfo, file: ModelFile, *, expires: float
    ) -> str | None:
        """A URL from which anybody can read the file for ``expires`` seconds; None where there is
        no such thing, as for a folder."""
        ...

    async def read(self, model: ModelInfo, file: ModelFile, start: int, end: int) -> bytes:
        """Bytes ``start`` to ``end`` (excluded)."""
        ...
