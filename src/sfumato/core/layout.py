"""What a model's folder in diffusers' layout must hold, told from the names of its files."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

#: The networks that draw. Each has a ``config.json`` and weights.
NETWORKS = ("unet", "vae", "text_encoder")
#: What the other parts are read from, where ``model_index.json`` names these parts: all files of
#: one of the sets.
_SETTINGS = {
    "scheduler": (("scheduler_config.json",),),
    "tokenizer": (("tokenizer.json",), ("vocab.json", "merges.txt")),
}
_STEMS = ("diffusion_pytorch_model", "model")
_VARIANTS = ("", ".fp16")

#: Reads a JSON object by its name.
ReadJson = Callable[[str], Mapping[str, Any]]


def weight_files(names: Collection[str], read_json: ReadJson) -> list[str]:
    """Which of a component's files hold its weights, in one piece or in shards.

    Answers the shards that the component's index names, also those that are not there; nothing
    when there are no safetensors.
    """
    for stem in _STEMS:
        for variant in _VARIANTS:
            whole = f"{stem}{variant}.safetensors"
            if whole in names:
                return [whole]
            index = f"{stem}.safetensors.index{variant}.json"
            if index in names:
                return sorted(set(map(str, read_json(index).get("weight_map", {}).values())))
    return []


def weights_of(files: Collection[str], read_json: ReadJson) -> dict[str, list[str]]:
    """The weight files of each network, with paths below the model's folder."""

    def within(network: str) -> list[str]:
        folder = f"{network}/"
        inside = {name.removeprefix(folder) for name in files if name.startswith(folder)}
        chosen = weight_files(inside, lambda name: read_json(f"{network}/{name}"))
        return [f"{network}/{name}" for name in chosen]

    return {network: within(network) for network in NETWORKS}


def missing_files(
    files: Collection[str], index: Mapping[str, Any], weights: Mapping[str, Collection[str]]
) -> list[str]:
    """What a folder lacks.

    Args:
        index: content of ``model_index.json``.
        weights: as :func:`weights_of` tells them.
    """

    def needed() -> Iterator[str]:
        for network in NETWORKS:
            yield f"{network}/config.json"
            yield from weights[network] or [f"{network}/*.safetensors"]
        for part, sets in _SETTINGS.items():
            paths = [{f"{part}/{name}" for name in names} for names in sets]
            if part in index and not any(some <= set(files) for some in paths):
                yield from sorted(paths[-1])

    return [name for name in needed() if name not in files]


def read_by_engine(path: str, weights: Mapping[str, Collection[str]]) -> bool:
    """Whether a file is worth copying: chosen weights, settings, and what its author wrote.

    Left aside are pickles, the same weights in other formats, and networks that don't draw.
    """
    folder, _, name = path.rpartition("/")
    if folder in NETWORKS:
        return path in weights[folder] or name.endswith(".json")
    return folder in ("", *_SETTINGS) and name.endswith((".json", ".txt", ".md"))
