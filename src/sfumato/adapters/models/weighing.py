"""What a model's files hold, network by network, told from their headers alone."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from sfumato.adapters.models.describing import header_of
from sfumato.adapters.models.trees import FolderTree, Tree, folder_tree, read_json
from sfumato.core.checkpoints import (
    UNET_PREFIX,
    VAE_PREFIX,
    SafetensorsHeader,
    drawing_tensors,
    tensor_bytes,
)
from sfumato.core.errors import InvalidRequest
from sfumato.core.layout import NETWORKS, weights_of
from sfumato.core.models import ModelInfo, ModelLayout
from sfumato.core.planning import Weights

#: Positions and masks are no weights.
_NUMBERS = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})


def weigh(model: ModelInfo) -> list[Weights]:
    """The networks that draw, by the type of number that they are stored in.

    Raises:
        InvalidRequest: its files are not on this machine.
        ModelUnusable: one of them is broken.
    """
    path = Path(model.path)
    if not model.path or not path.exists():
        raise InvalidRequest(
            f"The files of {model.name} are not on this machine, and a plan reads their headers.",
            field="model",
            accepted="a model in a folder of this machine",
        )
    found: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for network, header in _networks(model, path):
        for name, spec in drawing_tensors(header).items():
            if spec.dtype in _NUMBERS:
                sizes = found[network or _of_checkpoint(name), spec.dtype]
                sizes[0] += math.prod(spec.shape)
                sizes[1] += tensor_bytes(spec)
    return [Weights(*names, *sizes) for names, sizes in sorted(found.items())]


def _networks(model: ModelInfo, path: Path) -> Iterator[tuple[str, SafetensorsHeader]]:
    """Each file of weights with its network; empty: its tensors' names tell."""
    if model.layout is ModelLayout.CHECKPOINT:
        tree: Tree = FolderTree(path.parent, [path])
        yield "", header_of(tree, path.name)
        return
    tree = folder_tree(path)
    chosen = weights_of(tree.files, lambda name: read_json(tree, name))
    files = [(network, file) for network in NETWORKS for file in chosen[network]]
    if not chosen["unet"]:  # one of diffusers' own pipelines, which is loaded as it stands
        named = [file.path for file in model.files if file.path.endswith(".safetensors")]
        files = [(PurePosixPath(file).parts[0], file) for file in named]
    for network, file in files:
        yield network, header_of(tree, file)


def _of_checkpoint(tensor: str) -> str:
    if tensor.startswith(UNET_PREFIX):
        return "unet"
    return "vae" if tensor.startswith(VAE_PREFIX) else "text_encoder"
