"""A tiny random safety checker, in the layout that models carry theirs in."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from PIL import Image
from transformers.models.clip.configuration_clip import CLIPConfig
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from sfumato.core.models import ModelInfo, ModelKind, ModelLayout

SIDE = 32


@dataclass(frozen=True)
class TinyChecker:
    """``folder``: of the network; its preprocessor lies beside, in ``feature_extractor``."""

    folder: Path
    network: Any
    processor: Any

    @property
    def info(self) -> ModelInfo:
        return ModelInfo(
            "checker", "", ModelLayout.DIFFUSERS, str(self.folder), kind=ModelKind.SAFETY
        )

    def unsafe(self, pictures: list[Image.Image]) -> list[bool]:
        """What diffusers makes of them."""
        given = self.processor(pictures, return_tensors="pt").pixel_values
        blank = [np.zeros((1, 1, 3)) for _ in pictures]
        found: list[bool] = self.network(clip_input=given, images=blank)[1]
        return found


def make_checker(parent: Path, *, threshold: float = 0.0, special: float = 10.0) -> TinyChecker:
    """Write ``parent/safety_checker`` and ``parent/feature_extractor``.

    Args:
        threshold, special: nearness, -1 to 1, beyond which a picture is unsafe, or needs care.
    """
    torch.manual_seed(9)
    vision = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": SIDE,
        "patch_size": 8,
    }
    config = CLIPConfig(vision_config=vision, projection_dim=48)
    network = StableDiffusionSafetyChecker(config).eval()
    for name in ("concept_embeds", "special_care_embeds"):
        torch.nn.init.normal_(getattr(network, name))
    network.concept_embeds_weights.data.fill_(threshold)
    network.special_care_embeds_weights.data.fill_(special)
    network.save_pretrained(parent / "safety_checker")
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
    )
    (parent / "feature_extractor").mkdir()
    settings = json.dumps(
        {
            "size": {"shortest_edge": SIDE},
            "crop_size": {"height": SIDE, "width": SIDE},
            "image_mean": processor.image_mean,
            "image_std": processor.image_std,
        }
    )
    (parent / "feature_extractor/preprocessor_config.json").write_text(settings)
    return TinyChecker(parent / "safety_checker", network, processor)


def some_pictures(count: int) -> list[Image.Image]:
    """Random colours in blocks, of many proportions."""
    random = np.random.default_rng(3)
    pictures = []
    for n in range(count):
        blocks = random.integers(0, 256, (2 + n % 3, 3 + n % 2, 3), np.uint8)
        width, height = 40 + 13 * (n % 7), 36 + 17 * (n % 5)
        pictures.append(Image.fromarray(blocks).resize((width, height), Image.Resampling.BICUBIC))
    return pictures
