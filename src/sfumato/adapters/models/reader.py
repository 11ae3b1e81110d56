"""The ``ModelReader`` port: models on disk are read here, those of a bucket have URLs of its own."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from sfumato.adapters.models.sources import BucketSource, FileSource, RangeSource
from sfumato.adapters.models.store import ModelStore
from sfumato.core.errors import Unavailable
from sfumato.core.models import ModelFile, ModelInfo, ModelLayout


class CatalogModelReader:
    """Reads what the catalogue lists.

    Args:
        store: the bucket of those models that have a ``source``; None: there is none.
    """

    def __init__(self, store: ModelStore | None = None) -> None:
        self._store = store

    async def marked(self, model: ModelInfo) -> ModelInfo:
        if model.source or all(file.sha256 for file in model.files):
            return model
        return await asyncio.to_thread(_with_versions, model)

    async def download_url(
        self, model: ModelInfo, file: ModelFile, *, expires: float
    ) -> str | None:
        if not model.source or self._store is None:
            return None
        return await self._store.download_url(f"{model.source}{file.path}", expires=expires)

    async def read(self, model: ModelInfo, file: ModelFile, start: int, end: int) -> bytes:
        return await self._source(model).read(file, start, end)

    def _source(self, model: ModelInfo) -> RangeSource:
        if not model.source:
            return FileSource(_folder(model))
        if self._store is None:
            raise Unavailable(f"The bucket of the model {model.name!r} is not known here.")
        return BucketSource(self._store, model.source)


def _folder(model: ModelInfo) -> Path:
    path = Path(model.path)
    return path.parent if model.layout is ModelLayout.CHECKPOINT else path


def _with_versions(model: ModelInfo) -> ModelInfo:
    """Its modification time stands for a file's content where no digest does."""
    folder = _folder(model)

    def marked(file: ModelFile) -> ModelFile:
        try:
            return replace(file, version=str((folder / file.path).stat().st_mtime_ns))
        except OSError:
            return file  # whoever reads it will be told

    return replace(model, files=tuple(marked(file) for file in model.files))
