"""Finding a model by its name, also one that was added a moment ago."""

from __future__ import annotations

from sfumato.core.errors import ModelRefused, UnknownModel
from sfumato.core.models import ModelInfo
from sfumato.core.ports import ModelCatalog


async def find_model(catalog: ModelCatalog, name: str | None) -> ModelInfo:
    """The model of that name; None: the default one.

    The catalogue answers from what it knows. Only where that is no, it looks anew: the model may
    have been added a moment ago. One look serves all who ask meanwhile, so strangers' names cost one
    listing at a time.

    Raises:
        UnknownModel, ModelRefused: as the catalogue does.
        Unavailable: the model is not known, and the place where it may be does not answer.
    """
    try:
        return catalog.get(name)
    except (UnknownModel, ModelRefused):
        await catalog.refresh()
        return catalog.get(name)
