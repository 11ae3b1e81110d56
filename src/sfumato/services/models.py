"""Finding a model by its name, and what a request needs beside it, also what was added a moment ago."""

from __future__ import annotations

from sfumato.core.errors import ModelRefused, UnknownModel
from sfumato.core.finding import find_extras
from sfumato.core.job import Job
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


async def find_beside(catalog: ModelCatalog, job: Job, base: ModelInfo) -> tuple[ModelInfo, ...]:
    """What :func:`sfumato.core.finding.find_extras` finds for a job, looked for as in
    :func:`find_model`.

    Raises as both do.
    """
    try:
        return _beside(catalog, job, base)
    except (UnknownModel, ModelRefused):
        await catalog.refresh()
        return _beside(catalog, job, base)


async def models_of(catalog: ModelCatalog, job: Job) -> tuple[ModelInfo, tuple[ModelInfo, ...]]:
    """The model that a job was settled on, and what it needs beside it. Raises as the two above."""
    base = await find_model(catalog, job.settings.model)
    return base, await find_beside(catalog, job, base)


def _beside(catalog: ModelCatalog, job: Job, base: ModelInfo) -> tuple[ModelInfo, ...]:
    safety = job.settings.safety_checker
    found = find_extras(job.request, base, catalog.list(), safety=safety)
    # A listing may be some moments old; this looks at the very files.
    return tuple(catalog.get(model.name, model.kind) for model in found)
