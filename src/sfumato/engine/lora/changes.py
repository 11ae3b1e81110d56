"""The kinds of change that a file may hold for one layer, each as what it adds to the answer.

A change of the weight W by ΔW adds ΔW·x to the answer W·x + b. Where ΔW is a product of small
factors, x goes through these and ΔW is never made. Sources: LoRA https://arxiv.org/abs/2106.09685,
LoHa and LoKr https://arxiv.org/abs/2309.14859, DoRA https://arxiv.org/abs/2402.09353, (IA)³
https://arxiv.org/abs/2205.05638; names of tensors and factors as LyCORIS writes them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

#: A weight for all rows, or one a row.
Scales = float | Tensor


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a convolution moves over its picture; None of it for a linear layer."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """A linear layer or a convolution that can be changed.

    Attributes:
        forward: the layer as it is, without any change.
        shape: of its weight, (out, in) or (out, in, height, width).
        geometry: of a convolution.
        weight: a dense copy of its weight.
    """

    module: nn.Module
    shape: tuple[int, ...]
    geometry: Geometry | None
    bias: Tensor | None
    weight: Callable[[], Tensor]

    def without_bias(self, answer: Tensor) -> Tensor:
        return answer if self.bias is None else answer - _per_channel(self.bias, answer, self)


@dataclass(frozen=True, slots=True, eq=False)
class Passed:
    """What went through a layer.

    Attributes:
        values: the layer's input, one row or more of it.
        answer: the unchanged layer's to these.
    """

    layer: Layer
    values: Tensor
    answer: Tensor


class Change(ABC):
    """A change of one layer."""

    @abstractmethod
    def delta(self, passed: Passed, scales: Scales) -> Tensor:
        """What is added to the answer, times ``scales``."""

    @abstractmethod
    def weight(self, layer: Layer) -> Tensor:
        """ΔW, of the layer's shape."""

    @property
    @abstractmethod
    def tensors(self) -> tuple[Tensor, ...]:
        """Everything that it keeps in memory."""


@dataclass(frozen=True, slots=True, eq=False)
class LowRank(Change):
    """ΔW = factor · up · mid · down; ``mid`` is there for convolutions of LoCon with one."""

    down: Tensor
    up: Tensor
    mid: Tensor | None
    factor: float

    def delta(self, passed: Passed, scales: Scales) -> Tensor:
        if self.mid is None:
            inner = _product(passed.values, self.down, passed.layer.geometry)
        else:
            inner = _product(
                _product(passed.values, self.down, _POINTWISE), self.mid, passed.layer.geometry
            )
        inner = _scaled(inner, scales, self.factor)
        return _product(inner, self.up, passed.layer.geometry and _POINTWISE)

    def weight(self, layer: Layer) -> Tensor:
        up, down = self.up.flatten(1), self.down.flatten(1)
        if self.mid is not None:
            return torch.einsum("or,rs...,si->oi...", up, self.mid, down) * self.factor
        return (up @ down).view(layer.shape) * self.factor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return tuple(each for each in (self.down, self.up, self.mid) if each is not None)


@dataclass(frozen=True, slots=True, eq=False)
class Hadamard(Change):
    """LoHa: ΔW = factor · (w1_a · w1_b) ∘ (w2_a · w2_b), or with a core each, as in Tucker's form.

    It has no form with few products, so ΔW is made anew each time: little work beside the layer's
    own, while to keep it would take the memory of a whole model.
    """

    first: tuple[Tensor, Tensor]
    second: tuple[Tensor, Tensor]
    cores: tuple[Tensor, Tensor] | None
    factor: float

    def delta(self, passed: Passed, scales: Scales) -> Tensor:
        return _scaled(
            _product(passed.values, self.weight(passed.layer), passed.layer.geometry), scales
        )

    def weight(self, layer: Layer) -> Tensor:
        if self.cores is None:
            first, second = self.first[0] @ self.first[1], self.second[0] @ self.second[1]
        else:
            first, second = tucker(self.cores[0], *self.first), tucker(self.cores[1], *self.second)
        return (first * second * self.factor).view(layer.shape)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (*self.first, *self.second, *(self.cores or ()))


@dataclass(frozen=True, slots=True, eq=False)
class Kronecker(Change):
    """LoKr: ΔW = factor · outer ⊗ inner, computed as two small products.

    Attributes:
        outer: (out₁, in₁).
        inner: (out₂, in₂), and the kernel's sides in a convolution.
    """

    outer: Tensor
    inner: Tensor
    factor: float

    def delta(self, passed: Passed, scales: Scales) -> Tensor:
        outs, ins = self.outer.shape
        if passed.layer.geometry is None:
            split = passed.values.reshape(*passed.values.shape[:-1], ins, -1)
            joined = (self.outer @ (split @ self.inner.T)).flatten(-2)
        else:
            rows = passed.values.shape[0]
            split = passed.values.reshape(rows * ins, -1, *passed.values.shape[2:])
            inner = _product(split, self.inner, passed.layer.geometry)
            mixed = self.outer @ inner.reshape(rows, ins, -1)
            joined = mixed.reshape(rows, outs * inner.shape[1], *inner.shape[2:])
        return _scaled(joined, scales, self.factor)

    def weight(self, layer: Layer) -> Tensor:
        outer = self.outer[..., None, None] if self.inner.ndim == 4 else self.outer
        return torch.kron(outer, self.inner).view(layer.shape) * self.factor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return self.outer, self.inner


@dataclass(frozen=True, slots=True, eq=False)
class Full(Change):
    """ΔW, and Δb, as they are. Either may be missing."""

    difference: Tensor | None
    bias: Tensor | None

    def delta(self, passed: Passed, scales: Scales) -> Tensor:
        if self.difference is None:
            change = torch.zeros_like(passed.answer)
        else:
            change = _product(passed.values, self.difference, passed.layer.geometry)
        if self.bias is not None:
            change = change + _per_channel(self.bias, passed.answer, passed.layer)
        return _scaled(change, scales)

    def weight(self, layer: Layer) -> Tensor:
        if self.difference is None:
            return torch.zeros_like(layer.weight())
        return self.difference

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return tuple(each for each in (self.difference, self.bias) if each is not None)


@dataclass(frozen=True, slots=True, eq=False)
class Stretched(Change):
    """(IA)³: ΔW = W, its rows or columns times ``factors``."""

    factors: Tensor
    on_input: bool

    def delta(self, passed: Passed, scales: Scales) -> Tensor:
        if self.on_input:
            stretched = passed.layer.module.forward(
                passed.values * _per_channel(self.factors, passed.values, passed.layer)
            )
            return _scaled(passed.layer.without_bias(stretched), scales)
        factors = _per_channel(self.factors, passed.answer, passed.layer)
        return _scaled(passed.layer.without_bias(passed.answer) * factors, scales)

    def weight(self, layer: Layer) -> Tensor:
        return layer.weight() * _along(self.factors, layer, on_input=self.on_input)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.factors,)


@dataclass(frozen=True, slots=True, eq=False)
class Decomposed(Change):
    """DoRA: W + ΔW of another change, each row or column then scaled by ``ratios``.

    With a weight, what it adds to W is scaled as a whole, as A1111 does.
    """

    change: Change
    ratios: Tensor
    on_input: bool

    @classmethod
    def of(cls, change: Change, lengths: Tensor, layer: Layer, *, on_input: bool) -> Decomposed:
        """With the lengths that the rows, or columns, of W + ΔW shall have."""
        whole = layer.weight().float() + change.weight(layer).float()
        others = [n for n in range(whole.ndim) if n != int(on_input)]
        norms = torch.linalg.vector_norm(whole, dim=others) + torch.finfo(torch.float32).eps
        ratios = lengths.to(norms.device).float() / norms
        return cls(change, ratios.to(layer.weight().dtype), on_input)

    def delta(self, passed: Passed, scales: Scales) -> Tensor:
        if self.on_input:
            stretched = passed.values * _per_channel(self.ratios, passed.values, passed.layer)
            moved = passed.layer.module.forward(stretched)
            total = (
                moved
                - passed.answer
                + self.change.delta(Passed(passed.layer, stretched, moved), 1.0)
            )
        else:
            ratios = _per_channel(self.ratios, passed.answer, passed.layer)
            total = (ratios - 1) * passed.layer.without_bias(passed.answer)
            total = total + ratios * self.change.delta(passed, 1.0)
        return _scaled(total, scales)

    def weight(self, layer: Layer) -> Tensor:
        whole = layer.weight() + self.change.weight(layer)
        return whole * _along(self.ratios, layer, on_input=self.on_input) - layer.weight()

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (*self.change.tensors, self.ratios)


def tucker(core: Tensor, outs: Tensor, ins: Tensor) -> Tensor:
    """(out, in, height, width) from a core (r, s, height, width), (r, out) and (s, in)."""
    return torch.einsum("rs...,ro,si->oi...", core, outs, ins)


_POINTWISE = Geometry((1, 1), (0, 0), (1, 1))


def _product(values: Tensor, weight: Tensor, geometry: Geometry | None) -> Tensor:
    if geometry is None:
        return nn.functional.linear(values, weight)
    return nn.functional.conv2d(
        values, weight, None, geometry.stride, geometry.padding, geometry.dilation
    )


def _scaled(values: Tensor, scales: Scales, factor: float = 1.0) -> Tensor:
    if isinstance(scales, Tensor):
        each = scales.view(-1, *[1] * (values.ndim - 1)) * factor
        return values * each.to(values.dtype)
    return values * (scales * factor)


def _per_channel(numbers: Tensor, values: Tensor, layer: Layer) -> Tensor:
    """One number a channel, to go with the values of a layer's input or answer."""
    return numbers if layer.geometry is None else numbers.view(-1, *[1] * (values.ndim - 2))


def _along(numbers: Tensor, layer: Layer, *, on_input: bool) -> Tensor:
    """One number a column, or row, to go with the layer's weight."""
    beyond = [1] * (len(layer.shape) - 2)
    return numbers.view(1, -1, *beyond) if on_input else numbers.view(-1, 1, *beyond)
