"""The models in memory: several at once, the least recently used make room for the next."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sfumato.core.errors import EngineFailure, OutOfMemory
from sfumato.core.models import ModelInfo, ModelLayout
from sfumato.engine.families import loading
from sfumato.engine.families.sd import StableDiffusion
from sfumato.engine.memory import available
from sfumato.engine.weights import Placement, component_files, header_of

#: Of the memory that is free, how much weights may take; the rest is for the pictures.
_SHARE = 0.7

_LOADERS: dict[ModelLayout, Callable[[Path, Placement], StableDiffusion]] = {
    ModelLayout.DIFFUSERS: loading.load_folder,
    ModelLayout.CHECKPOINT: loading.load_checkpoint,
}


@dataclass(slots=True)
class Loaded:
    """A model in memory.

    Attributes:
        size: bytes of its weights.
        colours: for previews, once fitted.
        precise: the same in float32, once a picture needed it.
    """

    info: ModelInfo
    model: StableDiffusion
    size: int
    colours: Tensor | None = None
    precise: StableDiffusion | None = None


class LoadedModels:
    """Models by name, the least recently used first.

    Args:
        budget: bytes that their weights may take together; None: what memory is free.
    """

    def __init__(self, placement: Placement, budget: int | None = None) -> None:
        self._placement = placement
        self._budget = budget
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
        while not self._fits(size) and self._evict(in_use):
            pass
        if in_use and not self._fits(size):
            raise OutOfMemory(f"There is no room for {model.name!r} beside the models in use.")
        loaded = _LOADERS[model.layout](Path(model.path), self._placement)
        self._models[model.name] = Loaded(model, loaded, size)

    def in_float32(self, loaded: Loaded) -> StableDiffusion:
        """The same model in float32, which is let go together with it. Raises ``ModelUnusable``."""
        if loaded.precise is None:
            placement = Placement(self._placement.device, torch.float32)
            loaded.precise = _LOADERS[loaded.info.layout](Path(loaded.info.path), placement)
            loaded.size += loaded.size * torch.float32.itemsize // self._placement.dtype.itemsize
        return loaded.precise

    def make_room(self, in_use: Collection[str]) -> bool:
        """Let go of every model that is not in use; whether there was one."""
        evicted = [name for name in list(self._models) if self._evict(in_use)]
        return bool(evicted)

    def _fits(self, size: int) -> bool:
        if self._budget is not None:
            return sum(loaded.size for loaded in self._models.values()) + size <= self._budget
        free = available(self._placement.device)
        return free is None or size <= free * _SHARE

    def _evict(self, in_use: Collection[str]) -> bool:
        name = next((name for name in self._models if name not in in_use), None)
        if name is None:
            return False
        del self._models[name]
        free_unused()
        return True


def free_unused() -> None:
    """Give back what Python and torch still keep of things that nobody refers to."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _weights(model: ModelInfo, placement: Placement) -> int:
    """Bytes of its weights in memory, from the headers of its files."""
    path = Path(model.path)
    files = [path]
    if path.is_dir():
        folders = sorted({file.parent for file in path.glob("*/*.safetensors")})
        files = [file for folder in folders for file in component_files(folder)]
    tensors = (tensor for file in files for tensor in header_of(file).tensors.values())
    return sum(math.prod(tensor.shape) for tensor in tensors) * placement.dtype.itemsize
