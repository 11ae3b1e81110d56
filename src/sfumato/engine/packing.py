"""Convolutions and linear layers whose weights lie as oneDNN wants them, on a CPU in float32.

Eager torch hands oneDNN a convolution's weights in torch's own layout, to be rearranged at every
call, and computes linear layers with MKL. With the weights rearranged once the same oneDNN kernels
run without that work. Measured on two cores, a step of the starter's UNet: 128 px, 2 rows 19 to
15 ms; 16 rows 88 to 67 ms; 256 px, 16 rows 338 to 271 ms; a decode 24 to 19 ms.

The layout follows the size of a layer's input, whatever the number of rows: a layout made for 2 rows
is as fast for 16, one made for 128 px costs 256 px a third more. To follow the rows, too, would
rearrange every weight whenever a slot joins or leaves the batch, which takes longer than a step.
The layout decides only how fast the input is computed: oneDNN picks its kernel by the input's shape
and rearranges the weights again where their layout is not that kernel's. So a result does not
depend on what the layer has seen before, to the bit.
"""

from __future__ import annotations

import functools
from abc import abstractmethod

import torch
from torch import Tensor, nn

from sfumato.engine.weights import Placement


def pack(network: nn.Module, placement: Placement) -> None:
    """Replace the convolutions and linear layers below ``network``, where that is faster.

    Elsewhere than on a CPU in float32, or where this torch lacks the operators, it stays as it is
    but for the memory format of its convolutions, channels last, which suits every device.
    """
    if placement.device.type == "cpu" and placement.dtype == torch.float32 and _can_pack():
        _replace(network)
    else:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _replace(module: nn.Module) -> None:
    for name, child in module.named_children():
        # Not by isinstance: a subclass may compute something else.
        if type(child) is nn.Linear:
            setattr(module, name, PackedLinear(child))
        elif type(child) is nn.Conv2d and _is_plain(child):
            setattr(module, name, PackedConv2d(child))
        else:
            _replace(child)


class Packed(nn.Module):
    """Keeps one copy of a weight, in the layout of the input size that came last twice running.

    A size that comes once, between steps of another, is computed with the layout at hand, which
    costs about as much as another layout would.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.weight_shape = tuple(weight.shape)
        self._weight = weight.detach()
        self._bias = bias
        self._size: tuple[int, ...] | None = None
        self._asked: tuple[int, ...] | None = None

    @property
    def bias(self) -> Tensor | None:
        return self._bias

    def dense_weight(self) -> Tensor:
        """The weight in torch's own layout."""
        return self._weight.to_dense()

    def _weight_for(self, size: tuple[int, ...], values: Tensor) -> Tensor:
        """The weight, for an input of the size; ``values`` is that input, with all its rows."""
        if size != self._size and (size == self._asked or self._size is None):
            self._weight = self._arranged(self._weight.to_dense(), values)
            self._size = size
        self._asked = size
        return self._weight

    @abstractmethod
    def _arranged(self, weight: Tensor, values: Tensor) -> Tensor:
        """The weight in the layout for such an input."""


class PackedLinear(Packed):
    """A linear layer."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.weight, linear.bias)

    def forward(self, values: Tensor) -> Tensor:
        weight = self._weight_for(tuple(values.shape[1:-1]), values)
        return torch.ops.mkldnn._linear_pointwise(  # type: ignore[no-any-return]  # noqa: SLF001
            values, weight, self._bias, "none", [], ""
        )

    def _arranged(self, weight: Tensor, values: Tensor) -> Tensor:
        rows = values.numel() // values.shape[-1]
        return torch.ops.mkldnn._reorder_linear_weight(weight, rows)  # type: ignore[no-any-return]  # noqa: SLF001


class PackedConv2d(Packed):
    """A convolution."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__(convolution.weight, convolution.bias)
        self.stride, self.padding = convolution.stride, convolution.padding
        self.dilation, self.groups = convolution.dilation, convolution.groups
        self._geometry = (
            list(convolution.padding),
            list(convolution.stride),
            list(convolution.dilation),
            convolution.groups,
        )

    def forward(self, images: Tensor) -> Tensor:
        weight = self._weight_for(tuple(images.shape[2:]), images)
        return torch.ops.mkldnn._convolution_pointwise(  # type: ignore[no-any-return]  # noqa: SLF001
            images, weight, self._bias, *self._geometry, "none", [], ""
        )

    def _arranged(self, weight: Tensor, values: Tensor) -> Tensor:
        return torch.ops.mkldnn._reorder_convolution_weight(  # type: ignore[no-any-return]  # noqa: SLF001
            weight, *self._geometry, list(values.shape)
        )


def _is_plain(convolution: nn.Conv2d) -> bool:
    return convolution.padding_mode == "zeros" and not isinstance(convolution.padding, str)


@functools.cache
def _can_pack() -> bool:
    """Whether this build of torch has the operators and they compute what they should.

    They are those of torch's own compiler, so a version may come without them.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    linear, convolution = nn.Linear(8, 8), nn.Conv2d(8, 8, 3, padding=1)
    values, images = torch.ones(2, 8), torch.ones(2, 8, 4, 4)
    try:
        with torch.inference_mode():
            pairs = [
                (linear(values), PackedLinear(linear)(values)),
                (convolution(images), PackedConv2d(convolution)(images)),
            ]
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return False
    return all(torch.allclose(wanted, found, atol=1e-5) for wanted, found in pairs)
