"""Weights beside the models in memory: LoRAs, ControlNets, VAEs, upscalers, safety checkers."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar, cast

from sfumato.core.errors import ModelRefused, ModelUnusable
from sfumato.core.finding import KIND_WORDS
from sfumato.core.models import ModelInfo, ModelKind
from sfumato.engine.memory import WeightBudget, free_unused
from sfumato.engine.weights import header_of


class Weighed(Protocol):
    """What can be kept: it knows how much memory its weights take."""

    @property
    def size(self) -> int:
        """Bytes of its weights in memory."""
        ...


T = TypeVar("T", bound=Weighed)
#: Size and time of change of each file: what tells a replaced file.
Stamp = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class _Key:
    kind: ModelKind
    name: str
    variant: Hashable


@dataclass(frozen=True, slots=True)
class _Kept:
    path: str
    stamp: Stamp
    value: Weighed
    size: int


class LoadedExtras:
    """Extras by kind and name, the least recently used first.

    They share the models' budget and go before them when room is needed. One that a slot still
    refers to lives as long as the slot, here or not; its bytes are then not counted.
    """

    def __init__(self, budget: WeightBudget) -> None:
        self._budget = budget
        self._kept: dict[_Key, _Kept] = {}

    def get(self, info: ModelInfo, load: Callable[[ModelInfo], T], variant: Hashable = None) -> T:
        """The extra, loaded unless its very files are in memory.

        Args:
            load: reads it; always the same function for one kind and variant, since what another
                call's had read is handed out.
            variant: what else than the files decides how it lies in memory (the precision, say).

        Raises:
            ModelRefused: the catalogue says that it must not be loaded.
            ModelUnusable: it is not there; or whatever ``load`` raises. What else was loaded
                stays.
        """
        if info.refusal is not None:
            raise ModelRefused(info.refusal)
        key, stamp = _Key(info.kind, info.name, variant), _stamp(info)
        kept = self._kept.get(key)
        if kept is not None and (kept.path, kept.stamp) == (info.path, stamp):
            self._kept[key] = self._kept.pop(key)
            return cast("T", kept.value)
        # By its files, which a broken one does not get past.
        self._make_room(_read_size(info, stamp))
        value = load(info)
        self._let_go(key)
        size = value.size
        self._make_room(size)
        self._kept[key] = _Kept(info.path, stamp, value, size)
        self._budget.used += size
        return value

    def names(self) -> list[tuple[ModelKind, str]]:
        """What is in memory, the least recently used first."""
        return [(key.kind, key.name) for key in self._kept]

    def evict(self) -> bool:
        """Let go of the least recently used. False: there is none."""
        key = next(iter(self._kept), None)
        if key is None:
            return False
        self._let_go(key)
        free_unused()
        return True

    def _make_room(self, size: int) -> None:
        while not self._budget.fits(size) and self.evict():
            pass

    def _let_go(self, key: _Key) -> None:
        if key in self._kept:
            self._budget.used -= self._kept.pop(key).size


def _read_size(info: ModelInfo, stamp: Stamp) -> int:
    """Bytes of its weight files. Raises ``ModelUnusable`` where one is broken."""
    path = Path(info.path)
    weights = [(name, size) for name, size, _ in stamp if name.endswith(".safetensors")]
    for name, _ in weights:
        header_of(path / name if path.is_dir() else path)
    return sum(size for _, size in weights)


def _stamp(info: ModelInfo) -> Stamp:
    """Raises ``ModelUnusable``: there is no such file or folder."""
    path = Path(info.path)
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        states = [(file.name, file.stat()) for file in files]
    except OSError as error:
        raise ModelUnusable(
            f"The {KIND_WORDS[info.kind]} {info.name!r} can't be read: {error.strerror}."
        ) from None
    return tuple((name, state.st_size, state.st_mtime_ns) for name, state in states)
