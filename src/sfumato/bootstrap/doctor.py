"""``sfumato doctor``: what is installed, which device would draw, what would run, what is wrong."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import platform
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from urllib.parse import urlsplit

import sfumato
from sfumato.adapters.sql import Database
from sfumato.bootstrap.folder import running_service
from sfumato.bootstrap.images import open_images
from sfumato.bootstrap.models import open_catalog
from sfumato.bootstrap.parts import SystemClock, runtimes_of
from sfumato.bootstrap.queues import open_broker
from sfumato.bootstrap.tasks import open_tasks
from sfumato.core.errors import SfumatoError
from sfumato.core.finding import KIND_WORDS
from sfumato.core.models import ModelKind
from sfumato.settings import Settings

_ENGINE_PACKAGES = ("torch", "diffusers", "transformers", "safetensors", "pillow", "numpy")
_LOW_DISK = 1 << 30


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. ``problem``: what is wrong and what to do; None when all is well."""

    name: str
    value: str
    problem: str | None = None


def doctor(settings: Settings) -> list[Finding]:
    """Look at everything a first picture needs; changes nothing but an out-of-date schema
    and the queues that a broker lacks."""
    return [
        Finding("sfumato", sfumato.__version__),
        Finding("python", f"{platform.python_version()} on {platform.platform()}"),
        Finding("cores", str(os.cpu_count())),
        *_engine(),
        *_device(settings),
        *_folder(settings),
        *_database(settings),
        *_queue(settings),
        *_tasks(settings),
        *_images(settings),
        *_models(settings),
    ]


def _engine() -> Iterator[Finding]:
    for package in _ENGINE_PACKAGES:
        try:
            yield Finding(package, version(package))
        except PackageNotFoundError:
            yield Finding(
                package,
                "not installed",
                "A worker needs it: pip install 'sfumato[engine]'. The service alone does not.",
            )


def _device(settings: Settings) -> Iterator[Finding]:
    if settings.device.startswith("fake"):
        yield Finding("device", settings.device, "It draws patterns, not pictures.")
        return
    if importlib.util.find_spec("torch") is None:
        return
    from sfumato.engine.devices import describe_device  # noqa: PLC0415 - imports torch

    try:
        yield Finding("device", describe_device(settings.device))
    except SfumatoError as error:
        yield Finding("device", settings.device, error.message)


def _folder(settings: Settings) -> Iterator[Finding]:
    folder = settings.data
    nearest = next(parent for parent in (folder, *folder.parents) if parent.exists())
    writable = os.access(nearest, os.W_OK)
    yield Finding(
        "data folder",
        str(folder),
        None if writable else f"{nearest} can't be written; give another with --data.",
    )
    free = shutil.disk_usage(nearest).free
    yield Finding(
        "free disk",
        f"{free / 2**30:.1f} GiB",
        "Pictures and jobs may not fit; free some." if free < _LOW_DISK else None,
    )
    yield Finding("service", running_service(settings) or "not running")


def _database(settings: Settings) -> Iterator[Finding]:
    if not settings.data.exists() and settings.database_url is None:
        yield Finding("database", "will be made at the first start")
        return
    try:
        Database.check(settings.resolved_database_url)
    except SfumatoError as error:
        yield Finding("database", "unusable", error.message)
    else:
        yield Finding("database", "answers")


def _queue(settings: Settings) -> Iterator[Finding]:
    if settings.queue_url is None:
        yield Finding("queue", "in the database")
        return
    try:
        asyncio.run(_try_queue(settings, settings.queue_url))
    except SfumatoError as error:
        yield Finding("queue", "unusable", error.message)
    else:
        parts = urlsplit(settings.queue_url)
        yield Finding("queue", f"{parts.scheme}://{parts.hostname} answers")


async def _try_queue(settings: Settings, url: str) -> None:
    runtimes = [runtime.name for runtime in runtimes_of(settings)]
    queue = await open_broker(settings, url, SystemClock(), runtimes)
    try:
        for runtime in runtimes:
            await queue.depth(runtime)
    finally:
        await queue.close()


def _tasks(settings: Settings) -> Iterator[Finding]:
    if settings.tasks_url is None:
        return
    try:
        asyncio.run(_try_tasks(settings))
    except SfumatoError as error:
        yield Finding("tasks", "unusable", error.message)
    else:
        yield Finding("tasks", "can be taken, and results stored")


async def _try_tasks(settings: Settings) -> None:
    async with open_tasks(settings, SystemClock()):
        return


def _images(settings: Settings) -> Iterator[Finding]:
    if settings.images_url is None and not settings.data.exists():
        yield Finding("pictures", "their folder will be made at the first start")
        return
    try:
        images = open_images(settings)
        asyncio.run(images.check())
    except SfumatoError as error:
        yield Finding("pictures", "unusable", error.message)
    else:
        yield Finding("pictures", images.place)


def _models(settings: Settings) -> Iterator[Finding]:
    place = settings.models_bucket or str(settings.resolved_models_folder)
    try:
        models = open_catalog(settings).list()
    except SfumatoError as error:
        yield Finding("models", place, error.message)
        return
    yield Finding("models", place)
    bases = [model for model in models if model.kind is ModelKind.BASE]
    for model in bases:
        yield Finding(f"model {model.name}", model.title or model.family, model.refusal)
    for kind, count in Counter(model.kind for model in models).items():
        refused = sum(model.refusal is not None for model in models if model.kind is kind)
        if kind is not ModelKind.BASE:
            beside = f", {refused} refused: `sfumato models list --kind {kind}`" if refused else ""
            yield Finding(f"{KIND_WORDS[kind]}s", f"{count}{beside}")
    if settings.default_model not in {model.name for model in bases}:
        yield Finding(
            "default model",
            settings.default_model,
            "There is no such model; set SFUMATO_DEFAULT_MODEL to one of the above.",
        )
