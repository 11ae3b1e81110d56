"""Models that a path names."""

from __future__ import annotations

from sfumato.core.errors import NotFound, UnknownModel
from sfumato.core.models import ModelInfo
from sfumato.core.ports import ModelCatalog
from sfumato.services.models import find_model


async def known_model(catalog: ModelCatalog, name: str) -> ModelInfo:
    """The base model of that name.

    Raises ``NotFound``, since a path that names no model leads nowhere, or ``ModelRefused``.
    """
    try:
        return await find_model(catalog, name)
    except UnknownModel as error:
        raise NotFound(error.message, field="model", accepted=error.accepted) from None
