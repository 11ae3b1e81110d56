"""A layer that remembers answers as the layer does, and computes once for one tensor."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sfumato.engine.remembering import Remembered


class Counting(nn.Linear):
    calls = 0

    def forward(self, values: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(values)


@torch.inference_mode()
def test_it_computes_once_for_the_same_tensor_and_anew_for_another() -> None:
    layer = Counting(4, 4)
    remembered = Remembered(layer)
    first, second = torch.randn(2, 4), torch.randn(2, 4)
    for given in (first, first, second, second, first.clone()):
        assert torch.equal(remembered(given), nn.functional.linear(given, layer.weight, layer.bias))
    assert layer.calls == 3
