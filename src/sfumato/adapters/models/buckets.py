"""The models in a bucket: one listing tells which there are, and which are whole."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from sfumato.adapters.models.components import describe_component, is_component, of_component
from sfumato.adapters.models.describing import (
    MALFORMED,
    PICKLES,
    bare,
    broken,
    describe_checkpoint,
    describe_folder,
    describe_pickle,
    incomplete,
)
from sfumato.adapters.models.extras import hinted_kind
from sfumato.adapters.models.folders import ModelKey, first_usable, free_name
from sfumato.adapters.models.manifest import MANIFEST, Manifest, decode
from sfumato.adapters.models.store import ModelStore
from sfumato.core.errors import (
    ModelUnusable,
    NotFound,
    SfumatoError,
    StartupRefused,
    Unavailable,
)
from sfumato.core.finding import choose_model
from sfumato.core.layout import NETWORKS
from sfumato.core.models import ModelFile, ModelInfo, ModelKind, ModelLayout, files_digest

log = logging.getLogger(__name__)

#: How deep below the URL models are looked for, as in a local folder.
_DEPTH = 4
#: Seconds after which a listing is made anew, behind the back of whoever asks.
_MAX_AGE = 5.0
#: Seconds that :meth:`BucketModelCatalog.refresh` waits for a listing.
_PATIENCE = 10.0
_READERS = 8


@dataclass(frozen=True, slots=True)
class BucketTree:
    """Implements :class:`sfumato.adapters.models.trees.Tree` over one folder of a listing."""

    store: ModelStore
    folder: str
    files: Mapping[str, ModelFile]

    def read(self, path: str, start: int, end: int) -> bytes:
        end = min(end, self.files[path].size_bytes)
        if start >= end:
            return b""
        return self.store.read_now(f"{self.folder}{path}", start, end)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a model is: its folder, with a slash at the end, and how to describe it."""

    tree: BucketTree
    name: str
    describe: Callable[[BucketTree, str], ModelInfo]


class BucketModelCatalog:
    """Implements :class:`sfumato.core.ports.ModelCatalog` over a bucket.

    A model is described anew when one of its objects changed. One published with a manifest is
    there once the manifest is, and whole while every file that it names is there with its size;
    of any other the folder's own files tell what is missing.

    Raises (from the constructor, which makes the first listing):
        StartupRefused: no such bucket, or no permission.
        Unavailable: no answer.
    """

    def __init__(self, store: ModelStore, *, default: str | None = None) -> None:
        self._store = store
        self._default = default
        self._described: dict[tuple[str, str], ModelInfo] = {}
        self._models: dict[ModelKey, ModelInfo] = {}
        self._listed: tuple[ModelInfo, ...] = ()
        self._looking = threading.Lock()
        self._failure: SfumatoError | None = None
        #: When the last look that is over began.
        self._seen_at = float("-inf")
        self._behind = False
        self._look()

    def list(self) -> Sequence[ModelInfo]:
        self._look_behind()
        return self._listed

    def get(self, name: str | None, kind: ModelKind = ModelKind.BASE) -> ModelInfo:
        models = self.list()
        chosen = name if kind is not ModelKind.BASE else name or self._default
        if chosen is None:
            return first_usable(models, kind, self._store.place)
        return choose_model(models, chosen, kind)

    async def refresh(self, *, max_age: float = 0.0) -> None:
        asked = time.monotonic()
        if asked - self._seen_at <= max_age:
            return
        try:
            async with asyncio.timeout(_PATIENCE):
                await asyncio.to_thread(self._look, unless_since=asked - max_age)
        except TimeoutError:
            raise Unavailable(f"{self._store.place} does not answer in time.") from None
        except StartupRefused as error:
            raise Unavailable(error.message) from None

    def _look_behind(self) -> None:
        """Make a new listing on a thread when the last is old; nobody waits for it."""
        if self._behind or time.monotonic() - self._seen_at <= _MAX_AGE:
            return
        self._behind = True
        threading.Thread(target=self._look_quietly, name="models", daemon=True).start()

    def _look_quietly(self) -> None:
        try:
            self._look()
        except SfumatoError as error:
            log.warning("the list of models is as it was: %s", error)
        finally:
            self._behind = False

    def _look(self, *, unless_since: float = float("inf")) -> None:
        """Make a new listing, unless one has begun since that moment."""
        with self._looking:
            if self._seen_at < unless_since:
                began = time.monotonic()
                self._failure = None
                try:
                    # What was whole may have been replaced between the listing and its reading.
                    if not self._take_over(certain=False):
                        self._take_over(certain=True)
                except SfumatoError as error:
                    self._failure = error
                finally:
                    self._seen_at = began
            if self._failure is not None:
                raise self._failure

    def _take_over(self, *, certain: bool) -> bool:
        """List and describe. Unless ``certain``, nothing is taken over, and False answered, when
        a model is refused that was not before."""
        places = list(_places(self._store, self._store.list()))
        with ThreadPoolExecutor(_READERS) as readers:
            infos = list(readers.map(self._read, places))
        models: dict[ModelKey, ModelInfo] = {}
        for info in infos:
            key = free_name(info, models)
            models[key] = replace(info, name=key[1])
        if not certain and any(
            model.refusal is not None and key in self._models and not self._models[key].refusal
            for key, model in models.items()
        ):
            return False
        self._described = {_key(place): info for place, info in zip(places, infos, strict=True)}
        self._models, self._listed = models, tuple(models.values())
        return True

    def _read(self, place: _Place) -> ModelInfo:
        known = self._described.get(_key(place))
        if known is not None:
            return known
        name, where = place.name, f"{place.tree.folder}{place.name}"
        try:
            info = place.describe(place.tree, name)
        except (ModelUnusable, NotFound) as error:
            refusal = f"{name} can't be used: {error.message}"
            info = bare(name, ModelLayout.DIFFUSERS, refusal, hinted_kind(where))
        except MALFORMED as error:
            info = broken(name, ModelLayout.DIFFUSERS, error, where)
        return replace(info, source=info.source or place.tree.folder)


def _key(place: _Place) -> tuple[str, str]:
    return place.tree.folder, files_digest(place.tree.files.values())


def _places(store: ModelStore, listing: Mapping[str, ModelFile]) -> Iterator[_Place]:
    """Every model of a listing, by path."""
    roots = _roots(listing)
    inside: dict[str, dict[str, ModelFile]] = defaultdict(dict)
    loose: list[str] = []
    for key, file in sorted(listing.items()):
        root = next((root for root in _parents(key) if root in roots), None)
        if root is not None:
            path = key.removeprefix(root)
            inside[root][path] = replace(file, path=path)
        elif key.count("/") < _DEPTH and not _hidden(key):
            loose.append(key)
    for root in sorted(inside):
        yield _Place(BucketTree(store, root, inside[root]), _name_of(root), describe_root)
    for key in loose:
        yield from _loose_model(store, key, listing)


def _roots(listing: Mapping[str, ModelFile]) -> set[str]:
    """Folders that are models, also those of which only parts have arrived."""
    roots = set()
    names: dict[str, set[str]] = defaultdict(set)
    for key in listing:
        folder = _folder(key)
        names[folder].add(key.removeprefix(folder))
        if _hidden(key):  # the files of a model that is or will be published above them
            roots.add(key[: key.index("/.") + 1] if "/." in key else "")
        elif key.endswith((f"/{MANIFEST}", "/model_index.json")):
            roots.add(folder)
        elif folder[:-1].rpartition("/")[2] in NETWORKS and of_component(key.removeprefix(folder)):
            roots.add(_folder(folder[:-1]))
    roots |= {folder for folder, inside in names.items() if is_component(inside)}
    roots = {root for root in roots if root and root.count("/") <= _DEPTH}
    # The folder of a manifest holds its model's files wherever they lie below.
    return {root for root in roots if not any(above in roots for above in _parents(root[:-1]))}


def describe_root(tree: BucketTree, name: str) -> ModelInfo:
    """The model in a folder of the bucket, published or copied there."""
    if MANIFEST not in tree.files:
        if any(_hidden(path) for path in tree.files):
            refusal = incomplete(name, [MANIFEST])
            return bare(name, ModelLayout.DIFFUSERS, refusal)
        if "model_index.json" not in tree.files and is_component(tree.files):
            return describe_component(tree, name)
        return describe_folder(tree, name)
    data = tree.read(MANIFEST, 0, tree.files[MANIFEST].size_bytes)
    return _published(tree, name, decode(data))


def _published(tree: BucketTree, name: str, manifest: Manifest) -> ModelInfo:
    below = f"{manifest.folder}/" if manifest.folder else ""
    sizes = {path.removeprefix(below): file.size_bytes for path, file in tree.files.items()}
    info = replace(manifest.model, name=name, source=f"{tree.folder}{below}")
    missing = [file.path for file in info.files if file.path not in sizes]
    if missing:
        return replace(info, refusal=incomplete(name, missing))
    for file in info.files:
        if sizes[file.path] != file.size_bytes:
            refusal = (
                f"{name} is damaged: {file.path} has {sizes[file.path]:,} bytes, its manifest "
                f"says {file.size_bytes:,}. Add it again with `sfumato models add --replace`."
            )
            return replace(info, refusal=refusal)
    return info


def _loose_model(store: ModelStore, key: str, listing: Mapping[str, ModelFile]) -> Iterator[_Place]:
    """A model in one file, told by its ending."""
    folder = _folder(key)
    stem, dot, ending = key.rpartition(".")
    if dot + ending.lower() not in (*PICKLES, ".safetensors"):
        return
    files = {
        other.removeprefix(folder): replace(listing[other], path=other.removeprefix(folder))
        for other in (key, f"{stem}.json", f"{stem}.yaml")
        if other in listing
    }
    path = key.removeprefix(folder)
    pickled = dot + ending.lower() in PICKLES

    def describe(tree: BucketTree, _name: str) -> ModelInfo:
        if pickled:
            return describe_pickle(tree.files[path], key)
        return describe_checkpoint(tree, path, key)

    yield _Place(BucketTree(store, folder, files), path.rpartition(".")[0], describe)


def _name_of(folder: str) -> str:
    return folder.removesuffix("/").rpartition("/")[2]


def _folder(key: str) -> str:
    """The folder that a key lies in, with a slash at the end; empty at the top."""
    return key[: key.rfind("/") + 1]


def _hidden(key: str) -> bool:
    """Whether a part of the path begins with a dot, as versions of published models do."""
    return key.startswith(".") or "/." in key


def _parents(key: str) -> Iterator[str]:
    """Every folder above a key, the nearest first."""
    folder = _folder(key)
    while folder:
        yield folder
        folder = _folder(folder[:-1])
