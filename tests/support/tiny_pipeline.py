"""A tiny random Stable Diffusion 3, which is drawn with diffusers' own pipeline."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

from sfumato.core.models import ModelDefaults, ModelInfo, ModelLayout
from sfumato.core.pipelines import PIPELINE_FAMILY
from tests.support.tiny_models import write_tokenizer

#: Pixels a side; a multiple of 4, for the VAE halves once and the transformer takes pairs.
PIPELINE_SIDE = 32
_WIDTH = 32


def make_pipeline(parent: Path, name: str = "tiny-sd3") -> ModelInfo:
    """Write ``parent/name``. Weights are random but the same every time."""
    torch.manual_seed(11)
    tokenizer_folder = parent / f"{name}-tokenizer"
    write_tokenizer(tokenizer_folder, pad="!")
    tokenizer = CLIPTokenizer.from_pretrained(tokenizer_folder)
    pipe = StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(
            sample_size=16,
            patch_size=2,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=4,
            caption_projection_dim=_WIDTH,
            joint_attention_dim=_WIDTH,
            pooled_projection_dim=2 * _WIDTH,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=AutoencoderKL(
            sample_size=PIPELINE_SIDE,
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            layers_per_block=1,
            latent_channels=4,
            norm_num_groups=2,
            use_quant_conv=False,
            use_post_quant_conv=False,
            shift_factor=0.06,
            scaling_factor=1.5,
        ),
        text_encoder=_text_encoder(),
        tokenizer=tokenizer,
        text_encoder_2=_text_encoder(),
        tokenizer_2=tokenizer,
        text_encoder_3=None,
        tokenizer_3=None,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe.save_pretrained(parent / name)
    return pipeline_info(parent / name)


def pipeline_info(path: Path) -> ModelInfo:
    defaults = ModelDefaults(PIPELINE_SIDE, PIPELINE_SIDE, 4, 3.0, "euler")
    info = ModelInfo(path.name, PIPELINE_FAMILY, ModelLayout.DIFFUSERS, str(path))
    return replace(info, defaults=defaults)


def _text_encoder() -> CLIPTextModelWithProjection:
    config = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=_WIDTH,
        intermediate_size=2 * _WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=_WIDTH,
        hidden_act="gelu",
    )
    return CLIPTextModelWithProjection(config).eval()
