"""The models on disk: the built-in starter, diffusers folders, single-file checkpoints."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sfumato.adapters.models.describing import (
    CARD,
    MALFORMED,
    PICKLES,
    bare,
    broken,
    describe_checkpoint,
    describe_folder,
    describe_pickle,
)
from sfumato.adapters.models.manifest import MANIFEST, decode
from sfumato.adapters.models.trees import FolderTree, Tree, folder_tree
from sfumato.core.errors import ModelUnusable, UnknownModel
from sfumato.core.layout import NETWORKS
from sfumato.core.models import ModelFile, ModelInfo, ModelLayout, choose_model

#: How deep below a folder models are looked for.
_DEPTH = 3
#: Seconds for which a look through the folders is good enough.
_MAX_AGE = 0.5

#: Modification time and size of each file an entry was read from: unchanged, it is not read again.
_Signature = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class _Entry:
    """A place where a model is: its path, how to describe it, and the files that decide."""

    path: Path
    describe: Callable[[Path], ModelInfo]
    layout: ModelLayout
    witnesses: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class _Known:
    """An entry as it was last read, and how its files looked then."""

    info: ModelInfo
    witnesses: tuple[str, ...]
    signature: _Signature

    def unchanged(self) -> bool:
        return self.signature == tuple(_stamp(path) for path in self.witnesses)


class FolderModelCatalog:
    """Implements :class:`sfumato.core.ports.ModelCatalog` over local folders.

    ``list`` looks through the folders at most twice a second. ``get`` looks at the files of the
    model it is asked for alone, unless they changed.

    Args:
        folders: searched three levels deep, in this order; one that does not exist is empty.
        builtin: the folder of the model that ships with the package, listed first.
        default: name of the default model; None: the built-in one, else the first usable.
    """

    def __init__(
        self, folders: Sequence[Path], *, builtin: Path | None = None, default: str | None = None
    ) -> None:
        self._folders = tuple(folders)
        self._builtin = builtin
        self._default = default
        self._known: dict[Path, _Known] = {}
        self._by_name: dict[str, _Known] = {}
        self._looked_at = float("-inf")

    def list(self) -> Sequence[ModelInfo]:
        """Every model, also the refused; a name that comes twice is numbered from 2."""
        if time.monotonic() - self._looked_at > _MAX_AGE:
            self._look()
        return [replace(known.info, name=name) for name, known in self._by_name.items()]

    def get(self, name: str | None) -> ModelInfo:
        chosen = name or self._default
        if chosen is not None:
            known = self._by_name.get(chosen)
            if known is not None:
                if not known.unchanged():
                    self._look()
                elif known.info.refusal is None:
                    return replace(known.info, name=chosen)
            return choose_model(self.list(), chosen)
        usable = [model for model in self.list() if model.refusal is None]
        if not usable:
            searched = ", ".join(map(str, self._folders)) or "no folder"
            raise UnknownModel(f"There is no model yet; searched {searched}.", field="model")
        return usable[0]

    async def refresh(self, *, max_age: float = 0.0) -> None:
        if time.monotonic() - self._looked_at > max_age:
            await asyncio.to_thread(self._look)

    def _look(self) -> None:
        now = time.monotonic()
        known = {entry.path: self._read(entry) for entry in self._entries()}
        by_name: dict[str, _Known] = {}
        for found in known.values():
            by_name[free_name(found.info.name, by_name)] = found
        self._known, self._by_name, self._looked_at = known, by_name, now

    def _entries(self) -> Iterator[_Entry]:
        roots = [self._builtin] if self._builtin is not None else []
        seen = set()
        for root in (*roots, *self._folders):
            for entry in _search(root, _DEPTH):
                if entry.path not in seen:
                    seen.add(entry.path)
                    yield entry

    def _read(self, entry: _Entry) -> _Known:
        known = self._known.get(entry.path)
        # A refused model may be half copied, with files that still grow.
        if known is not None and known.info.refusal is None and known.unchanged():
            return known
        try:
            info = entry.describe(entry.path)
        except MALFORMED as error:
            # Whatever is wrong with one model must not hide the others.
            info = broken(entry.path.name, entry.layout, error)
        root = entry.path.parent if entry.layout is ModelLayout.CHECKPOINT else entry.path
        weights = (root / file.path for file in info.files if file.path.endswith(".safetensors"))
        witnesses = tuple(dict.fromkeys(map(str, (*entry.witnesses, *weights))))
        stamps = tuple(_stamp(path) for path in witnesses)
        return _Known(replace(info, path=str(entry.path)), witnesses, stamps)


def free_name(name: str, taken: dict[str, _Known] | dict[str, ModelInfo]) -> str:
    """``name``, numbered from 2 where it is taken."""
    free, number = name, 2
    while free in taken:
        free, number = f"{name}-{number}", number + 1
    return free


def _search(root: Path, depth: int) -> Iterator[_Entry]:
    """Models at or below ``root``, by name."""
    if (root / "model_index.json").is_file():
        yield _Entry(root, _describe_folder, ModelLayout.DIFFUSERS, _folder_witnesses(root))
        return
    try:
        children = sorted(root.iterdir())
    except OSError:
        return
    for child in children:
        if child.name.startswith("."):
            continue
        if child.is_dir():
            if depth > 1:
                yield from _search(child, depth - 1)
        elif child.suffix.lower() == ".safetensors":
            beside = (child.with_suffix(".json"), child.with_suffix(".yaml"))
            witnesses = (child, *beside, child.parent / MANIFEST)
            yield _Entry(child, _describe_checkpoint, ModelLayout.CHECKPOINT, witnesses)
        elif child.suffix.lower() in PICKLES:
            yield _Entry(child, _describe_pickle, ModelLayout.CHECKPOINT, (child,))


def _folder_witnesses(folder: Path) -> tuple[Path, ...]:
    return (
        folder / "model_index.json",
        folder / CARD,
        folder / MANIFEST,
        *(folder / part for part in NETWORKS),
        *(folder / part / "config.json" for part in NETWORKS),
    )


def _describe_folder(folder: Path) -> ModelInfo:
    tree = folder_tree(folder)
    return _with_digests(describe_folder(tree, folder.name), tree)


def _describe_checkpoint(path: Path) -> ModelInfo:
    beside = (path, path.with_suffix(".json"), path.with_suffix(".yaml"), path.parent / MANIFEST)
    tree = FolderTree(path.parent, [path, *(other for other in beside[1:] if other.is_file())])
    try:
        return _with_digests(describe_checkpoint(tree, path.name), tree)
    except ModelUnusable:
        # It may be half copied. A job that asks for it fails and says what is wrong.
        info = bare(path.stem, ModelLayout.CHECKPOINT)
        return replace(info, size_bytes=path.stat().st_size)


def _describe_pickle(path: Path) -> ModelInfo:
    return describe_pickle(ModelFile(path.name, path.stat().st_size))


def _with_digests(info: ModelInfo, tree: Tree) -> ModelInfo:
    """``info`` with the name and the digests that it got when it was added, if it was."""
    if MANIFEST not in tree.files:
        return info
    try:
        data = tree.read(MANIFEST, 0, tree.files[MANIFEST].size_bytes)
        added = decode(data).model
    except ModelUnusable:
        return info
    known = {(file.path, file.size_bytes): file for file in added.files}
    if not any((file.path, file.size_bytes) in known for file in info.files):
        return info
    files = tuple(known.get((file.path, file.size_bytes), file) for file in info.files)
    return replace(info, name=added.name, files=files)


def _stamp(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)  # noqa: PTH116 - half the cost of Path.stat, on every request
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size
