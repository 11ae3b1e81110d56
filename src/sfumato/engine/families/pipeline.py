"""Whatever diffusers' ``DiffusionPipeline`` can load from a local folder: FLUX, SD 3.5, Sana …

Nothing of the folder is run: its classes are those of diffusers and transformers, its weights are
safetensors, and no hub is asked.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers.utils import deprecation_utils, is_accelerate_available
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from sfumato.core.errors import ModelRefused, ModelUnusable
from sfumato.core.pipelines import pipeline_parts
from sfumato.engine.weights import Placement, component_files, hash_of, header_of, read_json

#: What ``from_pretrained`` calls it, which diffusers has renamed.
_DTYPE = "dtype" if hasattr(deprecation_utils, "_resolve_dtype") else "torch_dtype"
_LARGE_CELL = 32
_LIBRARIES = {"diffusers": diffusers, "transformers": transformers}


@dataclass(frozen=True, slots=True, eq=False)
class LoadedPipeline:
    """A pipeline in memory.

    Attributes:
        pipe: an instance of the folder's own pipeline class.
        parameters: what its ``__call__`` takes, by name.
        hash: of its weights, as of every model.
        size: bytes of its weights.
        multiple: the sides that it draws are multiples of so many pixels.
    """

    pipe: Any
    parameters: Mapping[str, inspect.Parameter]
    hash: str
    size: int
    multiple: int

    def takes(self, name: str) -> bool:
        return name in self.parameters


def weight_paths(path: Path) -> list[Path]:
    """The weight files of the folder's parts, without the same weights in other precisions."""
    folders = sorted({file.parent for file in path.glob("*/*.safetensors")})
    return [file for folder in folders for file in component_files(folder)]


def weights_size(path: Path, placement: Placement) -> int:
    """Bytes that the weights take in memory, from the headers of their files.

    Raises:
        ModelUnusable: naming the file at fault.
    """
    headers = [header_of(file) for file in weight_paths(path)]
    numbers = sum(
        math.prod(tensor.shape) for header in headers for tensor in header.tensors.values()
    )
    return numbers * pipeline_dtype(placement).itemsize


def pipeline_dtype(placement: Placement) -> torch.dtype:
    """Float16 is too narrow for these families' text encoders and activations."""
    return torch.bfloat16 if placement.dtype == torch.float16 else placement.dtype


def load_pipeline(path: Path, placement: Placement) -> LoadedPipeline:
    """Raises ``ModelUnusable``, naming what is wrong with the folder."""
    index = read_json(path / "model_index.json")
    try:
        parts = pipeline_parts(index)
    except ModelRefused as error:
        raise ModelUnusable(f"{path} can't be used: {error.message}") from None
    pipeline = _class_of("diffusers", str(index["_class_name"]), path)
    for part in parts.values():
        if part is not None:
            _class_of(*part, path)
    for logger in (diffusers_logging, transformers_logging):
        logger.disable_progress_bar()
    weights = weight_paths(path)
    pipe = pipeline.from_pretrained(
        path,
        variant="fp16" if any(".fp16." in file.name for file in weights) else None,
        **{_DTYPE: pipeline_dtype(placement)},
        local_files_only=True,
        use_safetensors=True,
        low_cpu_mem_usage=is_accelerate_available(),
        # Diffusers wants to be told of what a folder leaves out on purpose.
        **{name: None for name, part in parts.items() if part is None},
    )
    pipe.set_progress_bar_config(disable=True)
    pipe.to(placement.device)
    cell = int(getattr(pipe, "vae_scale_factor", 8))
    return LoadedPipeline(
        pipe=pipe,
        parameters=inspect.signature(type(pipe).__call__).parameters,
        hash=hash_of(weights),
        size=weights_size(path, placement),
        # Most transformers see latents in patches of two by two; those of Sana's VAE are as large.
        multiple=cell if cell >= _LARGE_CELL else 2 * cell,
    )


def _class_of(library: str, name: str, path: Path) -> Any:
    found = getattr(_LIBRARIES[library], name, None)
    if not isinstance(found, type):
        version = _LIBRARIES[library].__version__
        raise ModelUnusable(
            f"{path} needs {name}, which {library} {version} does not have. A newer {library} may."
        )
    return found
