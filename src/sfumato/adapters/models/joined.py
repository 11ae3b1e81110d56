"""Several catalogues as one."""

from __future__ import annotations

import asyncio
import contextlib
import operator
from collections.abc import Sequence
from dataclasses import replace

from sfumato.adapters.models.folders import ModelKey, free_name
from sfumato.core.errors import UnknownModel
from sfumato.core.finding import choose_model
from sfumato.core.models import ModelInfo, ModelKind
from sfumato.core.ports import ModelCatalog


class JoinedModelCatalog:
    """Implements :class:`sfumato.core.ports.ModelCatalog` over others.

    Args:
        catalogs: a name that comes twice in a kind is the first one's; the second is numbered.
        default: name of the default model.
    """

    def __init__(self, catalogs: Sequence[ModelCatalog], *, default: str) -> None:
        self._catalogs = tuple(catalogs)
        self._default = default
        self._seen: tuple[Sequence[ModelInfo], ...] = ()
        self._listed: tuple[ModelInfo, ...] = ()

    def list(self) -> Sequence[ModelInfo]:
        seen = tuple(catalog.list() for catalog in self._catalogs)
        known = len(seen) == len(self._seen) and all(map(operator.is_, seen, self._seen))
        if not known:
            models: dict[ModelKey, ModelInfo] = {}
            for info in (info for listed in seen for info in listed):
                key = free_name(info, models)
                models[key] = replace(info, name=key[1])
            self._seen, self._listed = seen, tuple(models.values())
        return self._listed

    def get(self, name: str | None, kind: ModelKind = ModelKind.BASE) -> ModelInfo:
        chosen = name or (self._default if kind is ModelKind.BASE else "")
        for catalog in self._catalogs:
            with contextlib.suppress(UnknownModel):
                return catalog.get(chosen, kind)
        return choose_model(self.list(), chosen, kind)

    async def refresh(self, *, max_age: float = 0.0) -> None:
        looks = (catalog.refresh(max_age=max_age) for catalog in self._catalogs)
        outcomes = await asyncio.gather(*looks, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
