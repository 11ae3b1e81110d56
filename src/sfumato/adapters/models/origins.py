"""Where a model that is to be added comes from: a path, a bucket, or a hub."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from sfumato.adapters.models.buckets import BucketTree, describe_root
from sfumato.adapters.models.components import describe_component, is_component
from sfumato.adapters.models.describing import (
    MALFORMED,
    PICKLES,
    broken,
    describe_checkpoint,
    describe_folder,
    describe_pickle,
)
from sfumato.adapters.models.hub import HubTree
from sfumato.adapters.models.sources import BucketSource, FileSource, RangeSource
from sfumato.adapters.models.store import ModelStore
from sfumato.adapters.models.trees import FolderTree, Tree, folder_tree
from sfumato.core.errors import InvalidRequest, ModelRefused, ModelUnusable, NotFound
from sfumato.core.models import ModelInfo, ModelLayout


@dataclass(frozen=True, slots=True)
class Origin:
    """A model to be added, looked at and found usable.

    Attributes:
        folder: where its files lie, when that is on this machine.
        source: opens what its files are read from.
    """

    info: ModelInfo
    source: Callable[[], AbstractAsyncContextManager[RangeSource]]
    folder: Path | None = None


def from_disk(path: Path) -> Origin:
    """Raises ``NotFound``, ``ModelRefused`` or ``InvalidRequest``, before anything is copied."""
    path = path.expanduser().absolute()
    if not path.exists():
        raise NotFound(f"There is nothing at {path}.")
    if path.is_dir():
        info = _usable(folder_tree(path), path.name, str(path))
        return Origin(info, _opened(FileSource(path)), path)
    beside = (path, path.with_suffix(".json"), path.with_suffix(".yaml"))
    tree = FolderTree(path.parent, [file for file in beside if file.is_file()])
    info = _usable_file(tree, path.name, path.as_posix())
    return Origin(info, _opened(FileSource(path.parent)), path.parent)


def from_bucket(url: str, options: Mapping[str, str]) -> Origin:
    """Blocks. Raises as :func:`from_disk`, and as :class:`ModelStore` does."""
    path = PurePosixPath(url.rstrip("/"))
    is_file = path.suffix.lower() in (".safetensors", *PICKLES)
    root, _, last = url.rstrip("/").rpartition("/")
    store = ModelStore.open(root if is_file else url, options)
    tree = BucketTree(store, "", store.list())
    if is_file:
        return Origin(_usable_file(tree, last, url), _opened(BucketSource(store, "")))
    if not tree.files:
        raise NotFound(f"There is nothing at {store.place}.")
    marks = ("model_index.json", "sfumato-manifest.json")
    if not any(name in tree.files for name in marks) and not is_component(tree.files):
        raise _no_model(store.place)
    info = _checked(describe_root(tree, last))
    return Origin(replace(info, source=""), _opened(BucketSource(store, info.source)))


def from_hub(address: str) -> Origin:
    """Blocks. ``address``: ``owner/name``, with ``/file.safetensors`` or ``@revision`` behind it.

    Raises as :func:`from_disk`, and ``Unavailable``.
    """
    tree = HubTree(address)
    if tree.file is not None:
        where = f"{tree.name}/{tree.file}"
        return Origin(_usable_file(tree, tree.file, where, f"hf:{address}"), tree.source)
    return Origin(_usable(tree, tree.name, f"hf:{address}"), tree.source)


def _opened(
    source: RangeSource,
) -> Callable[[], AbstractAsyncContextManager[RangeSource]]:
    return lambda: nullcontext(source)


def _usable(tree: Tree, name: str, place: str) -> ModelInfo:
    """The model in diffusers' layout, the network, or the only file of weights, of a folder."""
    whole = "model_index.json" in tree.files
    if whole or is_component(tree.files):
        try:
            return _checked((describe_folder if whole else describe_component)(tree, name))
        except MALFORMED as error:
            return _checked(broken(name, ModelLayout.DIFFUSERS, error))
    endings = (".safetensors", *PICKLES)
    single = [path for path in tree.files if "/" not in path and path.endswith(endings)]
    weights = [path for path in single if path.endswith(".safetensors")]
    if len(weights) > 1:
        raise InvalidRequest(
            f"{place} holds several files of weights; name one of them.", accepted=sorted(weights)
        )
    if not single:
        raise _no_model(place)
    chosen = (weights or single)[0]
    return _usable_file(tree, chosen, f"{name}/{chosen}", place)


def _usable_file(tree: Tree, path: str, where: str, place: str = "") -> ModelInfo:
    """The model in one file.

    Args:
        where: the file with its folders, which may tell what it is for.
        place: what the user gave, where that is not ``where``.
    """
    place = place or where
    if path not in tree.files:
        raise NotFound(f"There is nothing at {place}.")
    ending = PurePosixPath(path).suffix.lower()
    if ending in PICKLES:
        return _checked(describe_pickle(tree.files[path], where))
    if ending != ".safetensors":
        raise _no_model(place)
    try:
        return _checked(describe_checkpoint(tree, path, where))
    except ModelUnusable as error:
        raise ModelRefused(f"It can't be added: {error.message}", field="model") from None
    except MALFORMED as error:
        return _checked(broken(path, ModelLayout.CHECKPOINT, error))


def _checked(info: ModelInfo) -> ModelInfo:
    if info.refusal is not None:
        raise ModelRefused(info.refusal, field="model")
    return info


def _no_model(place: str) -> InvalidRequest:
    return InvalidRequest(
        f"{place} is no model.",
        accepted="a folder with model_index.json, a network's folder, or a .safetensors file",
    )
