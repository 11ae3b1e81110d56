"""The models in memory: several at once, the least recently used make room for the next."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import torch

from sfumato.core.errors import EngineFailure, OutOfMemory
from sfumato.core.layout import SAFETY_CHECKER
from sfumato.core.models import ModelInfo, ModelLayout
from sfumato.engine.extras import LoadedExtras
from sfumato.engine.families import loading
from sfumato.engine.families.sd import StableDiffusion
from sfumato.engine.memory import WeightBudget, free_unused
from sfumato.engine.weights import Placement, component_files, header_of

_LOADERS: dict[ModelLayout, Callable[[Path, Placement], StableDiffusion]] = {
    ModelLayout.DIFFUSERS: loading.load_folder,
    ModelLayout.CHECKPOINT: loading.load_checkpoint,
}


@dataclass(slots=True)
class Loaded:
    """A model in memory.

    Attributes:
        size: bytes of its weights.
        precise: the same in float32, once a picture needed it.
    """

    info: ModelInfo
    model: StableDiffusion
    size: int
    precise: StableDiffusion | None = None


class LoadedModels:
    """Models by name, the least recently used first.

    Args:
        budget: bytes that all weights may take together; None: what memory is free.

    Attributes:
        placement: of all of them.
        budget: of them and whatever else is kept beside them.
        extras: the weights beside them, within the same budget.
        evict_first: lets go of a model of another engine, unless it is in use; whether it has.
    """

    def __init__(self, placement: Placement, budget: int | None = None) -> None:
        self.placement = self._placement = placement
        self.budget = self._budget = WeightBudget(placement.device, budget)
        self.extras = LoadedExtras(self._budget)
        self.evict_first: Callable[[Collection[str]], bool] = lambda _in_use: False
        self._models: dict[str, Loaded] = {}

    def names(self) -> list[str]:
        return list(self._models)

    def __getitem__(self, name: str) -> Loaded:
        loaded = self._models.get(name)
        if loaded is None:
            raise EngineFailure(f"The model {name!r} is not loaded.")
        return loaded

    def touch(self, model: ModelInfo) -> bool:
        """Whether it is there; it is then the most recently used."""
        known = self._models.get(model.name)
        if known is None or known.info.path != model.path:
            return False
        self._models[model.name] = self._models.pop(model.name)
        return True

    def load(self, model: ModelInfo, in_use: Collection[str]) -> None:
        """Raises ``ModelUnusable``; ``OutOfMemory`` when those in use leave no room."""
        size = _weights(model, self._placement)  # a broken file makes nobody give up his place
        while not self._budget.fits(size) and self.evict(in_use):
            pass
        if in_use and not self._budget.fits(size):
            raise OutOfMemory(f"There is no room for {model.name!r} beside the models in use.")
        loaded = _LOADERS[model.layout](Path(model.path), self._placement)
        self._let_go(model.name)  # of that name, but from another place
        self._models[model.name] = Loaded(model, loaded, size)
        self._budget.used += size

    def in_float32(self, loaded: Loaded) -> StableDiffusion:
        """The same model in float32, which is let go together with it. Raises ``ModelUnusable``."""
        if loaded.precise is None:
            placement = Placement(self._placement.device, torch.float32)
            loaded.precise = _LOADERS[loaded.info.layout](Path(loaded.info.path), placement)
            more = loaded.size * torch.float32.itemsize // self._placement.dtype.itemsize
            loaded.size += more
            self._budget.used += more
        return loaded.precise

    def make_room(self, in_use: Collection[str]) -> bool:
        """Let go of every extra, and every model that is not in use; whether there was one."""
        evicted = False
        while self.evict(in_use):
            evicted = True
        return evicted

    def evict(self, in_use: Collection[str]) -> bool:
        """Let go of an extra, or else of the least recently used model that is not in use; whether
        there was one."""
        if self.extras.evict() or self.evict_first(in_use):
            return True
        name = next((name for name in self._models if name not in in_use), None)
        if name is None:
            return False
        self._let_go(name)
        free_unused()
        return True

    def _let_go(self, name: str) -> None:
        if name in self._models:
            self._budget.used -= self._models.pop(name).size


def _weights(model: ModelInfo, placement: Placement) -> int:
    """Bytes of its weights in memory, from the headers of its files."""
    path = Path(model.path)
    files = [path]
    if path.is_dir():
        # A safety checker is an extra of its own.
        folders = sorted({file.parent for file in path.glob("*/*.safetensors")})
        folders = [folder for folder in folders if folder.name != SAFETY_CHECKER]
        files = [file for folder in folders for file in component_files(folder)]
    tensors = (tensor for file in files for tensor in header_of(file).tensors.values())
    return sum(math.prod(tensor.shape) for tensor in tensors) * placement.dtype.itemsize
