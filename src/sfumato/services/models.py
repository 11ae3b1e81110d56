"""Finding a model by its name, also one that was added a moment ago."""

from __future__ import annotations

from sfumato.core.errors import ModelRefused, UnknownModel
from sfumato.core.models import ModelInfo
from sfumato.core.ports import ModelCatalog


async def find_model(catalog: ModelCatalog, name: str | None, *, max_age: float) -> ModelInfo:
    """The model of that name; None: the default one.

    The catalogue answers from what it knows. Only where that is no, it looks anew, unless it did
    so in the last ``max_age`` seconds.

    Raises:
        UnknownModel, ModelRefused: as the catalogue does.
        Unavailable: the model is not known, and the place where it may be does not answer.
    """
    try:
        return catalog.get(name)
    except (UnknownModel, ModelRefused):
        await catalog.refresh(max_age=max_age)
        return catalog.get(name)
