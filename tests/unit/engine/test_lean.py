"""Lean blocks compute what diffusers' own do; what they don't know stays diffusers'."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from sfumato.core.errors import EngineFailure
from sfumato.engine.lean import (
    LeanAttention,
    LeanResnet,
    LeanTransformer,
    LeanTransformerBlock,
    make_lean,
)
from tests.support.tolerances import SAME


def unet(**changes: Any) -> UNet2DConditionModel:
    torch.manual_seed(3)
    config: dict[str, Any] = {
        "sample_size": 8,
        "block_out_channels": (16, 32),
        "norm_num_groups": 8,
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": 24,
        "attention_head_dim": 2,
    }
    return UNet2DConditionModel(**config | changes).eval()


def answer(network: UNet2DConditionModel) -> Tensor:
    chance = torch.Generator().manual_seed(1)
    latents = torch.randn(3, 4, 8, 8, generator=chance)
    text = torch.randn(3, 7, 24, generator=chance)
    with torch.inference_mode():
        predicted: Tensor = network(
            latents.to(memory_format=torch.channels_last), torch.tensor([3, 500, 999]), text
        ).sample
    return predicted


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"use_linear_projection": True, "transformer_layers_per_block": 2},
        {"mid_block_scale_factor": 2.0},
    ],
    ids=["SD 1", "SD 2 and SDXL", "scaled"],
)
def test_they_compute_what_diffusers_blocks_do(changes: dict[str, Any]) -> None:
    plain = unet(**changes)
    lean = copy.deepcopy(plain)
    make_lean(lean)
    kinds = {type(module) for module in lean.modules()}
    assert kinds >= {LeanResnet, LeanAttention, LeanTransformerBlock, LeanTransformer}
    assert ResnetBlock2D not in kinds
    torch.testing.assert_close(answer(lean), answer(plain), atol=SAME, rtol=SAME)


def test_every_layer_keeps_its_name() -> None:
    """LoRAs find layers by it."""
    plain = unet()
    lean = copy.deepcopy(plain)
    make_lean(lean)
    assert lean.state_dict().keys() == plain.state_dict().keys()


def test_blocks_of_other_kinds_stay_as_they_are() -> None:
    shifting = unet(resnet_time_scale_shift="scale_shift")
    expected = answer(shifting)
    make_lean(shifting)
    assert not any(isinstance(module, LeanResnet) for module in shifting.modules())
    torch.testing.assert_close(answer(shifting), expected, atol=SAME, rtol=SAME)


def test_a_subclass_keeps_its_own_computation() -> None:
    class Silent(ResnetBlock2D):  # type: ignore[misc]  # untyped
        def forward(self, input_tensor: Tensor, *_: Any, **__: Any) -> Tensor:
            return torch.zeros_like(input_tensor)

    network = nn.Sequential(Silent(in_channels=8, groups=4, temb_channels=None))
    make_lean(network)
    assert isinstance(network[0], Silent)


def test_a_mask_is_refused_rather_than_ignored() -> None:
    lean = unet()
    make_lean(lean)
    with pytest.raises(EngineFailure, match="conditions"):
        lean(
            torch.zeros(1, 4, 8, 8),
            1,
            torch.zeros(1, 7, 24),
            encoder_attention_mask=torch.ones(1, 7),
        )
