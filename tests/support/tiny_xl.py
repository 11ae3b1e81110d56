"""Tiny random models shaped like SDXL and its refiner, in diffusers' folder layout."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import (
    StableDiffusionXLPipeline,
)
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl_img2img import (
    StableDiffusionXLImg2ImgPipeline,
)
from transformers.models.clip.configuration_clip import CLIPTextConfig
from transformers.models.clip.modeling_clip import CLIPTextModel, CLIPTextModelWithProjection
from transformers.models.clip.tokenization_clip import CLIPTokenizer

from sfumato.core.models import ModelInfo
from tests.support.tiny_models import SCHEDULER, make_vae, tiny_info, write_tokenizer

#: Of the first and the second text encoder, and of what the second sums a text up in.
WIDTHS, POOLED = (64, 128), 64
_NUMBER_CHANNELS = 256


@dataclass(frozen=True)
class TinyXl:
    """A model on disk, and its networks as they were written. ``text``: None in a refiner."""

    info: ModelInfo
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text: CLIPTextModel | None
    text_2: CLIPTextModelWithProjection

    @property
    def path(self) -> Path:
        return Path(self.info.path)

    def pipeline(self, scheduler: Any, kind: Any = None) -> Any:
        """diffusers' own, with the folder's flags; None: the one that its index names."""
        index = json.loads((self.path / "model_index.json").read_text())
        refiner = self.text is None
        flags = {"requires_aesthetics_score": True} if refiner else {}
        usual = StableDiffusionXLImg2ImgPipeline if refiner else StableDiffusionXLPipeline
        made = (kind or usual)(
            vae=self.vae,
            text_encoder=self.text,
            text_encoder_2=self.text_2,
            tokenizer=None if refiner else _tokenizer(self.path / "tokenizer"),
            tokenizer_2=_tokenizer(self.path / "tokenizer_2"),
            unet=self.unet,
            scheduler=scheduler,
            force_zeros_for_empty_prompt=index["force_zeros_for_empty_prompt"],
            add_watermarker=False,
            **flags,
        )
        made.set_progress_bar_config(disable=True)
        return made


@functools.cache
def _tokenizer(folder: Path) -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def make_xl(
    parent: Path,
    name: str = "tiny-sdxl",
    *,
    refiner: bool = False,
    in_channels: int = 4,
    **scheduler: object,
) -> TinyXl:
    """Write ``parent/name``. Weights are random but the same every time.

    Args:
        in_channels: 9 for a network for inpainting.
        scheduler: beside what ``scheduler_config.json`` says of every tiny model.
    """
    folder = parent / name
    torch.manual_seed(6 + refiner)
    model = TinyXl(
        tiny_info(folder, "sdxl_refiner" if refiner else "sdxl"),
        make_xl_unet(refiner=refiner, in_channels=in_channels),
        make_vae(),
        None if refiner else CLIPTextModel(_text_config(WIDTHS[0], "quick_gelu")).eval(),
        CLIPTextModelWithProjection(_text_config(WIDTHS[1], "gelu")).eval(),
    )
    model.unet.save_pretrained(folder / "unet")
    model.vae.save_pretrained(folder / "vae")
    model.text_2.save_pretrained(folder / "text_encoder_2")
    write_tokenizer(folder / "tokenizer_2", pad="!")
    if model.text is not None:
        model.text.save_pretrained(folder / "text_encoder")
        write_tokenizer(folder / "tokenizer", pad="<|endoftext|>")
    (folder / "scheduler").mkdir()
    config = {**SCHEDULER, "_class_name": "EulerDiscreteScheduler", **scheduler}
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(config))
    first = [None, None] if refiner else ["transformers", "CLIPTextModel"]
    index = {
        "_class_name": f"StableDiffusionXL{'Img2Img' if refiner else ''}Pipeline",
        "text_encoder": first,
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "force_zeros_for_empty_prompt": not refiner,
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return model


def make_xl_unet(*, refiner: bool = False, **changes: object) -> UNet2DConditionModel:
    """Attention in the inner level alone, two transformer layers deep there."""
    numbers = 5 if refiner else 6
    config: dict[str, Any] = {
        "sample_size": 16,
        "block_out_channels": (64, 128),
        "layers_per_block": 2,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (2, 2),
        "cross_attention_dim": WIDTHS[1] if refiner else sum(WIDTHS),
        "attention_head_dim": (1, 2),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": _NUMBER_CHANNELS,
        "projection_class_embeddings_input_dim": POOLED + numbers * _NUMBER_CHANNELS,
    }
    return UNet2DConditionModel(**{**config, **changes}).eval()


def _text_config(width: int, activation: str) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=49408,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=3,
        num_attention_heads=width // 64,
        hidden_act=activation,
        projection_dim=POOLED,
    )
