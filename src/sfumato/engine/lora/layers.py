"""The layers of a network that can be changed, and their changes for rows of its batch."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from sfumato.core.errors import EngineFailure
from sfumato.engine.lora.changes import Change, Geometry, Layer, Passed, Scales
from sfumato.engine.packing import Packed, PackedConv2d, PackedLinear
from sfumato.engine.remembering import Remembered

#: One file's changes of one network, by the layer's name.
Changes = Mapping[str, Change]


@dataclass(frozen=True, slots=True, eq=False)
class RowGroup:
    """Rows of a batch that are changed alike.

    Attributes:
        rows: their places; None: all.
        changes: with the weight of each, or one weight a row.
    """

    rows: Tensor | None
    changes: tuple[tuple[Changes, Scales], ...]


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class RowLoras:
    """What the rows of one batch are changed by; no row is in two groups."""

    groups: tuple[RowGroup, ...]

    def layers(self) -> set[str]:
        """The names of those that are changed in any row."""
        return {name for group in self.groups for changes, _ in group.changes for name in changes}


def grouped(
    owners: Sequence[int],
    slots: Sequence[Sequence[tuple[Changes, float]]],
    device: torch.device,
    *,
    apart: bool,
) -> RowLoras | None:
    """The rows of each slot with the changes of that slot; None when nothing is changed.

    Args:
        owners: the slot of each row.
        slots: the changes that each asked for, and their weights.
        apart: each slot's rows in products of their own, so that its last bits do not depend on
            who else is in the batch. Otherwise slots with the same files share them.
    """
    members: dict[tuple[int, ...], list[int]] = {}
    for row, slot in enumerate(owners):
        if slots[slot]:
            key = tuple(id(changes) for changes, _ in slots[slot])
            members.setdefault((slot,) if apart else key, []).append(row)
    if not members:
        return None
    groups = []
    for rows in members.values():
        uses = [slots[owners[row]] for row in rows]
        scales = zip(*([weight for _, weight in use] for use in uses), strict=True)
        changes = zip((changes for changes, _ in uses[0]), scales, strict=True)
        # There may be rows beyond those of the owners, which no slot has apart from the others.
        alone = len(rows) == len(owners) and not apart
        places = None if alone else torch.tensor(rows, device=device)
        groups.append(
            RowGroup(places, tuple((each, _scales(weights, device)) for each, weights in changes))
        )
    return RowLoras(tuple(groups))


def _scales(weights: tuple[float, ...], device: torch.device) -> Scales:
    return weights[0] if len({*weights}) == 1 else torch.tensor(weights, device=device)


class Adaptable:
    """A network whose layers' answers can be changed.

    Its weights stay as they are, and without changes it runs the same code as if this were not.
    """

    def __init__(self, network: nn.Module) -> None:
        self.layers = _layers(network)
        self._remembered = [each for each in network.modules() if isinstance(each, Remembered)]
        self._handles: list[RemovableHandle] = []
        # Weak, lest weights stay in memory that no batch has use for any more.
        self._now: weakref.ref[RowLoras] | None = None

    def use(self, loras: RowLoras | None) -> None:
        """Change the answers from now on, and by nothing else; None: by nothing.

        At once where it is what was used last. It is for the caller to keep it.
        """
        same = (
            self._now is None if loras is None else self._now is not None and self._now() is loras
        )
        if same:
            return
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._now = None if loras is None else weakref.ref(loras)
        for each in self._remembered:
            each.forget()
        if loras is not None:
            for name in loras.layers():
                layer = self.layers[name]
                hook = partial(_change, layer, name, weakref.ref(loras))
                self._handles.append(layer.module.register_forward_hook(hook))


def _change(
    layer: Layer,
    name: str,
    loras: weakref.ref[RowLoras],
    _module: nn.Module,
    given: tuple[Tensor, ...],
    answer: Tensor,
) -> Tensor:
    """The hook of one layer: its answer with the changes of every row."""
    now, changed = loras(), answer
    if now is None:
        raise EngineFailure("The LoRAs that a network was set to are gone.")
    for group in now.groups:
        uses = [(changes[name], scales) for changes, scales in group.changes if name in changes]
        if not uses:
            continue
        # Gathered, not sliced: a slice's place in memory may change its last bits.
        rows, values = group.rows, given[0]
        values = values if rows is None else values.index_select(0, rows)
        before = answer if rows is None else answer.index_select(0, rows)
        passed, after = Passed(layer, values, before), before
        for change, scales in uses:
            after = after + change.delta(passed, scales)
        changed = after if rows is None else changed.index_copy_(0, rows, after)
    return changed


def _layers(network: nn.Module) -> dict[str, Layer]:
    """By their names in diffusers and transformers, which know of no wrappers."""
    layers = {}
    for path, module in network.named_modules():
        found = _layer(module)
        if found is not None:
            layers[_plain_name(network, path)] = found
    return layers


def _plain_name(network: nn.Module, path: str) -> str:
    parent, _, name = path.rpartition(".")
    wrapped = name == "layer" and isinstance(network.get_submodule(parent), Remembered)
    # transformers 5 dropped the prefix.
    return (parent if wrapped else path).removeprefix("text_model.")


def _layer(module: nn.Module) -> Layer | None:
    """None: it is no linear layer, or a convolution of a kind that nobody changes."""
    geometry = None
    if isinstance(module, nn.Conv2d | PackedConv2d):
        height, width = module.padding if isinstance(module.padding, tuple) else (0, 0)
        plain = isinstance(module, PackedConv2d) or module.padding_mode == "zeros"
        if isinstance(module.padding, str) or module.groups != 1 or not plain:
            return None
        (down, right), (high, wide) = module.stride, module.dilation
        geometry = Geometry((down, right), (height, width), (high, wide))
    elif not isinstance(module, nn.Linear | PackedLinear):
        return None
    if isinstance(module, Packed):
        return Layer(module, module.weight_shape, geometry, module.bias, module.dense_weight)
    weight = module.weight
    return Layer(module, tuple(weight.shape), geometry, module.bias, lambda: weight)
