"""What A1111 calls models: by file name, by title with a short hash, by the hash alone."""

from __future__ import annotations

import re
from collections.abc import Iterable

from sfumato.core.models import ModelInfo, ModelKind
from sfumato.core.recipe import Weights

#: Hexadecimal digits that A1111 shows of a model's digest.
SHORT_HASH = 10
#: Fewer digits are no name for a model.
_LEAST_DIGITS = 8
_BRACKETED = re.compile(r" ?\[[0-9a-fA-F]{8,64}\]$")
_SUFFIXES = (".safetensors", ".ckpt", ".pth", ".pt")


def digest_of(model: ModelInfo) -> str:
    """SHA-256 of the model's file, in hex; empty where nobody has computed it."""
    return Weights.of(model).sha256


def title_of(model: ModelInfo) -> str:
    """As A1111's menus show it: ``name [0123456789]``."""
    digest = digest_of(model)
    return f"{model.name} [{digest[:SHORT_HASH]}]" if digest else model.name


def name_of(text: str, kind: ModelKind, models: Iterable[ModelInfo]) -> str:
    """The catalogue's name for what a client calls a model in any of these ways.

    What is no model's name comes back without hash and suffix: whoever looks for it says so.
    """
    by_name = {model.name: model for model in models if model.kind is kind}
    if text in by_name:
        return text
    bare = _BRACKETED.sub("", text.strip())
    for suffix in _SUFFIXES:
        bare = bare.removesuffix(suffix)
    bare = bare.replace("\\", "/")
    folded = {name.casefold(): name for name in by_name}
    # A1111's titles may begin with the folder of the file.
    for spelling in (bare.casefold(), bare.casefold().rpartition("/")[2]):
        if spelling in folded:
            return folded[spelling]
    if len(bare) >= _LEAST_DIGITS:
        for name, model in by_name.items():
            if digest_of(model).startswith(bare.casefold()):
                return name
    return bare
