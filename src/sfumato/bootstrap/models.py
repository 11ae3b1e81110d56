"""Which models there are, by settings, and how one is added or removed.

What only a bucket needs is imported where there is one, so that a worker beside its models starts
no later for it.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import sfumato
from sfumato.adapters.models import FolderModelCatalog
from sfumato.bootstrap.images import bucket_options
from sfumato.core.errors import StartupRefused
from sfumato.core.models import ModelInfo, ModelKind
from sfumato.core.planning import Plan, plan
from sfumato.core.ports import BytesProgress, ModelCatalog, ModelFiles
from sfumato.settings import Settings

if TYPE_CHECKING:
    from sfumato.adapters.models.origins import Origin
    from sfumato.adapters.models.publishing import ModelShelf
    from sfumato.adapters.models.store import ModelStore

STARTER = Path(sfumato.__file__).parent / "weights" / "starter"


def open_catalog(settings: Settings) -> ModelCatalog:
    """The built-in model, the bucket's if there is one, and those in local folders.

    Looks into the bucket once, so it may take a moment.

    Raises:
        StartupRefused: ``SFUMATO_MODELS_URL`` is wrong, or its bucket refuses us.
        Unavailable: the bucket does not answer.
    """
    if settings.models_bucket is None:
        if settings.models_url is not None and not settings.resolved_models_folder.is_dir():
            raise StartupRefused(
                f"There is no folder {settings.resolved_models_folder}. Make it, or set "
                "SFUMATO_MODELS_URL to the folder or bucket where models are.",
                field="models_url",
            )
        return FolderModelCatalog(
            settings.resolved_model_folders, builtin=STARTER, default=settings.default_model
        )
    from sfumato.adapters.models.buckets import BucketModelCatalog  # noqa: PLC0415
    from sfumato.adapters.models.joined import JoinedModelCatalog  # noqa: PLC0415

    store = open_model_store(settings.models_bucket, settings)
    return JoinedModelCatalog(
        [
            FolderModelCatalog([], builtin=STARTER),
            BucketModelCatalog(store),
            FolderModelCatalog(settings.resolved_model_folders),
        ],
        default=settings.default_model,
    )


def open_model_files(settings: Settings, catalog: ModelCatalog) -> ModelFiles | None:
    """What brings models to a worker of this machine; None when all of them are on its disk."""
    if settings.models_bucket is None:
        return None
    from sfumato.adapters.models.cache import ModelCache  # noqa: PLC0415
    from sfumato.adapters.models.sources import BucketSource  # noqa: PLC0415

    store = open_model_store(settings.models_bucket, settings)

    async def latest(model: ModelInfo) -> ModelInfo:
        await catalog.refresh()
        return catalog.get(model.name, model.kind)

    return ModelCache(
        settings.resolved_model_cache,
        budget=settings.model_cache_bytes,
        source_of=lambda model: BucketSource(store, model.source),
        latest=latest,
    )


def plan_model(settings: Settings, name: str, *, size: tuple[int, int] | None, batch: int) -> Plan:
    """What memory a model of this machine needs on a GPU.

    Args:
        size: width and height of its pictures; None: the model's own.

    Raises:
        UnknownModel, ModelRefused: there is none of that name, or it must not be loaded.
        InvalidRequest: its files lie elsewhere, or the size is none.
    """
    from sfumato.adapters.models.weighing import weigh  # noqa: PLC0415 - for this alone

    model = open_catalog(settings).get(name)
    width, height = size or (model.defaults.width, model.defaults.height)
    return plan(model.name, model.family, weigh(model), width=width, height=height, batch=batch)


def add_model(
    settings: Settings,
    origin: str,
    *,
    name: str | None,
    replacing: bool,
    progress: Callable[[str], BytesProgress],
) -> ModelInfo:
    """Copy a model to where this service keeps its models.

    Args:
        origin: a path, a bucket's URL, or ``hf:owner/name``.
        name: what it is to be called; None: its own name.
        progress: given a phase in words, answers what takes its bytes.

    Raises:
        ModelRefused: a pickle, or a family without code; nothing was copied.
        Conflict: there is one of that name already.
        NotFound, InvalidRequest, Unavailable: as the origin tells.
    """
    found = _look_at(settings, origin)
    model = found.info if name is None else replace(found.info, name=name)
    shelf = open_shelf(settings)
    return asyncio.run(
        _add(shelf, found, model, replacing=replacing, progress=progress, settings=settings)
    )


async def _add(
    shelf: ModelShelf,
    origin: Origin,
    model: ModelInfo,
    *,
    replacing: bool,
    progress: Callable[[str], BytesProgress],
    settings: Settings,
) -> ModelInfo:
    from sfumato.adapters.models.fetching import fetch  # noqa: PLC0415
    from sfumato.adapters.models.publishing import already_there, checked_name  # noqa: PLC0415

    if await shelf.holds(checked_name(model.name), model.kind) and not replacing:
        raise already_there(model)
    if origin.folder is not None:
        return await shelf.add(model, origin.folder, progress("copying"), replacing=replacing)
    settings.data.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".adding-", dir=settings.data))
    try:
        async with origin.source() as source:
            await fetch(source, model.files, staging, progress("fetching"))
        return await shelf.add(model, staging, progress("copying"), replacing=replacing)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def remove_model(settings: Settings, name: str, kind: ModelKind) -> int:
    """Delete a model from where this service keeps its models; answers how many files it had.

    Raises:
        NotFound: there is none of that kind and name.
    """
    return asyncio.run(open_shelf(settings).remove(name, kind))


def open_shelf(settings: Settings) -> ModelShelf:
    """Where models are added. Raises ``StartupRefused``."""
    from sfumato.adapters.models.publishing import BucketShelf, FolderShelf  # noqa: PLC0415

    if settings.models_bucket is None:
        return FolderShelf(settings.resolved_models_folder)
    return BucketShelf(open_model_store(settings.models_bucket, settings))


def open_model_store(url: str, settings: Settings) -> ModelStore:
    """The bucket of models. Nothing is asked of it yet."""
    from sfumato.adapters.models.store import ModelStore  # noqa: PLC0415

    return ModelStore.open(url, bucket_options(url, settings))


def _look_at(settings: Settings, origin: str) -> Origin:
    from sfumato.adapters.models import origins  # noqa: PLC0415

    if origin.startswith("hf:"):
        return origins.from_hub(origin.removeprefix("hf:").removeprefix("//"))
    if "://" in origin and not origin.startswith("file://"):
        return origins.from_bucket(origin, bucket_options(origin, settings))
    return origins.from_disk(Path(origin.removeprefix("file://")))
