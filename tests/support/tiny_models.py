"""Tiny random models shaped like Stable Diffusion 1 and 2, in diffusers' folder layout."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from transformers.models.clip.configuration_clip import CLIPTextConfig
from transformers.models.clip.modeling_clip import CLIPTextModel

from sfumato.core.models import ModelDefaults, ModelInfo, ModelLayout
from sfumato.engine.prompts import ClipTokenizer

#: Pixels a side that the tests draw: latents of 16 x 16, for these VAEs halve once.
SIDE = 32
WIDTHS = {"sd1": (32, 64), "sd2": (64, 128)}
SCHEDULER = {
    "_class_name": "PNDMScheduler",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


@dataclass(frozen=True)
class TinyModel:
    """A model on disk, and its networks as they were written."""

    info: ModelInfo
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text: CLIPTextModel

    @property
    def path(self) -> Path:
        return Path(self.info.path)


def make_model(
    parent: Path, family: str, *, in_channels: int = 4, **scheduler: object
) -> TinyModel:
    """Write ``parent/tiny-<family>``. Weights are random but the same every time.

    Args:
        in_channels: 9 for a network for inpainting.
    """
    folder = parent / f"tiny-{family}"
    torch.manual_seed(5)
    unet, vae = make_unet(family, in_channels), make_vae()
    text = make_text_encoder(family)
    for name, part in (("unet", unet), ("vae", vae), ("text_encoder", text)):
        part.save_pretrained(folder / name)
    write_tokenizer(folder / "tokenizer", pad="<|endoftext|>" if family == "sd1" else "!")
    (folder / "scheduler").mkdir()
    config = json.dumps({**SCHEDULER, **scheduler})
    (folder / "scheduler/scheduler_config.json").write_text(config)
    index = {"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.35.0"}
    (folder / "model_index.json").write_text(json.dumps(index))
    return TinyModel(tiny_info(folder, family), unet, vae, text)


def tiny_info(path: Path, family: str, layout: ModelLayout = ModelLayout.DIFFUSERS) -> ModelInfo:
    defaults = ModelDefaults(SIDE, SIDE, num_inference_steps=4, guidance_scale=3.0)
    return ModelInfo(path.stem, family, layout, str(path), defaults=defaults)


def make_unet(family: str, in_channels: int = 4) -> UNet2DConditionModel:
    widths = WIDTHS[family]
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=in_channels,
        block_out_channels=widths,
        layers_per_block=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=64,
        attention_head_dim=8 if family == "sd1" else tuple(width // 64 for width in widths),
        use_linear_projection=family == "sd2",
    )
    return unet.eval()


def make_vae() -> AutoencoderKL:
    vae = AutoencoderKL(
        block_out_channels=(32, 64),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=2,
        latent_channels=4,
        sample_size=SIDE,
    )
    return vae.eval()


def make_text_encoder(family: str) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=1,
        hidden_act="quick_gelu" if family == "sd1" else "gelu",
    )
    return CLIPTextModel(config).eval()


def write_tokenizer(folder: Path, *, pad: str) -> None:
    """CLIP's own, in the files that diffusers folders hold."""
    folder.mkdir(parents=True)
    tokenizer = ClipTokenizer.bundled()._tokenizer
    (folder / "vocab.json").write_text(json.dumps(tokenizer.get_vocab(with_added_tokens=True)))
    packed = resources.files("sfumato.engine") / "data" / "clip_merges.txt.gz"
    merges = gzip.decompress(packed.read_bytes()).decode()
    (folder / "merges.txt").write_text("#version: 0.2\n" + merges)
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": 77,
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": pad,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
