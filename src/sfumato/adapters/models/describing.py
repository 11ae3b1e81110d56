"""What a model is, told from its files without loading it.

Pickled weights are described too, so that their owner learns why they are refused, but never
opened. A model that is not whole is described with what it lacks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import PurePosixPath
from typing import Any

from sfumato.adapters.models.extras import (
    describe_extra,
    find_kind,
    hinted_kind,
    with_a1111_card,
)
from sfumato.adapters.models.manifest import MANIFEST
from sfumato.adapters.models.pipelines import describe_pipeline
from sfumato.adapters.models.trees import Tree, read_header_of, read_json, read_text
from sfumato.core.checkpoints import (
    SafetensorsHeader,
    detect_family,
    drawing_weights,
    named_prediction,
)
from sfumato.core.errors import ModelRefused, ModelUnusable
from sfumato.core.layout import missing_files, networks_of, read_by_engine, weights_of
from sfumato.core.models import (
    ModelDefaults,
    ModelFile,
    ModelInfo,
    ModelKind,
    ModelLayout,
    memory_needed,
)

#: What a model's author may write down of it, beside ``model_index.json``.
CARD = "sfumato.json"
PICKLES = frozenset({".ckpt", ".pt", ".pth", ".bin"})
_PIPELINES = frozenset(
    {
        "LatentConsistencyModelPipeline",
        "StableDiffusionPipeline",
        "StableDiffusionImg2ImgPipeline",
        "StableDiffusionInpaintPipeline",
        "StableDiffusionXLPipeline",
        "StableDiffusionXLImg2ImgPipeline",
        "StableDiffusionXLInpaintPipeline",
    }
)
#: Its file is published for 1, 2, 4 and 8 steps.
_MOST_LIGHTNING_STEPS = 8
#: Width of the text embeddings -> the family that was trained on such.
_FAMILIES = {768: "sd1", 1024: "sd2", 2048: "sdxl", 1280: "sdxl_refiner"}

#: A pickle of fewer bytes in no folder that tells can be nothing else.
_LARGEST_EMBEDDING = 1 << 20

_PICKLE_REFUSAL = (
    "{name} is a pickle, which can run any code when it is opened, so it never is. Convert it to "
    "safetensors where you trust it, with A1111's checkpoint merger or "
    "safetensors.torch.save_file, and put that file here."
)


def bare(
    name: str, layout: ModelLayout, refusal: str | None = None, kind: ModelKind | None = None
) -> ModelInfo:
    """A model of which nothing more is known; of an unknown kind it counts as a base model."""
    kind = kind or ModelKind.BASE
    family = "sd" if kind is ModelKind.BASE else ""
    return ModelInfo(name, family, layout, "", title=name, refusal=refusal, kind=kind)


def describe_folder(tree: Tree, name: str) -> ModelInfo:
    """A model in diffusers' layout, whose folder has this name."""
    info = bare(name, ModelLayout.DIFFUSERS)
    if "model_index.json" not in tree.files:
        return replace(info, refusal=incomplete(name, ["model_index.json"]))
    index = read_json(tree, "model_index.json")
    pipeline = index.get("_class_name")
    if pipeline not in _PIPELINES:
        return _described_pipeline(tree, info, index)
    weights = weights_of(tree.files, lambda path: read_json(tree, path))
    if not all(weights[name] for name in networks_of(index)) and _holds_pickles(tree):
        return replace(info, refusal=pickle_refusal(name))
    missing = missing_files(tree.files, index, weights)
    if missing:
        return replace(info, refusal=incomplete(name, missing))
    chosen = [path for network in networks_of(index) for path in weights[network]]
    unet, vae = read_json(tree, "unet/config.json"), read_json(tree, "vae/config.json")
    side = int(unet.get("sample_size") or 64) * 2 ** (len(vae["block_out_channels"]) - 1)
    defaults = _defaults(name, side)
    if unet.get("time_cond_proj_dim") is not None:
        defaults = ModelDefaults(side, side, 4, 8.0, "lcm")
    info = replace(
        info,
        family=_FAMILIES.get(int(unet["cross_attention_dim"]), "sd"),
        size_bytes=sum(tree.files[path].size_bytes for path in chosen),
        defaults=defaults,
        files=tuple(
            file
            for path, file in tree.files.items()
            if read_by_engine(path, weights) and path != MANIFEST
        ),
    )
    info = with_card(info, read_json(tree, CARD) if CARD in tree.files else {})
    try:
        count = sum(drawing_weights(header_of(tree, path)) for path in chosen)
    except ModelUnusable as error:
        return replace(info, refusal=f"{name} can't be used: {error.message}")
    return replace(info, memory_bytes=memory_needed(count, info.defaults, info.family))


def _described_pipeline(tree: Tree, info: ModelInfo, index: Mapping[str, Any]) -> ModelInfo:
    found = describe_pipeline(tree, info, index)
    if found.refusal is not None:
        return replace(found, refusal=pickle_refusal(info.name)) if _holds_pickles(tree) else found
    return with_card(found, read_json(tree, CARD) if CARD in tree.files else {})


def describe_checkpoint(tree: Tree, path: str, place: str = "") -> ModelInfo:
    """What one ``.safetensors`` file of the tree is, of whatever kind.

    Args:
        place: where the file lies, whose folders may tell what it is for.

    Raises ``ModelUnusable`` for a file that is truncated or corrupt.
    """
    name = PurePosixPath(path).stem
    beside = [str(PurePosixPath(path).with_suffix(suffix)) for suffix in (".json", ".yaml")]
    files = [tree.files[path], *(tree.files[other] for other in beside if other in tree.files)]
    info = replace(
        bare(name, ModelLayout.CHECKPOINT),
        size_bytes=tree.files[path].size_bytes,
        files=tuple(files),
    )
    header = header_of(tree, path)
    card = read_json(tree, beside[0]) if beside[0] in tree.files else {}
    found = find_kind(header, place or path)
    if found is not None:
        extra = with_card(describe_extra(info, header, found, place or path), card)
        return with_a1111_card(extra, card)
    try:
        family = detect_family(header)
    except ModelRefused as error:
        refusal = f"{PurePosixPath(path).name}: {error.message}"
        return replace(info, refusal=refusal)
    prediction = named_prediction(
        card, read_text(tree, beside[1]) if beside[1] in tree.files else ""
    )
    side = _side(name, family, prediction)
    info = with_card(replace(info, family=family, defaults=_defaults(name, side)), card)
    needed = memory_needed(drawing_weights(header), info.defaults, info.family)
    return replace(info, memory_bytes=needed)


def describe_pickle(file: ModelFile, place: str = "") -> ModelInfo:
    """A file that is never opened. ``place``: as in :func:`describe_checkpoint`."""
    path = PurePosixPath(file.path)
    kind = hinted_kind(place or file.path)
    if kind is None and path.suffix != ".ckpt" and file.size_bytes < _LARGEST_EMBEDDING:
        kind = ModelKind.EMBEDDING
    info = bare(path.stem, ModelLayout.CHECKPOINT, pickle_refusal(path.name), kind)
    return replace(info, size_bytes=file.size_bytes)


def pickle_refusal(name: str) -> str:
    return _PICKLE_REFUSAL.format(name=name)


def incomplete(name: str, missing: Sequence[str]) -> str:
    """The refusal of a model that is not there as a whole."""
    shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
    verb = "are" if len(missing) > 1 else "is"
    return (
        f"{name} is incomplete: {shown} {verb} missing. It may still be being copied; it can be "
        "used once every file is there."
    )


def broken(file: str, layout: ModelLayout, error: Exception, place: str = "") -> ModelInfo:
    """A model whose own files could not be made sense of.

    Args:
        file: its folder's or file's name.
        place: as in :func:`describe_checkpoint`.
    """
    name = PurePosixPath(file).stem if layout is ModelLayout.CHECKPOINT else file
    return bare(name, layout, f"{file} is broken: {error}", hinted_kind(place))


#: What reading a model's own files may raise, whatever is in them.
MALFORMED = (OSError, ValueError, KeyError, TypeError, AttributeError)


def header_of(tree: Tree, path: str) -> SafetensorsHeader:
    try:
        return read_header_of(tree, path)
    except ModelUnusable as error:
        raise ModelUnusable(f"{path}: {error.message}") from None


def _holds_pickles(tree: Tree) -> bool:
    return any(path.count("/") == 1 and path.endswith(".bin") for path in tree.files)


def _side(name: str, family: str, prediction: str | None) -> int:
    """Pixels a side that a checkpoint was trained on."""
    if family == "sd2":
        # The models of SD 2 for 768 pixels are those that predict v.
        return 768 if prediction == "v_prediction" else 512
    # Stability's own SDXL Turbo; others of that kind draw as large as SDXL.
    small = "sdxlturbo" in re.sub(r"[^a-z0-9]", "", name.lower())
    return 1024 if family.startswith("sdxl") and not small else 512


def _defaults(name: str, side: int) -> ModelDefaults:
    """A model's usual settings; turbo and Lightning models are known by their names alone."""
    lower = name.lower()
    if "turbo" in lower:
        return ModelDefaults(side, side, 1, 0.0, "euler")
    if "lightning" in lower:
        steps = re.search(r"(\d+)[-_ ]?steps?", lower)
        count = min(int(steps[1]), _MOST_LIGHTNING_STEPS) if steps else _MOST_LIGHTNING_STEPS
        return ModelDefaults(side, side, max(1, count), 0.0, "euler_trailing")
    return ModelDefaults(side, side)


def with_card(info: ModelInfo, card: Mapping[str, Any]) -> ModelInfo:
    """``info`` with what the model's author wrote down; keys of other programs are left aside."""
    texts = ("name", "title", "family", "description", "license")
    changes: dict[str, Any] = {
        key: value for key in texts if isinstance(value := card.get(key), str) and value
    }
    if "name" in changes:
        changes.setdefault("title", changes["name"])
    if "sizes" in card:
        changes["sizes"] = tuple((int(width), int(height)) for width, height in card["sizes"])
    if "vocabulary" in card:
        changes["vocabulary"] = frozenset(word.casefold() for word in card["vocabulary"])
    if "attribution" in card:
        changes["attribution"] = tuple(str(line) for line in card["attribution"])
    if "defaults" in card:
        known = {item.name for item in fields(ModelDefaults)}
        chosen = {key: value for key, value in card["defaults"].items() if key in known}
        changes["defaults"] = replace(info.defaults, **chosen)
    return replace(info, **changes)
