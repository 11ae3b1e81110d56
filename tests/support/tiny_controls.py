"""Tiny random ControlNets for the tiny models, in each of the layouts that people have them in."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from sfumato.core.inputs import InputImage
from sfumato.core.models import ModelInfo, ModelKind, ModelLayout
from tests.support import ldm
from tests.support.tiny_models import SIDE


def make_control(unet: UNet2DConditionModel, seed: int) -> ControlNetModel:
    """Of the network's shape. What training begins with as zeros is random, too."""
    torch.manual_seed(seed)
    # The tiny VAEs halve once, so the tiny ControlNets' pictures are halved once.
    net = ControlNetModel.from_unet(
        unet, load_weights_from_unet=False, conditioning_embedding_out_channels=(16, 32)
    )
    for layer in [*net.controlnet_down_blocks, net.controlnet_mid_block]:
        torch.nn.init.normal_(layer.weight, std=0.2)
    torch.nn.init.normal_(net.controlnet_cond_embedding.conv_out.weight, std=0.5)
    return net.eval()


def save_folder(net: ControlNetModel, path: Path, family: str) -> ModelInfo:
    net.save_pretrained(path)
    return info_of(path, family, ModelLayout.DIFFUSERS)


def save_single(tensors: dict[str, Tensor], path: Path, family: str) -> ModelInfo:
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path)
    return info_of(path, family, ModelLayout.CHECKPOINT)


def info_of(path: Path, family: str, layout: ModelLayout) -> ModelInfo:
    return ModelInfo(path.stem, family, layout, str(path), kind=ModelKind.CONTROLNET)


def control_names(net: ControlNetModel) -> dict[str, Tensor]:
    """Its tensors as ControlNet's authors name them."""
    state = net.state_dict()
    shared = {name: value for name, value in state.items() if not name.startswith("controlnet_")}
    descent: Any = SimpleNamespace(
        state_dict=lambda: shared, config=net.config, down_blocks=net.down_blocks, up_blocks=[]
    )
    named = dict(ldm.unet_names(descent))
    for number, _ in enumerate(net.controlnet_down_blocks):
        for kind in ("weight", "bias"):
            named[f"zero_convs.{number}.0.{kind}"] = state[
                f"controlnet_down_blocks.{number}.{kind}"
            ]
    embedding = net.controlnet_cond_embedding
    layers = [embedding.conv_in, *embedding.blocks, embedding.conv_out]
    for place, layer in enumerate(layers):
        named[f"input_hint_block.{2 * place}.weight"] = layer.weight
        named[f"input_hint_block.{2 * place}.bias"] = layer.bias
    for kind in ("weight", "bias"):
        named[f"middle_block_out.0.{kind}"] = state[f"controlnet_mid_block.{kind}"]
    return {f"control_model.{name}": tensor for name, tensor in named.items()}


def control_picture(seed: int, width: int = SIDE, height: int = SIDE) -> tuple[InputImage, bytes]:
    """A random picture, as a request names it, and its file."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, "PNG")
    data = target.getvalue()
    sha256 = hashlib.sha256(data).hexdigest()
    return InputImage(sha256, "image/png", width, height, len(data)), data
