"""A refiner: a second model that goes on with the latents where the first one stops.

https://arxiv.org/abs/2307.01952, section 2.5. It takes over at a noise level, not after a number of
steps: schedules that visit the low levels sooner hand over sooner, as in diffusers and A1111.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from sfumato.core.errors import EngineFailure, InvalidRequest
from sfumato.core.extras import Refiner
from sfumato.core.models import ModelKind
from sfumato.core.ports import ImageTask
from sfumato.engine.additions import additions_of
from sfumato.engine.conditioning import condition
from sfumato.engine.networks import Networks
from sfumato.engine.samplers import SamplerTable, table_for
from sfumato.engine.stages import Beginning, Stage


class AsLeft:
    """From the latents of the stage before, noise and all. What that stage leaves as it is, it
    leaves, too."""

    def begin(
        self,
        stage: Stage,
        before: Beginning | None,
        generator: torch.Generator,
        networks: Networks,
    ) -> Beginning:
        del generator
        if before is None:
            raise EngineFailure("A refiner has nothing to go on with.")
        inpaints = networks.model(stage.key.model, precise=stage.key.precise).inpaints
        return before if inpaints else replace(before, beside=None)


def with_refiner(
    stage: Stage, task: ImageTask, networks: Networks, *, precise: bool
) -> tuple[Stage, ...]:
    """The stage as the request's refiner divides it; whole where there is none.

    The refiner follows the prompts as its own text encoder reads them. LoRAs change it where it
    reads what the model reads, and ControlNets do not steer it. A solver that looks back begins
    anew with it, as in diffusers.

    Args:
        stage: of the request's sampler and schedule, and of as many steps as it asks for.

    Raises:
        InvalidRequest: the refiner's latents are not those of the model.
    """
    refiner = task.request.refiner
    if refiner is None:
        return (stage,)
    name = task.extra(ModelKind.BASE, refiner.model).name
    model = networks.model(name, precise=precise)
    first = networks.model(stage.key.model, precise=precise)
    if model.inpaints and not first.inpaints:
        raise InvalidRequest(
            f"The refiner {name!r} is made for inpainting, the model {stage.key.model!r} is not.",
            field="refiner.model",
            accepted="a refiner that takes the latents alone",
        )
    if model.latent_space != first.latent_space:
        raise InvalidRequest(
            f"The refiner {name!r} can't go on with what {stage.key.model!r} draws: their latents "
            "are not alike.",
            field="refiner.model",
            accepted="a model of the same family, or its refiner",
        )
    begin, end = stage.asked
    switch = begin + _steps_before(stage.table, refiner, first.schedule.num_train_timesteps)
    if switch == end:
        return (stage,)
    settings = task.settings
    guided = settings.guidance_scale > 1 and not model.guidance_embedded
    alike = model.prompts.widths == first.prompts.widths
    additions = additions_of(task, model, networks, precise=precise, with_loras=alike)
    conditioning = condition(model.prompts, task, guided=guided, steps=end, additions=additions)
    # The levels that the first model would have gone on to, whatever the second one's custom is.
    schedule = replace(first.schedule, prediction_type=model.schedule.prediction_type)
    follows = replace(
        stage,
        key=stage.key._replace(model=name, prompt_tokens=conditioning.tokens, controls=()),
        table=table_for(settings.sampler, end, schedule, settings.schedule, start=switch),
        conditioning=conditioning,
        asked=(switch, end),
        controls=(),
        additions=additions,
    )
    if switch == begin:
        return (follows,)
    leads = replace(
        stage,
        table=table_for(
            settings.sampler, end, first.schedule, settings.schedule, start=begin, stop=switch
        ),
        asked=(begin, switch),
    )
    return leads, replace(follows, origin=AsLeft())


def _steps_before(table: SamplerTable, refiner: Refiner, train_timesteps: int) -> int:
    """How many steps begin at a timestep that is not yet the refiner's."""
    last = round(train_timesteps * (1 - refiner.switch_at))
    firsts = [row for row in range(len(table)) if row == 0 or table.reached[row - 1] is not None]
    return sum(table.timestep(row) >= last for row in firsts)
