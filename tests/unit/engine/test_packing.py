"""Packed layers compute what eager ones do, and the same bits whatever they computed before."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sfumato.engine.packing import PackedConv2d, PackedLinear, pack
from sfumato.engine.weights import Placement

CPU = Placement(torch.device("cpu"), torch.float32)


class Network(nn.Module):
    """Convolutions of several kinds, then linear layers over the positions."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(4, 12, 3, padding=1),
            nn.Conv2d(12, 24, 3, stride=2, padding=1),
            nn.Conv2d(24, 24, 3, padding=2, dilation=2, groups=2),
            nn.Conv2d(24, 16, 1, bias=False),
        )
        self.linears = nn.Sequential(nn.Linear(16, 40), nn.GELU(), nn.Linear(40, 16, bias=False))

    def forward(self, images: Tensor) -> Tensor:
        positions = self.convolutions(images).permute(0, 2, 3, 1)
        answer: Tensor = self.linears(positions)
        return answer


def networks() -> tuple[Network, Network]:
    """The same weights twice: eager, and packed."""
    torch.manual_seed(5)
    eager, packed = Network().eval(), Network().eval()
    packed.load_state_dict(eager.state_dict())
    pack(packed, CPU)
    return eager, packed


def images(rows: int, side: int) -> Tensor:
    return torch.randn(rows, 4, side, side, generator=torch.Generator().manual_seed(rows * side))


@pytest.mark.parametrize(("rows", "side"), [(1, 8), (2, 16), (16, 16), (3, 10)])
@torch.inference_mode()
def test_it_computes_what_eager_layers_do(rows: int, side: int) -> None:
    eager, packed = networks()
    assert any(isinstance(layer, PackedConv2d) for layer in packed.modules())
    assert any(isinstance(layer, PackedLinear) for layer in packed.modules())
    batch = images(rows, side)
    torch.testing.assert_close(packed(batch), eager(batch), atol=1e-5, rtol=1e-5)
    channels_last = batch.to(memory_format=torch.channels_last)
    torch.testing.assert_close(packed(channels_last), eager(batch), atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_what_it_computed_before_does_not_change_a_bit() -> None:
    """Else a picture resumed by another worker would end with other bytes."""
    shapes = [(2, 16), (16, 16), (1, 8), (2, 32), (5, 16)]
    fresh = {shape: networks()[1](images(*shape)) for shape in shapes}
    _, worn = networks()
    for shape in [*shapes, *reversed(shapes), *(shape for shape in shapes for _ in range(3))]:
        assert torch.equal(worn(images(*shape)), fresh[shape]), shape


def test_another_precision_is_left_to_torch() -> None:
    network = Network().to(torch.bfloat16)
    pack(network, Placement(torch.device("cpu"), torch.bfloat16))
    assert all(not isinstance(layer, PackedConv2d | PackedLinear) for layer in network.modules())


def test_a_subclass_keeps_its_own_computation() -> None:
    class Doubling(nn.Linear):
        def forward(self, values: Tensor) -> Tensor:
            return 2 * super().forward(values)

    network = nn.Sequential(Doubling(4, 4))
    pack(network, CPU)
    assert isinstance(network[0], Doubling)
