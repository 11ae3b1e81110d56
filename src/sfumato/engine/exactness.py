"""Strict determinism: the same bits whoever shares the batch.

A kernel adds in another order for another number of rows, so under ``strict`` every step of a
picture has the same number, which follows from its batch key alone: rows that are missing are
filled up and their answers dropped, and the sampler's arithmetic is done slot by slot. What is left
to the kernels is that a row's answer follows from that row and not from its place among the others.
That is looked at before two pictures share a step, on their own numbers, once for each key.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from sfumato.core.errors import EngineFailure
from sfumato.core.request import Determinism
from sfumato.engine.network import ControlInput, NetworkInput
from sfumato.engine.stages import BatchKey, Stage
from sfumato.engine.weights import Placement

#: Rows of a strict step by latent cells: as many as cost a lone picture with guidance, which has
#: two, little; with more cells than that, two. On a CPU two rows of 256 pixels a side use two
#: cores whole.
_CPU_ROWS = ((256, 4),)
_CUDA_ROWS = ((4096, 8), (16384, 4))
_LEAST_ROWS = 2


def with_fixed_rows(
    stages: tuple[Stage, ...], determinism: Determinism, device: torch.device
) -> tuple[Stage, ...]:
    """The stages of a picture as its determinism asks for them."""
    if determinism is not Determinism.STRICT:
        return stages
    keys = [stage.key._replace(fixed_rows=_fixed_rows(stage, device)) for stage in stages]
    return tuple(replace(stage, key=key) for stage, key in zip(stages, keys, strict=True))


def _fixed_rows(stage: Stage, device: torch.device) -> int:
    """More than usual where the picture alone takes more, as several prompts do."""
    _, height, width = stage.key.latent_shape
    table = _CUDA_ROWS if device.type == "cuda" else _CPU_ROWS
    usual = next((rows for upto, rows in table if height * width <= upto), _LEAST_ROWS)
    return max(usual, stage.conditioning.rows)


class RowPlaces:
    """Whether a row's answer depends on its place in the batch, by batch key."""

    def __init__(self) -> None:
        self._alike: dict[BatchKey, bool] = {}

    def matter(self, key: BatchKey) -> bool:
        """Whether that was found; False also where nobody has looked."""
        return not self._alike.get(key, True)

    def check(
        self,
        key: BatchKey,
        predict: Callable[[NetworkInput], Tensor],
        given: Callable[[], NetworkInput],
    ) -> None:
        """Look once: every row of what is given is put into every place.

        Raises:
            EngineFailure: it does. Steps of one picture alone are exact all the same.
        """
        if key not in self._alike:
            self._alike[key] = _are_alike(predict, given())
        if self.matter(key):
            raise EngineFailure(
                "On this device a row's answer depends on its place in the batch, so strict "
                "pictures are drawn one by one."
            )


def _are_alike(predict: Callable[[NetworkInput], Tensor], given: NetworkInput) -> bool:
    answer = predict(_moved(given, 0))
    return all(
        torch.equal(predict(_moved(given, places)).roll(-places, 0), answer)
        for places in range(1, answer.shape[0])
    )


def _moved(given: NetworkInput, places: int) -> NetworkInput:
    """Every row so many places on, the last ones first; of the networks alone."""
    values: dict[str, Any] = {each.name: getattr(given, each.name) for each in fields(given)}
    tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
    moved: dict[str, Any] = {name: value.roll(places, 0) for name, value in tensors.items()}
    controls = (
        ControlInput(each.net, each.pictures.roll(places, 0), each.scales.roll(places, 0))
        for each in given.controls
    )
    return NetworkInput(**moved, controls=tuple(controls))


def engine_facts(placement: Placement) -> dict[str, str | int]:
    """What the last bits of a picture depend on beside its request and weights."""
    device = placement.device
    facts: dict[str, str | int] = {
        "torch": torch.__version__,
        "diffusers": version("diffusers"),
        "device": device.type,
        "dtype": str(placement.dtype).removeprefix("torch."),
    }
    if device.type == "cuda":
        return {**facts, "device": torch.cuda.get_device_name(device)}
    if device.type == "cpu":
        # Threads share out the work, and kernels are chosen by what the processor can do.
        instructions = torch.backends.cpu.get_cpu_capability()
        return {**facts, "threads": torch.get_num_threads(), "instructions": instructions}
    return facts
