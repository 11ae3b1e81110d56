"""The models on disk: the built-in starter, diffusers folders, single-file checkpoints.

Tells what there is without loading anything. Pickled weights are listed, so that their owner
learns why they are refused, but never opened.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from sfumato.core.checkpoints import detect_family, named_prediction, read_header
from sfumato.core.errors import ModelRefused, ModelUnusable, UnknownModel
from sfumato.core.models import ModelDefaults, ModelInfo, ModelLayout, choose_model

_MANIFEST = "sfumato.json"
_PICKLES = frozenset({".ckpt", ".pt", ".pth", ".bin"})
_COMPONENTS = ("unet", "vae", "text_encoder")
_PIPELINES = frozenset({"StableDiffusionPipeline", "LatentConsistencyModelPipeline"})
#: Width of the text embeddings -> the family that was trained on such.
_FAMILIES = {768: "sd1", 1024: "sd2"}
#: How deep below a folder models are looked for.
_DEPTH = 3

_PICKLE_REFUSAL = (
    "{name} is a pickle, which can run any code when it is opened, so it never is. Convert it to "
    "safetensors where you trust it, with A1111's checkpoint merger or "
    "safetensors.torch.save_file, and put that file here."
)

#: Modification time and size of each file an entry was read from: unchanged, it is not read again.
_Signature = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class _Entry:
    """A place where a model is: its path, how to describe it, and the files that decide."""

    path: Path
    describe: Callable[[Path], ModelInfo]
    layout: ModelLayout
    witnesses: tuple[Path, ...]

    def signature(self) -> _Signature:
        return tuple(_stamp(path) for path in self.witnesses)


class FolderModelCatalog:
    """Implements :class:`sfumato.core.ports.ModelCatalog` over local folders.

    Args:
        folders: searched three levels deep, in this order; one that does not exist is empty.
        builtin: the folder of the model that ships with the package, listed first.
        default: name of the default model; None: the built-in one, else the first usable.
    """

    def __init__(
        self, folders: Sequence[Path], *, builtin: Path | None = None, default: str | None = None
    ) -> None:
        self._folders = tuple(folders)
        self._builtin = builtin
        self._default = default
        self._known: dict[Path, tuple[_Signature, ModelInfo]] = {}

    def list(self) -> Sequence[ModelInfo]:
        """Every model, also the refused; a name that comes twice is numbered from 2."""
        found: dict[str, ModelInfo] = {}
        known: dict[Path, tuple[_Signature, ModelInfo]] = {}
        for entry in self._entries():
            info = self._describe(entry, known)
            name, number = info.name, 2
            while name in found:
                name, number = f"{info.name}-{number}", number + 1
            found[name] = replace(info, name=name)
        self._known = known
        return list(found.values())

    def get(self, name: str | None) -> ModelInfo:
        models = self.list()
        chosen = name or self._default
        if chosen is not None:
            return choose_model(models, chosen)
        usable = [model for model in models if model.refusal is None]
        if not usable:
            searched = ", ".join(map(str, self._folders)) or "no folder"
            raise UnknownModel(f"There is no model yet; searched {searched}.", field="model")
        return usable[0]

    def _entries(self) -> Iterator[_Entry]:
        roots = [self._builtin] if self._builtin is not None else []
        seen = set()
        for root in (*roots, *self._folders):
            for entry in _search(root, _DEPTH):
                if entry.path not in seen:
                    seen.add(entry.path)
                    yield entry

    def _describe(
        self, entry: _Entry, known: dict[Path, tuple[_Signature, ModelInfo]]
    ) -> ModelInfo:
        signature = entry.signature()
        remembered = self._known.get(entry.path)
        if remembered is not None and remembered[0] == signature:
            info = remembered[1]
        else:
            try:
                info = entry.describe(entry.path)
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                # Whatever is wrong with one model must not hide the others.
                info = _bare(entry.path, entry.layout, f"{entry.path.name} is broken: {error}")
        known[entry.path] = signature, info
        return info


def _search(root: Path, depth: int) -> Iterator[_Entry]:
    """Models at or below ``root``, by name."""
    if (root / "model_index.json").is_file():
        yield _Entry(root, _describe_folder, ModelLayout.DIFFUSERS, _folder_witnesses(root))
        return
    try:
        children = sorted(root.iterdir())
    except OSError:
        return
    for child in children:
        if child.name.startswith("."):
            continue
        if child.is_dir():
            if depth > 1:
                yield from _search(child, depth - 1)
        elif child.suffix.lower() == ".safetensors":
            witnesses = (child, child.with_suffix(".json"), child.with_suffix(".yaml"))
            yield _Entry(child, _describe_checkpoint, ModelLayout.CHECKPOINT, witnesses)
        elif child.suffix.lower() in _PICKLES:
            yield _Entry(child, _describe_pickle, ModelLayout.CHECKPOINT, (child,))


def _folder_witnesses(folder: Path) -> tuple[Path, ...]:
    return (
        folder / "model_index.json",
        folder / _MANIFEST,
        *(folder / part for part in _COMPONENTS),
        *(folder / part / "config.json" for part in _COMPONENTS),
    )


def _describe_folder(folder: Path) -> ModelInfo:
    pipeline = _json(folder / "model_index.json").get("_class_name")
    manifest = _json(folder / _MANIFEST) if (folder / _MANIFEST).is_file() else {}
    weights = [list((folder / part).glob("*.safetensors")) for part in _COMPONENTS]
    info = _bare(folder, ModelLayout.DIFFUSERS)
    if pipeline not in _PIPELINES:
        refusal = f"{folder.name} is a {pipeline}, for which this engine has no code."
        return replace(info, refusal=refusal)
    if not all(weights) and any(folder.glob("*/*.bin")):
        return replace(info, refusal=_PICKLE_REFUSAL.format(name=folder.name))
    unet, vae = _json(folder / "unet/config.json"), _json(folder / "vae/config.json")
    side = int(unet.get("sample_size") or 64) * 2 ** (len(vae["block_out_channels"]) - 1)
    defaults = _defaults(folder.name, side)
    if unet.get("time_cond_proj_dim") is not None:
        defaults = ModelDefaults(side, side, 4, 8.0, "lcm")
    info = replace(
        info,
        family=_FAMILIES.get(int(unet["cross_attention_dim"]), "sd"),
        size_bytes=sum(path.stat().st_size for found in weights for path in found),
        defaults=defaults,
    )
    return _with_manifest(info, manifest)


def _describe_checkpoint(path: Path) -> ModelInfo:
    size = path.stat().st_size
    info = replace(_bare(path, ModelLayout.CHECKPOINT), size_bytes=size)
    try:
        with path.open("rb") as stream:
            family = detect_family(read_header(stream, size))
    except ModelUnusable:
        # It may be half copied. A job that asks for it fails and says what is wrong.
        return info
    except ModelRefused as error:
        return replace(info, refusal=f"{path.name}: {error.message}")
    sidecar, yaml = path.with_suffix(".json"), path.with_suffix(".yaml")
    manifest = _json(sidecar) if sidecar.is_file() else {}
    prediction = named_prediction(manifest, yaml.read_text("utf-8") if yaml.is_file() else "")
    # The 768-pixel models of SD 2 are those that predict v.
    side = 768 if family == "sd2" and prediction == "v_prediction" else 512
    info = replace(info, family=family, defaults=_defaults(path.stem, side))
    return _with_manifest(info, manifest)


def _describe_pickle(path: Path) -> ModelInfo:
    info = _bare(path, ModelLayout.CHECKPOINT, _PICKLE_REFUSAL.format(name=path.name))
    return replace(info, size_bytes=path.stat().st_size)


def _bare(path: Path, layout: ModelLayout, refusal: str | None = None) -> ModelInfo:
    name = path.name if layout is ModelLayout.DIFFUSERS else path.stem
    return ModelInfo(name, "sd", layout, str(path), title=name, refusal=refusal)


def _defaults(name: str, side: int) -> ModelDefaults:
    """A model's usual settings; a turbo model is known by its name alone."""
    if "turbo" in name.lower():
        return ModelDefaults(side, side, 1, 0.0, "euler")
    return ModelDefaults(side, side)


def _with_manifest(info: ModelInfo, manifest: Mapping[str, Any]) -> ModelInfo:
    """``info`` with what the model's author wrote down; keys of other programs are left aside."""
    texts = ("name", "title", "family", "description", "license")
    changes: dict[str, Any] = {
        key: value for key in texts if isinstance(value := manifest.get(key), str) and value
    }
    if "name" in changes:
        changes.setdefault("title", changes["name"])
    if "sizes" in manifest:
        changes["sizes"] = tuple((int(width), int(height)) for width, height in manifest["sizes"])
    if "vocabulary" in manifest:
        changes["vocabulary"] = frozenset(word.casefold() for word in manifest["vocabulary"])
    if "defaults" in manifest:
        known = {item.name for item in fields(ModelDefaults)}
        chosen = {key: value for key, value in manifest["defaults"].items() if key in known}
        changes["defaults"] = replace(info.defaults, **chosen)
    return replace(info, **changes)


def _json(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise TypeError(f"{path.name} is not a JSON object")
    return content


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = os.stat(path)  # noqa: PTH116 - half the cost of Path.stat, on every request
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size
