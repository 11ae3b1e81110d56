"""Folders for which this engine has no family of its own, and diffusers has a pipeline."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from sfumato.adapters.models.manifest import MANIFEST
from sfumato.adapters.models.trees import Tree, read_header_of, read_json
from sfumato.core.errors import ModelRefused, ModelUnusable
from sfumato.core.layout import weight_files
from sfumato.core.models import ModelInfo, memory_needed
from sfumato.core.pipelines import (
    PIPELINE_FAMILY,
    missing_parts,
    pipeline_defaults,
    pipeline_parts,
)

#: What a part is read from beside its weights: settings, vocabularies, chat templates.
_SETTINGS = (".json", ".txt", ".model", ".jinja")
#: Kinds of part that have weights, by the last word of their names.
_WITHOUT_WEIGHTS = ("Scheduler", "Tokenizer", "TokenizerFast", "Processor", "Extractor")


def describe_pipeline(tree: Tree, info: ModelInfo, index: Mapping[str, Any]) -> ModelInfo:
    """What is known of such a folder. Whether diffusers has its classes is seen when it is loaded.

    Args:
        info: a model of which no more is known than its name.
        index: content of ``model_index.json``.
    """
    info = replace(info, family=PIPELINE_FAMILY)
    try:
        parts = pipeline_parts(index)
        missing = missing_parts(index, tree.files)
    except ModelRefused as error:
        return replace(info, refusal=f"{info.name} can't be used: {error.message}")
    weights = {name: _weights(tree, name) for name, part in parts.items() if part is not None}
    missing += [
        f"{name}/*.safetensors"
        for name, part in parts.items()
        if part is not None and not part[1].endswith(_WITHOUT_WEIGHTS) and not weights[name]
    ]
    chosen = [path for paths in weights.values() for path in paths]
    missing += [path for path in chosen if path not in tree.files]
    if missing:
        shown = ", ".join(dict.fromkeys(missing))
        return replace(info, refusal=f"{info.name} is incomplete: {shown} missing.")
    defaults = pipeline_defaults(index, _config(tree, "transformer"), _config(tree, "vae"))
    try:
        numbers = sum(
            math.prod(tensor.shape)
            for path in chosen
            for tensor in read_header_of(tree, path).tensors.values()
        )
    except ModelUnusable as error:
        return replace(info, refusal=f"{info.name} can't be used: {error.message}")
    return replace(
        info,
        size_bytes=sum(tree.files[path].size_bytes for path in chosen),
        defaults=defaults,
        memory_bytes=memory_needed(numbers, defaults),
        files=tuple(
            file
            for path, file in tree.files.items()
            if path != MANIFEST and (path in chosen or _is_read(path, weights))
        ),
    )


def _weights(tree: Tree, part: str) -> list[str]:
    inside = {path.removeprefix(f"{part}/") for path in tree.files if path.startswith(f"{part}/")}
    found = weight_files(inside, lambda name: read_json(tree, f"{part}/{name}"))
    return [f"{part}/{name}" for name in found]


def _config(tree: Tree, part: str) -> Mapping[str, Any]:
    path = f"{part}/config.json"
    return read_json(tree, path) if path in tree.files else {}


def _is_read(path: str, parts: Mapping[str, object]) -> bool:
    where = PurePosixPath(path)
    folder = str(where.parent)
    if folder == ".":
        return where.suffix in (".json", ".md")
    return folder in parts and where.suffix in _SETTINGS
