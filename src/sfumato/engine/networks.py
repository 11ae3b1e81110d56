"""The models in memory, as the stages of a picture use them: in either precision."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from sfumato.core.errors import ModelUnusable
from sfumato.core.models import ModelInfo
from sfumato.engine.extras import Weighed
from sfumato.engine.failures import failures
from sfumato.engine.families.sd import StableDiffusion
from sfumato.engine.families.vaes import Vae, load_vae
from sfumato.engine.loaded import LoadedModels
from sfumato.engine.weights import Placement

if TYPE_CHECKING:
    from sfumato.engine.stages import Stage

T = TypeVar("T", bound=Weighed)


class Networks:
    """Finds models by name; what overflows in half the width is computed once more in float32."""

    def __init__(self, models: LoadedModels, placement: Placement) -> None:
        self._models = models
        self.device = placement.device
        self._placement = placement
        self._narrow = placement.dtype != torch.float32

    def model(self, name: str, *, precise: bool) -> StableDiffusion:
        """A loaded model. Raises ``EngineFailure`` when it is not loaded.

        Args:
            precise: in float32, whatever the engine's dtype is; then it may raise
                ``ModelUnusable``.
        """
        loaded = self._models[name]
        if not precise:
            return loaded.model
        with failures(f"load the model {name!r} in float32", ModelUnusable):
            return self._models.in_float32(loaded)

    def extra(
        self,
        info: ModelInfo,
        load: Callable[[ModelInfo, Placement], T],
        *,
        precise: bool = False,
        variant: Hashable = None,
    ) -> T:
        """Weights beside the models, from memory or else by ``load``.

        Args:
            variant: what else than file and precision decides what ``load`` makes of it.

        Raises:
            ModelRefused, ModelUnusable, OutOfMemory: what else was loaded stays.
        """
        placement = Placement(self.device, torch.float32) if precise else self._placement
        with failures(f"load {info.kind.value} {info.name!r}", ModelUnusable):
            key = placement.dtype, variant
            return self._models.extras.get(info, lambda it: load(it, placement), key)

    def vae(self, info: ModelInfo, name: str, *, precise: bool) -> Vae:
        """A VAE in place of that of a loaded model.

        Raises:
            InvalidRequest: its latents are others.
            ModelRefused, ModelUnusable, OutOfMemory: as of :meth:`extra`.
        """
        model = self.model(name, precise=precise)
        own, upcast = model.vae, model.vae_upcast

        def load(info: ModelInfo, placement: Placement) -> Vae:
            return load_vae(info, placement, scaling=own.scaling, upcast=upcast)

        vae = self.extra(info, load, precise=precise, variant=(own.scaling, upcast))
        vae.check_fits(own, base=name)
        return vae

    def encode(self, stage: Stage, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Pixels (3, height, width) in 0 … 1 to latents (channels, h, w), drawn by the generator.

        Where the picture is no multiple of a latent cell, its edges are drawn out.
        """
        precise = stage.key.precise
        model = self.model(stage.key.model, precise=precise)
        height, width = pixels.shape[1:]
        shape = model.latent_shape(width, height)
        beyond = (
            0,
            shape[2] * model.latent_scale - width,
            0,
            shape[1] * model.latent_scale - height,
        )
        padded = functional.pad(pixels.to(self.device)[None], beyond, mode="replicate")
        noise = torch.randn((1, *shape), generator=generator).to(self.device)
        encoded = self.vae_of(stage, precise=precise).encode(padded, noise)
        if self._narrow and not precise and not encoded.isfinite().all():
            encoded = self.vae_of(stage, precise=True).encode(padded, noise)
        return encoded[0]

    def decode(self, stage: Stage, latents: Tensor) -> Tensor:
        """Latents (n, channels, h, w) to pixels (n, 3, height, width), float32 in 0 … 1."""
        decoded = self.vae_of(stage, precise=False).decode(latents)
        if self._narrow and not decoded.isfinite().all():
            decoded = self.vae_of(stage, precise=True).decode(latents)
        return decoded

    def vae_of(self, stage: Stage, *, precise: bool = False) -> Vae:
        """What a stage encodes and decodes with. ``precise``: in float32 at any rate."""
        name, vae = stage.key.model, stage.vae
        if vae is None:
            return self.model(name, precise=precise).vae
        if precise and self._narrow and vae.info is not None:
            return self.vae(vae.info, name, precise=True)
        return vae
