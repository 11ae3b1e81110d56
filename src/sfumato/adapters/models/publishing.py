"""Puts a model into the models' store, and takes it out again: whole, or not at all.

In a bucket the files of each version lie in a folder of their own, and the manifest is written
last: whoever looks sees the version before or the one after. In a local folder the model is
copied beside its place and renamed into it. Base models lie at the top, other kinds in a folder for
each, so that names need be unique within a kind alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from sfumato.adapters.models.extras import SHELF_FOLDERS
from sfumato.adapters.models.fetching import fetch, in_thread, synchronise
from sfumato.adapters.models.manifest import MANIFEST, Manifest
from sfumato.adapters.models.sources import FileSource
from sfumato.adapters.models.store import ModelStore
from sfumato.core.errors import Conflict, InvalidRequest, NotFound
from sfumato.core.finding import KIND_WORDS
from sfumato.core.models import ModelFile, ModelInfo, ModelKind
from sfumato.core.ports import BytesProgress

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_PIECE_BYTES = 4 << 20
_UPLOADS, _DELETES = 4, 16


class ModelShelf(Protocol):
    """Where published models stand."""

    async def add(
        self, model: ModelInfo, folder: Path, progress: BytesProgress, *, replacing: bool
    ) -> ModelInfo:
        """Publish ``model.files`` out of ``folder``.

        Raises:
            Conflict: there is one of that kind and name, and it is not to be replaced.
            InvalidRequest: the name can't be a folder's.
        """
        ...

    async def holds(self, name: str, kind: ModelKind) -> bool: ...

    async def remove(self, name: str, kind: ModelKind) -> int:
        """Take a model out; answers how many files it had. Raises ``NotFound``."""
        ...


class BucketShelf:
    """The models' bucket."""

    def __init__(self, store: ModelStore) -> None:
        self._store = store

    async def add(
        self, model: ModelInfo, folder: Path, progress: BytesProgress, *, replacing: bool
    ) -> ModelInfo:
        root = f"{SHELF_FOLDERS[model.kind]}{checked_name(model.name)}/"
        before = await self._keys(model.name, model.kind)
        if not replacing and not all(map(_unfinished, before)):
            raise already_there(model)
        model = replace(model, files=await digests(folder, model.files))
        version = f".{model.sha256[:16]}"
        counted = _Counter(model.files, progress)
        permits = asyncio.Semaphore(_UPLOADS)

        async def upload(file: ModelFile) -> None:
            async with permits:
                pieces = _pieces(folder / file.path, counted)
                key = f"{root}{version}/{file.path}"
                if file.size_bytes > _PIECE_BYTES:
                    await self._store.upload(key, pieces)
                else:
                    await self._store.put(key, b"".join([piece async for piece in pieces]))

        await asyncio.gather(*map(upload, model.files))
        manifest = Manifest(model, folder=version)
        await self._store.put(f"{root}{MANIFEST}", manifest.encode())
        kept = {f"{root}{MANIFEST}", *(f"{root}{version}/{file.path}" for file in model.files)}
        await self._delete([key for key in before if key not in kept])
        return replace(model, path="", source=f"{root}{version}/")

    async def holds(self, name: str, kind: ModelKind) -> bool:
        return not all(map(_unfinished, await self._keys(name, kind)))

    async def remove(self, name: str, kind: ModelKind) -> int:
        keys = await self._keys(name, kind)
        if not keys:
            raise NotFound(f"There is no {KIND_WORDS[kind]} {name!r} in {self._store.place}.")
        # What makes the model whole goes first: from then on nobody begins to use it.
        marks = [key for key in keys if key.endswith((f"/{MANIFEST}", "/model_index.json"))]
        await self._delete(marks)
        await self._delete([key for key in keys if key not in marks])
        return len(keys)

    async def _keys(self, name: str, kind: ModelKind) -> list[str]:
        """Every object of a model: its folder's, or the single file's and those beside it."""
        place = f"{SHELF_FOLDERS[kind]}{name}"
        single = {f"{place}{ending}" for ending in (".safetensors", ".json", ".yaml")}
        listing = await asyncio.to_thread(self._store.list)
        return [key for key in listing if key.startswith(f"{place}/") or key in single]

    async def _delete(self, keys: Sequence[str]) -> None:
        for first in range(0, len(keys), _DELETES):
            await asyncio.gather(*map(self._store.delete, keys[first : first + _DELETES]))


class FolderShelf:
    """A local folder; made when it is missing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def add(
        self, model: ModelInfo, folder: Path, progress: BytesProgress, *, replacing: bool
    ) -> ModelInfo:
        place = self._folder / SHELF_FOLDERS[model.kind] / checked_name(model.name)
        if self._paths(model.name, model.kind) and not replacing:
            raise already_there(model)
        model = replace(model, files=await digests(folder, model.files))
        coming = self._folder / f".adding-{model.name}-{model.sha256[:16]}"
        try:
            await in_thread(_remove, coming)
            coming.mkdir(parents=True)
            await fetch(FileSource(folder), model.files, coming, progress)
            (coming / MANIFEST).write_bytes(Manifest(model).encode())
            await in_thread(self._put_in_place, model, coming, place)
        finally:
            await in_thread(_remove, coming)
        return replace(model, path=str(place))

    async def holds(self, name: str, kind: ModelKind) -> bool:
        return bool(self._paths(name, kind))

    async def remove(self, name: str, kind: ModelKind) -> int:
        paths = self._paths(name, kind)
        if not paths:
            raise NotFound(f"There is no {KIND_WORDS[kind]} {name!r} in {self._folder}.")
        return await in_thread(self._take_away, paths)

    def _paths(self, name: str, kind: ModelKind) -> list[Path]:
        endings = ("", ".safetensors", ".json", ".yaml")
        paths = [self._folder / SHELF_FOLDERS[kind] / f"{name}{ending}" for ending in endings]
        return [path for path in paths if path.exists()]

    def _put_in_place(self, model: ModelInfo, coming: Path, place: Path) -> None:
        self._take_away(self._paths(model.name, model.kind))
        place.parent.mkdir(exist_ok=True)
        coming.rename(place)
        synchronise(place.parent)
        synchronise(self._folder)

    def _take_away(self, paths: Sequence[Path]) -> int:
        """Rename first: half a model must not be found."""
        count = 0
        for path in paths:
            leaving = self._folder / f".removing-{path.name}"
            _remove(leaving)
            path.rename(leaving)
            count += sum(1 for inner in leaving.rglob("*") if inner.is_file()) or 1
            _remove(leaving)
        return count


def _unfinished(key: str) -> bool:
    """Whether it is of a version that alone is no model yet, as one that broke off left it."""
    return "/." in key


def checked_name(name: str) -> str:
    if _NAME.fullmatch(name) is None or f"{name}/" in SHELF_FOLDERS.values():
        raise InvalidRequest(
            f"{name!r} can't be a model's name in the store.",
            field="name",
            accepted="letters, digits, '.', '_' and '-', and not the name of a kind's own folder; "
            "give another with --name",
        )
    return name


def already_there(model: ModelInfo) -> Conflict:
    return Conflict(
        f"The {KIND_WORDS[model.kind]} {model.name!r} is there already, and it is as it was. "
        "Replace it with --replace, or give this one another name with --name."
    )


async def digests(folder: Path, files: Sequence[ModelFile]) -> tuple[ModelFile, ...]:
    """The files with the SHA-256 of their content."""

    def digest(file: ModelFile) -> ModelFile:
        with (folder / file.path).open("rb") as stream:
            return replace(
                file, sha256=hashlib.file_digest(stream, "sha256").hexdigest(), version=""
            )

    return tuple([await in_thread(digest, file) for file in files])


class _Counter:
    """Bytes of all files together."""

    def __init__(self, files: Sequence[ModelFile], progress: BytesProgress) -> None:
        self._total = sum(file.size_bytes for file in files)
        self._done = 0
        self._progress = progress

    def count(self, size: int) -> None:
        self._done += size
        self._progress(self._done, self._total)


async def _pieces(path: Path, counted: _Counter) -> AsyncIterator[bytes]:
    with path.open("rb") as stream:
        while piece := await in_thread(stream.read, _PIECE_BYTES):
            counted.count(len(piece))
            yield piece


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
