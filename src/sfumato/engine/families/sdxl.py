"""Stable Diffusion XL, its refiner, and what was distilled from them: turbo, Lightning.

Two text encoders side by side, of the refiner the second alone. Beside them the network is told the
text in one vector and a few numbers of the picture (https://arxiv.org/abs/2307.01952, section 2.2).
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from sfumato.core.errors import EngineFailure, ModelUnusable
from sfumato.engine.families.sd import StableDiffusion
from sfumato.engine.families.vaes import Vae
from sfumato.engine.network import NetworkInput
from sfumato.engine.prompts import PromptEncoder
from sfumato.engine.schedules import NoiseSchedule
from sfumato.engine.weights import Placement

#: How beautiful the refiner is told that a picture is, by a score of 1 to 10, and how beautiful the
#: one to steer away from: the values of diffusers and A1111.
AESTHETIC_SCORE, NEGATIVE_AESTHETIC_SCORE = 6.0, 2.5
#: How many numbers of the picture SDXL takes, and how many its refiner.
_SIZES, _SCORED = 6, 5


class StableDiffusionXL(StableDiffusion):
    """A loaded model of SDXL, or its refiner, told apart by how many numbers it takes."""

    vae_upcast = True

    def __init__(
        self,
        *,
        unet: UNet2DConditionModel,
        vae: Vae,
        prompts: PromptEncoder,
        schedule: NoiseSchedule,
        placement: Placement,
        model_hash: str,
    ) -> None:
        wanted: int = unet.config.projection_class_embeddings_input_dim
        pooled = prompts.pooled_width or 0
        numbers, rest = divmod(wanted - pooled, unet.config.addition_time_embed_dim)
        if rest or numbers not in (_SIZES, _SCORED):
            raise ModelUnusable(
                f"Its network takes {wanted} added channels, of which its text encoder makes "
                f"{pooled}; what is left is of no size conditioning of SDXL's."
            )
        self._scored = numbers == _SCORED
        super().__init__(
            unet=unet,
            vae=vae,
            prompts=prompts,
            schedule=schedule,
            placement=placement,
            model_hash=model_hash,
        )

    def added_conditions(self, given: NetworkInput) -> dict[str, Any]:
        if given.pooled is None:
            raise EngineFailure("SDXL was given a text that is not summed up.")
        return {"text_embeds": given.pooled, "time_ids": self._numbers(given)}

    def _numbers(self, given: NetworkInput) -> Tensor:
        """Height and width of the picture that it was cropped from, the place of the crop, and its
        own height and width, or its score: (rows, 6) or (rows, 5).

        It is never a crop, and as large as its latents, in whichever stage they are.
        """
        height, width = (side * self.latent_scale for side in given.latents.shape[-2:])
        uncropped = [height, width, 0, 0]
        if not self._scored:
            numbers = given.timesteps.new_tensor([*uncropped, height, width])
            return numbers.expand(len(given.timesteps), -1)
        numbers = given.timesteps.new_tensor([*uncropped, AESTHETIC_SCORE])
        numbers = numbers.repeat(len(given.timesteps), 1)
        if given.negative is not None:
            numbers[:, -1] = torch.where(given.negative, NEGATIVE_AESTHETIC_SCORE, AESTHETIC_SCORE)
        return numbers
