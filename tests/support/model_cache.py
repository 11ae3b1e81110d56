"""Models that are made up, and a worker's copies of them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from sfumato.adapters.models.cache import ModelCache
from sfumato.adapters.models.sources import RangeSource
from sfumato.core.errors import Unavailable
from sfumato.core.models import ModelFile, ModelInfo, ModelLayout

MIB = 1 << 20


def model_of(name: str, *sizes: int, fill: str = "") -> ModelInfo:
    """A model of files that :class:`Made` makes up."""
    files = [ModelFile(f"part/{n}.bin", size) for n, size in enumerate(sizes)]
    info = ModelInfo(name, "sd1", ModelLayout.DIFFUSERS, "", source=f"{fill or name}/")
    return replace(
        info,
        files=tuple(
            replace(file, sha256=hashlib.sha256(content_of(info, file)).hexdigest())
            for file in files
        ),
    )


def content_of(model: ModelInfo, file: ModelFile) -> bytes:
    return made_up(f"{model.source}{file.path}", file.size_bytes)


@lru_cache
def made_up(name: str, size: int) -> bytes:
    seed = hashlib.sha256(name.encode()).digest()
    return (seed * (size // 32 + 1))[:size]


class Made:
    """A source of made-up content; its ranges can be held, refused or spoilt."""

    def __init__(self, model: ModelInfo) -> None:
        self.model = model
        self.reads: list[tuple[str, int]] = []
        self.refusals = 0
        self.before: Callable[[ModelFile, int], object] = lambda file, start: None
        self.spoilt: str | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.begun = asyncio.Event()

    async def read(self, file: ModelFile, start: int, end: int) -> bytes:
        self.begun.set()
        await self.gate.wait()
        self.reads.append((file.path, start))
        self.before(file, start)
        if self.refusals:
            self.refusals -= 1
            raise Unavailable("not now")
        data = content_of(self.model, file)[start:end]
        return bytes(len(data)) if self.spoilt == file.path else data


def cache_of(folder: Path, *sources: Made, budget: int = 1 << 40) -> ModelCache:
    by_name = {source.model.name: source for source in sources}

    async def latest(model: ModelInfo) -> ModelInfo:
        return by_name[model.name].model

    def source_of(model: ModelInfo) -> RangeSource:
        return by_name[model.name]

    return ModelCache(folder, budget=budget, source_of=source_of, latest=latest)


def ignore(done: int, total: int) -> None:
    pass


def left_over(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / ".partial").glob("*"))


def whole_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if not path.name.startswith(".")]


def read(path: str) -> bytes:
    return Path(path).read_bytes()


def check(model: ModelInfo, local: ModelInfo) -> None:
    for file in model.files:
        assert (Path(local.path) / file.path).read_bytes() == content_of(model, file)


async def use(cache: ModelCache, model: ModelInfo) -> ModelInfo:
    async with cache.hold([model], ignore) as (local,):
        return local
