"""Several catalogues as one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import replace

from sfumato.adapters.models.folders import free_name
from sfumato.core.errors import UnknownModel
from sfumato.core.models import ModelInfo, choose_model
from sfumato.core.ports import ModelCatalog


class JoinedModelCatalog:
    """Implements :class:`sfumato.core.ports.ModelCatalog` over others.

    Args:
        catalogs: a name that comes twice is the first one's; the second is numbered.
        default: name of the default model.
    """

    def __init__(self, catalogs: Sequence[ModelCatalog], *, default: str) -> None:
        self._catalogs = tuple(catalogs)
        self._default = default

    def list(self) -> Sequence[ModelInfo]:
        models: dict[str, ModelInfo] = {}
        for catalog in self._catalogs:
            for info in catalog.list():
                name = free_name(info.name, models)
                models[name] = replace(info, name=name)
        return list(models.values())

    def get(self, name: str | None) -> ModelInfo:
        chosen = name or self._default
        for catalog in self._catalogs:
            with contextlib.suppress(UnknownModel):
                return catalog.get(chosen)
        return choose_model(self.list(), chosen)

    async def refresh(self, *, max_age: float = 0.0) -> None:
        looks = (catalog.refresh(max_age=max_age) for catalog in self._catalogs)
        outcomes = await asyncio.gather(*looks, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
