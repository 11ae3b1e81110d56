"""A LoRA, or LyCORIS, from a ``.safetensors`` file to changes of one model's layers."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from sfumato.core.errors import ModelRefused
from sfumato.core.models import ModelInfo
from sfumato.engine.lora.building import Factor, Misshapen, Unknown, build_change, words
from sfumato.engine.lora.changes import Change, Layer
from sfumato.engine.lora.layers import Adaptable, Changes
from sfumato.engine.lora.names import UNET, flat, parse_name, text_aliases, unet_aliases
from sfumato.engine.weights import Placement, hash_of, header_of, read_tensors

#: Embeddings that kohya's scripts can put into a LoRA's file.
_BUNDLED = "bundle_emb."


@dataclass(frozen=True, slots=True, eq=False)
class Lora:
    """A file's changes of one model.

    Attributes:
        changes: for each network that it changes, by diffusers' name of the network.
        digest: of its content, as :func:`sfumato.engine.weights.hash_of`.
        notes: what of the file this model has no use for.
    """

    name: str
    changes: Mapping[str, Changes]
    digest: str
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        return sum(
            tensor.nbytes
            for changes in self.changes.values()
            for change in changes.values()
            for tensor in change.tensors
        )


def read_lora(info: ModelInfo, networks: Mapping[str, Adaptable], placement: Placement) -> Lora:
    """The file's changes for a model of these networks.

    Args:
        networks: by diffusers' names: ``unet``, ``text_encoder``, ``text_encoder_2``.

    Raises:
        ModelUnusable: the file is broken.
        ModelRefused: it was made for another family, or in a way that is not known here.
    """
    path = Path(info.path)
    factors = _Factors(header_of(path).metadata)
    held = read_tensors([path])
    parts, norms = _parts(info, held)
    aliases = {
        name: (unet_aliases if name == UNET else text_aliases)(network.layers)
        for name, network in networks.items()
    }
    changes: dict[str, dict[str, Change]] = defaultdict(dict)
    absent = []
    for (network, layer), tensors in parts.items():
        name = aliases.get(network, {}).get(layer)
        if name is None:
            absent.append(f"{network} {layer}")
            continue
        target, factor = networks[network].layers[name], factors.of(network, layer)
        with _told(info, target, name):
            changes[network][name] = build_change(target, tensors, factor, placement)
    if not changes:
        what = f"{absent[0]!r} and {len(absent) - 1} more" if absent else "nothing"
        raise _refused(
            info,
            f"none of the layers that it changes is part of this model: it changes {what}. "
            "It was made for another family",
        )
    notes = []
    if absent:
        notes.append(
            f"the LoRA {info.name!r} changes {len(absent)} of its {len(parts)} layers for nothing: "
            f"this model lacks {absent[0]!r}{' and others' if len(absent) > 1 else ''}"
        )
    if norms:
        notes.append(f"what the LoRA {info.name!r} changes in norms was left aside")
    if any(name.startswith(_BUNDLED) for name in held):
        notes.append(f"the embeddings inside the LoRA {info.name!r} were left aside")
    return Lora(info.name, changes, hash_of([path]), tuple(notes))


def _parts(
    info: ModelInfo, tensors: Mapping[str, Tensor]
) -> tuple[dict[tuple[str, str], dict[str, Tensor]], bool]:
    """The tensors of each layer of each network, and whether it changes norms."""
    parts: dict[tuple[str, str], dict[str, Tensor]] = defaultdict(dict)
    norms = False
    for name, tensor in tensors.items():
        if name.startswith(_BUNDLED):
            continue
        found = parse_name(name)
        if found is None:
            raise _refused(
                info,
                f"it holds {name!r}, which is no part of a LoRA, LoHa, LoKr, full difference, "
                "(IA)³ or DoRA",
            )
        if found.part in ("w_norm", "b_norm"):
            norms = True
        else:
            parts[found.network, found.layer][found.part] = tensor
    return parts, norms


class _Factors:
    """What a file written by diffusers says in its metadata of the products' factors."""

    def __init__(self, metadata: Mapping[str, str]) -> None:
        try:
            said = json.loads(metadata.get("lora_adapter_metadata", "{}"))
        except ValueError:
            said = {}
        self._said: Mapping[str, Any] = said if isinstance(said, dict) else {}

    def of(self, network: str, layer: str) -> Factor:
        """By peft's rules; 1 where nothing is said."""
        alpha = self._said.get(f"{network}.lora_alpha")
        patterns = self._said.get(f"{network}.alpha_pattern")
        for pattern, own in patterns.items() if isinstance(patterns, dict) else ():
            if f"_{layer}".endswith(f"_{flat(pattern.removeprefix('^'))}"):
                alpha = own
        if not isinstance(alpha, int | float):
            return lambda _rank: 1.0
        if self._said.get(f"{network}.use_rslora"):
            return lambda rank: alpha / math.sqrt(rank)
        return lambda rank: alpha / rank


@contextmanager
def _told(info: ModelInfo, layer: Layer, name: str) -> Iterator[None]:
    """What is wrong with a layer's change, as an error about the file."""
    try:
        yield
    except Misshapen as error:
        raise _refused(
            info,
            f"its change of {name!r} is for a layer of {error}, and this model's has "
            f"{words(layer.shape)}. It was made for another family",
        ) from None
    except Unknown as error:
        raise _refused(info, f"its change of {name!r} {error}") from None


def _refused(info: ModelInfo, why: str) -> ModelRefused:
    return ModelRefused(
        f"The LoRA {info.name!r} can't be used with this model: {why}.", field="loras"
    )
