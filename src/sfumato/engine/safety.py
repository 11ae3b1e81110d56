"""Safety checkers: Stable Diffusion's, which compares a picture with concepts that CLIP knows.

A picture is unsafe where CLIP's reading of it is nearer to one of the network's concepts than that
concept's own threshold. Three more concepts, of special care, make all thresholds stricter.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from transformers.models.clip.configuration_clip import CLIPVisionConfig
from transformers.models.clip.modeling_clip import CLIPVisionModel

from sfumato.core.errors import ModelUnusable
from sfumato.core.layout import FEATURE_EXTRACTOR
from sfumato.core.models import ModelInfo
from sfumato.engine.resampling import to_tensor
from sfumato.engine.weights import Placement, build, component_files, read_json, read_tensors

_PREPROCESSOR = "preprocessor_config.json"
#: By which a picture that needs special care is nearer to every concept.
_STRICTER = 0.01
#: Decimals to which nearness counts, as in diffusers.
_DECIMALS = 3
_HEAD_CHANNELS = 64
_VISION = "vision_model."


@dataclass(frozen=True, slots=True)
class Preparation:
    """How a picture is made what CLIP takes.

    Attributes:
        shortest: side to which the picture is scaled, in pixels.
        crop: height and width of its middle, which is all that is looked at.
        mean, deviation: of each colour, 0 to 1.
    """

    shortest: int = 224
    crop: tuple[int, int] = (224, 224)
    mean: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)
    deviation: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Preparation:
        """From the content of a ``preprocessor_config.json``; raises ``KeyError`` and its like."""
        size, crop = config.get("size", cls().shortest), config.get("crop_size", cls().crop)
        if isinstance(crop, Mapping):
            crop = crop["height"], crop["width"]
        elif isinstance(crop, int):
            crop = crop, crop
        return cls(
            shortest=int(size["shortest_edge"] if isinstance(size, Mapping) else size),
            crop=(int(crop[0]), int(crop[1])),
            mean=tuple(map(float, config.get("image_mean", cls().mean))),
            deviation=tuple(map(float, config.get("image_std", cls().deviation))),
        )

    def __call__(self, picture: Image.Image) -> Tensor:
        """(3, height, width) of an RGB picture."""
        scale = self.shortest / min(picture.size)
        width, height = (
            self.shortest if side == min(picture.size) else int(side * scale)
            for side in picture.size
        )
        scaled = picture.resize((width, height), Image.Resampling.BICUBIC)
        left, top = (width - self.crop[1]) // 2, (height - self.crop[0]) // 2
        middle = scaled.crop((left, top, left + self.crop[1], top + self.crop[0]))
        mean, deviation = torch.tensor(self.mean), torch.tensor(self.deviation)
        return (to_tensor(middle) - mean.view(3, 1, 1)) / deviation.view(3, 1, 1)


class SafetyNetwork(nn.Module):
    """CLIP's vision, a projection, and the concepts with their thresholds.

    Named as diffusers' ``StableDiffusionSafetyChecker`` names them.
    """

    def __init__(self, config: CLIPVisionConfig, width: int, concepts: int, special: int) -> None:
        super().__init__()
        self.vision_model = CLIPVisionModel(config)
        self.visual_projection = nn.Linear(config.hidden_size, width, bias=False)
        self.concept_embeds = nn.Parameter(torch.empty(concepts, width))
        self.concept_embeds_weights = nn.Parameter(torch.empty(concepts))
        self.special_care_embeds = nn.Parameter(torch.empty(special, width))
        self.special_care_embeds_weights = nn.Parameter(torch.empty(special))

    def forward(self, pictures: Tensor) -> Tensor:
        """Whether each is unsafe: bool (n,)."""
        pooled = self.vision_model(pixel_values=pictures).pooler_output
        seen = nn.functional.normalize(self.visual_projection(pooled).float())
        special = _beyond(seen, self.special_care_embeds, self.special_care_embeds_weights)
        care = (special > 0).any(dim=1, keepdim=True) * _STRICTER
        found = _beyond(seen, self.concept_embeds, self.concept_embeds_weights, care)
        return (found > 0).any(dim=1)


def _beyond(
    seen: Tensor, concepts: Tensor, thresholds: Tensor, more: Tensor | float = 0.0
) -> Tensor:
    """How much nearer than its threshold each picture is to each concept."""
    nearness = seen @ nn.functional.normalize(concepts.float()).T
    return (nearness - thresholds.float() + more).round(decimals=_DECIMALS)


class SafetyChecker:
    """A loaded safety checker.

    Attributes:
        name: of the catalogue, or of the model that carries it.
        size: bytes of its weights in memory.
    """

    def __init__(
        self, name: str, network: SafetyNetwork, prepare: Preparation, placement: Placement
    ) -> None:
        self.name = name
        self.size = sum(weight.nbytes for weight in network.parameters())
        self._network = network
        self._prepare = prepare
        self._placement = placement

    def unsafe(self, pictures: Sequence[Image.Image]) -> list[bool]:
        """Which of these RGB pictures are."""
        prepared = torch.stack([self._prepare(picture) for picture in pictures])
        found: list[bool] = self._network(
            prepared.to(self._placement.device, self._placement.dtype)
        ).tolist()
        return found


def load_checker(info: ModelInfo, placement: Placement) -> SafetyChecker:
    """Read a safety checker from a folder, as transformers saves it, or from its one file.

    Raises:
        ModelUnusable: naming the file and what is wrong with it.
    """
    path = Path(info.path)
    if path.is_dir():
        read, settings = read_tensors(component_files(path)), _settings(path)
    else:
        read, settings = read_tensors([path]), {}
    tensors = _of_this_transformers(read)
    try:
        prepare = Preparation.from_config(settings)
        config = read_json(path / "config.json") if path.is_dir() else {}
        vision = CLIPVisionConfig(**{**_vision_config(tensors), **_told(config)})
        width = tensors["visual_projection.weight"].shape[0]
        concepts, special = (
            tensors[name].shape[0] for name in ("concept_embeds", "special_care_embeds")
        )
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise ModelUnusable(f"{path} can't be used as a safety checker: {error!r}.") from None
    network = build(
        lambda: SafetyNetwork(vision, width, concepts, special), tensors, path, placement
    )
    for module in network.modules():
        # Not among the weights, so still without values.
        if isinstance(getattr(module, "position_ids", None), Tensor):
            places = (vision.image_size // vision.patch_size) ** 2 + 1
            positions = torch.arange(places, device=placement.device)
            module.register_buffer("position_ids", positions.expand(1, -1), persistent=False)
    return SafetyChecker(info.name, network, prepare, placement)


def _settings(folder: Path) -> Mapping[str, Any]:
    """How its pictures are prepared: told in its folder, or beside it in a model's."""
    for place in (folder, folder.parent / FEATURE_EXTRACTOR):
        if (place / _PREPROCESSOR).is_file():
            return read_json(place / _PREPROCESSOR)
    return {}


def _of_this_transformers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Under the names of either version: transformers 5 dropped a prefix of CLIP's vision that
    every file on disk has."""
    bare = {name.replace(_VISION * 2, _VISION, 1): tensor for name, tensor in tensors.items()}
    doubled = {f"{_VISION}{name}": it for name, it in bare.items() if name.startswith(_VISION)}
    return {**bare, **doubled}


def _told(config: Mapping[str, Any]) -> dict[str, Any]:
    vision = config.get("vision_config") or {}
    if not isinstance(vision, Mapping):
        raise TypeError("its vision_config is not a JSON object")
    known = ("num_attention_heads", "hidden_act", "layer_norm_eps")
    return {name: vision[name] for name in known if name in vision}


def _vision_config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Keywords of ``CLIPVisionConfig``, from the shapes of its tensors; raises ``KeyError``."""
    embeddings = f"{_VISION}embeddings."
    width, _, patch, _ = tensors[f"{embeddings}patch_embedding.weight"].shape
    places = tensors[f"{embeddings}position_embedding.weight"].shape[0]
    layers = (re.match(rf"{re.escape(_VISION)}encoder\.layers\.(\d+)\.", name) for name in tensors)
    return {
        "hidden_size": width,
        "intermediate_size": tensors[f"{_VISION}encoder.layers.0.mlp.fc1.weight"].shape[0],
        "num_hidden_layers": 1 + max(int(layer[1]) for layer in layers if layer),
        "num_attention_heads": max(1, width // _HEAD_CHANNELS),
        "image_size": patch * math.isqrt(places - 1),
        "patch_size": patch,
    }
