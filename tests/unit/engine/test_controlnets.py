"""Single files of ControlNets at full size, by the names and shapes of their tensors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.models.controlnets.controlnet import ControlNetModel

from sfumato.engine.families.controlnets import _renamed, controlnet_config
from tests.support.tiny_controls import control_names

_LEVELS = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
_XL: dict[str, Any] = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
NETS: dict[str, dict[str, Any]] = {
    "sd1": {
        "down_block_types": _LEVELS,
        "transformer_layers_per_block": (1, 1, 1, 1),
        "attention_head_dim": 8,
        "cross_attention_dim": 768,
    },
    "sd2": {
        "down_block_types": _LEVELS,
        "transformer_layers_per_block": (1, 1, 1, 1),
        "attention_head_dim": (5, 10, 20, 20),
        "cross_attention_dim": 1024,
        "use_linear_projection": True,
    },
    "sdxl": _XL,
    "sdxl small": {
        **_XL,
        "down_block_types": ("DownBlock2D",) * 3,
        "mid_block_type": "UNetMidBlock2D",
        "transformer_layers_per_block": (1, 1, 1),
        # Nothing of these is in its tensors, nor does it use them.
        "attention_head_dim": 8,
        "cross_attention_dim": None,
        "use_linear_projection": False,
    },
}


@pytest.mark.parametrize("names", ["authors'", "diffusers'"])
@pytest.mark.parametrize("family", list(NETS))
def test_a_file_tells_its_configuration(family: str, names: str) -> None:
    with torch.device("meta"):
        net = ControlNetModel(**NETS[family])
    state = net.state_dict()
    found = _renamed(control_names(net) if names == "authors'" else state)
    assert {name: tensor.shape for name, tensor in found.items()} == {
        name: tensor.shape for name, tensor in state.items()
    }
    config = controlnet_config(found)
    assert config == {name: net.config[name] for name in config}


def test_what_is_trained_beside_it_is_left_aside() -> None:
    with torch.device("meta"):
        net = ControlNetModel(**NETS["sd1"])
        base = {"model.diffusion_model.out.2.weight": torch.empty(4, 320, 3, 3)}
    assert set(_renamed({**control_names(net), **base})) == set(net.state_dict())
