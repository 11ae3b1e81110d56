"""Where below a folder models are, and what reads each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from sfumato.adapters.models.components import describe_component, is_component
from sfumato.adapters.models.describing import (
    CARD,
    PICKLES,
    bare,
    describe_checkpoint,
    describe_folder,
    describe_pickle,
)
from sfumato.adapters.models.extras import hinted_kind
from sfumato.adapters.models.manifest import MANIFEST, decode
from sfumato.adapters.models.trees import FolderTree, Tree, folder_tree
from sfumato.core.errors import ModelUnusable
from sfumato.core.layout import NETWORKS
from sfumato.core.models import ModelFile, ModelInfo, ModelLayout

#: A Python environment, as A1111's root holds one, has thousands of files that look like pickles.
_ENVIRONMENT = "pyvenv.cfg"


@dataclass(frozen=True, slots=True)
class Entry:
    """A place where a model is: its path, how to describe it, and the files that decide."""

    path: Path
    describe: Callable[[Path], ModelInfo]
    layout: ModelLayout
    witnesses: tuple[Path, ...]


def search(root: Path, depth: int) -> Iterator[Entry]:
    """Models at or below ``root``, by name."""
    if (root / "model_index.json").is_file():
        yield Entry(root, _describe_folder, ModelLayout.DIFFUSERS, _folder_witnesses(root))
        return
    try:
        children = sorted(root.iterdir())
    except OSError:
        return
    names = {child.name for child in children}
    if _ENVIRONMENT in names:
        return
    if is_component(names):
        witnesses = tuple(root / name for name in ("config.json", CARD, MANIFEST))
        yield Entry(root, _describe_component, ModelLayout.DIFFUSERS, witnesses)
        return
    for child in children:
        if child.name.startswith("."):
            continue
        if not child.is_dir():
            yield from _file(child)
        elif depth > 1:
            yield from search(child, depth - 1)


def _file(path: Path) -> Iterator[Entry]:
    """The model that a file is, told by its ending."""
    ending = path.suffix.lower()
    if ending == ".safetensors":
        beside = (path.with_suffix(".json"), path.with_suffix(".yaml"))
        witnesses = (path, *beside, path.parent / MANIFEST)
        yield Entry(path, _describe_checkpoint, ModelLayout.CHECKPOINT, witnesses)
    elif ending in PICKLES:
        yield Entry(path, _describe_pickle, ModelLayout.CHECKPOINT, (path,))


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


def _describe_component(folder: Path) -> ModelInfo:
    tree = folder_tree(folder)
    return _with_digests(describe_component(tree, folder.name), tree)


def _describe_checkpoint(path: Path) -> ModelInfo:
    beside = (path, path.with_suffix(".json"), path.with_suffix(".yaml"), path.parent / MANIFEST)
    tree = FolderTree(path.parent, [path, *(other for other in beside[1:] if other.is_file())])
    try:
        return _with_digests(describe_checkpoint(tree, path.name, path.as_posix()), tree)
    except ModelUnusable:
        # It may be half copied. A job that asks for it fails and says what is wrong.
        info = bare(path.stem, ModelLayout.CHECKPOINT, kind=hinted_kind(path.as_posix()))
        return replace(info, size_bytes=path.stat().st_size)


def _describe_pickle(path: Path) -> ModelInfo:
    return describe_pickle(ModelFile(path.name, path.stat().st_size), path.as_posix())


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
