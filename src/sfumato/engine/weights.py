"""Weights from disk into modules: safetensors only, checked before anything is built from them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from sfumato.core.checkpoints import SafetensorsHeader, read_header
from sfumato.core.errors import ModelUnusable
from sfumato.core.layout import weight_files

Module = TypeVar("Module", bound=nn.Module)

#: Blocks of each file that go into a model's hash, and their size in bytes.
_HASHED_BLOCKS, _BLOCK_BYTES = 64, 4096


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a model's tensors live, and in which precision it computes."""

    device: torch.device
    dtype: torch.dtype


def header_of(path: Path) -> SafetensorsHeader:
    """The file's header, checked against its size.

    Raises:
        ModelUnusable: naming the file.
    """
    try:
        with path.open("rb") as stream:
            return read_header(stream, path.stat().st_size)
    except ModelUnusable as error:
        raise ModelUnusable(f"{path} can't be used: {error.message}") from None
    except OSError as error:
        raise ModelUnusable(f"{path} can't be read: {error.strerror}.") from None


def read_tensors(files: Iterable[Path]) -> dict[str, Tensor]:
    """Every tensor of the files, mapped into memory rather than read where the system can.

    Raises:
        ModelUnusable: naming the file and what is wrong with it.
    """
    tensors: dict[str, Tensor] = {}
    for path in files:
        header_of(path)
        try:
            with safe_open(path, framework="pt", device="cpu") as source:
                tensors |= {name: source.get_tensor(name) for name in source.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise ModelUnusable(f"{path} can't be used: {error}.") from None
    return tensors


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ModelUnusable: naming the file.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelUnusable(f"{path} can't be read: {error.strerror}.") from None
    except ValueError:
        raise ModelUnusable(f"{path} is not JSON.") from None
    if not isinstance(content, dict):
        raise ModelUnusable(f"{path} is not a JSON object.")
    return content


def component_files(folder: Path) -> list[Path]:
    """The weight files of one component of a diffusers folder, in one piece or in shards.

    Raises:
        ModelUnusable: there are none; pickled weights are named, never opened.
    """
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    chosen = weight_files(names, lambda name: read_json(folder / name))
    if chosen:
        return [folder / name for name in chosen]
    pickles = sorted(path.name for path in folder.glob("*.bin"))
    hint = f" Pickled weights ({', '.join(pickles)}) are never opened." if pickles else ""
    raise ModelUnusable(f"{folder} has no .safetensors weights.{hint}")


def build(
    make: Callable[[], Module], tensors: Mapping[str, Tensor], source: Path, placement: Placement
) -> Module:
    """A module around given weights; none are initialised first, spare tensors are left aside.

    Args:
        make: builds the module; called with "meta" as the default device.
        source: named in errors.

    Raises:
        ModelUnusable: a tensor is missing or has another shape than the module's.
    """
    with torch.device("meta"):
        module = make()
    expected = module.state_dict()
    missing = [name for name in expected if name not in tensors]
    if missing:
        raise ModelUnusable(f"{source} lacks {len(missing)} tensor(s): {_some(missing)}.")
    misshapen = [
        f"{name} is {tuple(tensors[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if tensors[name].shape != tensor.shape
    ]
    if misshapen:
        raise ModelUnusable(f"{source} has tensors of a wrong shape: {_some(misshapen)}.")
    placed = {name: tensors[name].to(placement.device, placement.dtype) for name in expected}
    module.load_state_dict(placed, assign=True)
    return module.requires_grad_(requires_grad=False).eval()


def hash_of(files: Iterable[Path]) -> str:
    """SHA-256 over each file's size, header and blocks spread evenly over its tensors.

    Fast on gigabytes, the same wherever the file lies; any retraining changes it. It is not the
    hash of the whole file that A1111 shows.
    """
    digest = hashlib.sha256()
    for path in files:
        size = path.stat().st_size
        digest.update(size.to_bytes(8, "little"))
        digest.update(header_of(path).digest_bytes)
        with path.open("rb") as stream:
            for block in range(_HASHED_BLOCKS):
                stream.seek(max(0, size - _BLOCK_BYTES) * block // (_HASHED_BLOCKS - 1))
                digest.update(stream.read(_BLOCK_BYTES))
    return digest.hexdigest()


def _some(names: list[str], most: int = 3) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
