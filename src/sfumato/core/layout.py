"""What a model's folder in diffusers' layout must hold, told from the names of its files."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

#: The networks that draw, each with a ``config.json`` and weights. SDXL has both text encoders, its
#: refiner the second alone.
NETWORKS = ("unet", "vae", "text_encoder", "text_encoder_2")
TEXT_ENCODERS = NETWORKS[2:]
_TOKENIZER = (("tokenizer.json",), ("vocab.json", "merges.txt"))
#: What the other parts are read from, where ``model_index.json`` names these parts: all files of
#: one of the sets.
_SETTINGS = {
    "scheduler": (("scheduler_config.json",),),
    "tokenizer": _TOKENIZER,
    "tokenizer_2": _TOKENIZER,
}
#: The network that looks at finished pictures, and how it wants them prepared. Neither draws.
SAFETY_CHECKER, FEATURE_EXTRACTOR = "safety_checker", "feature_extractor"
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


def networks_of(index: Mapping[str, Any]) -> list[str]:
    """The networks that a model has. ``index``: content of ``model_index.json``."""
    second = _named(index, "text_encoder_2")
    only_second = second and not _named(index, "text_encoder")
    absent = {"text_encoder": only_second, "text_encoder_2": not second}
    return [network for network in NETWORKS if not absent.get(network)]


def _named(index: Mapping[str, Any], part: str) -> bool:
    """Whether an index says that there is a part; one that there is not may stand as nulls."""
    entry = index.get(part)
    return any(entry) if isinstance(entry, list) else bool(entry)


def weights_of(files: Collection[str], read_json: ReadJson) -> dict[str, list[str]]:
    """The weight files of each network, and of the safety checker, with paths below the model's
    folder."""

    def within(network: str) -> list[str]:
        folder = f"{network}/"
        inside = {name.removeprefix(folder) for name in files if name.startswith(folder)}
        chosen = weight_files(inside, lambda name: read_json(f"{network}/{name}"))
        return [f"{network}/{name}" for name in chosen]

    return {network: within(network) for network in (*NETWORKS, SAFETY_CHECKER)}


def missing_files(
    files: Collection[str], index: Mapping[str, Any], weights: Mapping[str, Collection[str]]
) -> list[str]:
    """What a folder lacks.

    Args:
        index: content of ``model_index.json``.
        weights: as :func:`weights_of` tells them.
    """

    def needed() -> Iterator[str]:
        for network in networks_of(index):
            yield f"{network}/config.json"
            yield from weights[network] or [f"{network}/*.safetensors"]
        for part, sets in _SETTINGS.items():
            paths = [{f"{part}/{name}" for name in names} for names in sets]
            if _named(index, part) and not any(some <= set(files) for some in paths):
                yield from sorted(paths[-1])

    return [name for name in needed() if name not in files]


def read_by_engine(path: str, weights: Mapping[str, Collection[str]]) -> bool:
    """Whether a file is worth copying: chosen weights, settings, and what its author wrote.

    Left aside are pickles, the same weights in other formats, and networks that neither draw nor
    check what was drawn.
    """
    folder, _, name = path.rpartition("/")
    if folder in (*NETWORKS, SAFETY_CHECKER):
        return path in weights[folder] or name.endswith(".json")
    settings = ("", *_SETTINGS, FEATURE_EXTRACTOR)
    return folder in settings and name.endswith((".json", ".txt", ".md"))
