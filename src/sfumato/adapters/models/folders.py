"""The models on disk: the built-in starter, diffusers folders, single files of every kind."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sfumato.adapters.models.describing import (
    MALFORMED,
    broken,
)
from sfumato.adapters.models.searching import Entry, search
from sfumato.core.errors import UnknownModel
from sfumato.core.finding import choose_model
from sfumato.core.models import ModelInfo, ModelKind, ModelLayout

#: How deep below a folder models are looked for: A1111's root has ``models/Lora/<style>/<file>``.
_DEPTH = 4
#: Seconds for which a look through the folders is good enough, and how many times the seconds
#: that it took, so that large folders on slow disks don't hold up the event loop.
_MAX_AGE, _MAX_AGE_TIMES = 0.5, 50.0

#: Modification time and size of each file an entry was read from: unchanged, it is not read again.
_Signature = tuple[tuple[int, int], ...]


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
        folders: searched four levels deep, in this order; one that does not exist is empty.
        builtin: the folder of the model that ships with the package, listed first.
        default: name of the default model; None: the built-in one, else the first usable base
            model.
    """

    def __init__(
        self, folders: Sequence[Path], *, builtin: Path | None = None, default: str | None = None
    ) -> None:
        self._folders = tuple(folders)
        self._builtin = builtin
        self._default = default
        self._known: dict[Path, _Known] = {}
        self._by_name: dict[ModelKey, _Known] = {}
        self._listed: tuple[ModelInfo, ...] = ()
        self._looked_at = float("-inf")
        self._took = 0.0

    def list(self) -> Sequence[ModelInfo]:
        """Every model, also the refused; a name that comes twice in a kind is numbered from 2."""
        if time.monotonic() - self._looked_at > max(_MAX_AGE, _MAX_AGE_TIMES * self._took):
            self._look()
        return self._listed

    def get(self, name: str | None, kind: ModelKind = ModelKind.BASE) -> ModelInfo:
        chosen = name if kind is not ModelKind.BASE else name or self._default
        if chosen is not None:
            known = self._by_name.get((kind, chosen))
            if known is not None:
                if not known.unchanged():
                    self._look()
                elif known.info.refusal is None:
                    return replace(known.info, name=chosen)
            return choose_model(self.list(), chosen, kind)
        return first_usable(self.list(), kind, ", ".join(map(str, self._folders)) or "no folder")

    async def refresh(self, *, max_age: float = 0.0) -> None:
        if time.monotonic() - self._looked_at > max_age:
            await asyncio.to_thread(self._look)

    def _look(self) -> None:
        began = time.monotonic()
        known = {entry.path: self._read(entry) for entry in self._entries()}
        by_name: dict[ModelKey, _Known] = {}
        for found in known.values():
            by_name[free_name(found.info, by_name)] = found
        self._listed = tuple(replace(was.info, name=name) for (_, name), was in by_name.items())
        self._known, self._by_name, self._looked_at = known, by_name, began
        self._took = time.monotonic() - began

    def _entries(self) -> Iterator[Entry]:
        roots = [self._builtin] if self._builtin is not None else []
        seen = set()
        for root in (*roots, *self._folders):
            for entry in search(root, _DEPTH):
                if entry.path not in seen:
                    seen.add(entry.path)
                    yield entry

    def _read(self, entry: Entry) -> _Known:
        known = self._known.get(entry.path)
        # A refused model may be half copied, with files that still grow.
        if known is not None and known.info.refusal is None and known.unchanged():
            return known
        try:
            info = entry.describe(entry.path)
        except MALFORMED as error:
            # Whatever is wrong with one model must not hide the others.
            info = broken(entry.path.name, entry.layout, error, str(entry.path))
        root = entry.path.parent if entry.layout is ModelLayout.CHECKPOINT else entry.path
        weights = (root / file.path for file in info.files if file.path.endswith(".safetensors"))
        witnesses = tuple(dict.fromkeys(map(str, (*entry.witnesses, *weights))))
        stamps = tuple(_stamp(path) for path in witnesses)
        return _Known(replace(info, path=str(entry.path)), witnesses, stamps)


ModelKey = tuple[ModelKind, str]


def free_name(info: ModelInfo, taken: Container[ModelKey]) -> ModelKey:
    """Its kind and name, numbered from 2 where that is taken."""
    free, number = info.name, 2
    while (info.kind, free) in taken:
        free, number = f"{info.name}-{number}", number + 1
    return info.kind, free


def first_usable(models: Iterable[ModelInfo], kind: ModelKind, searched: str) -> ModelInfo:
    """What stands for the default. Raises ``UnknownModel``."""
    if kind is ModelKind.BASE:
        for model in models:
            if model.kind is kind and model.refusal is None:
                return model
    raise UnknownModel(f"There is no model yet; searched {searched}.", field="model")


def _stamp(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)  # noqa: PTH116 - half the cost of Path.stat, on every request
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size
