"""What pipelines of several models are given, told from their signatures alone."""

from __future__ import annotations

import inspect

import pytest
from diffusers import (
    DiffusionPipeline,
    FluxPipeline,
    PixArtSigmaPipeline,
    QwenImagePipeline,
    SanaPipeline,
)

from sfumato.core.models import ModelDefaults, ModelInfo, ModelLayout
from sfumato.engine.families.pipeline import LoadedPipeline
from sfumato.engine.pipelines.arguments import arguments_for, notes_on
from sfumato.engine.pipelines.runs import callbacks
from tests.support.rendering import task_of

MODEL = ModelInfo(
    "m", "pipeline", ModelLayout.DIFFUSERS, "m", defaults=ModelDefaults(1024, 1024, 4, 3.5, "euler")
)


def loaded(kind: type[DiffusionPipeline]) -> LoadedPipeline:
    parameters = inspect.signature(kind.__call__).parameters
    return LoadedPipeline(kind.__new__(kind), parameters, hash="", size=0, multiple=16)


@pytest.mark.parametrize(
    ("kind", "guidance", "negative", "calls_back"),
    [
        (FluxPipeline, {"guidance_scale": 3.5}, None, "callback_on_step_end"),
        (QwenImagePipeline, {"true_cfg_scale": 3.5}, "fog", "callback_on_step_end"),
        (SanaPipeline, {"guidance_scale": 3.5}, "fog", "callback_on_step_end"),
        (PixArtSigmaPipeline, {"guidance_scale": 3.5}, "fog", "callback"),
    ],
)
def test_each_is_given_what_it_takes_under_its_own_names(
    kind: type[DiffusionPipeline],
    guidance: dict[str, float],
    negative: str | None,
    calls_back: str,
) -> None:
    pipeline = loaded(kind)
    task = task_of(MODEL, negative_prompt="fog", width=1000, height=1000)
    given = arguments_for(pipeline, [task])
    named = {name for name in given if name in ("guidance_scale", "true_cfg_scale")}
    assert {name: given[name] for name in named} == guidance
    assert given.get("negative_prompt") == negative
    assert (given["width"], given["height"]) == (1008, 1008)
    assert list(callbacks(pipeline.parameters, lambda _latents: None)) == [calls_back]
    notes = "; ".join(notes_on(pipeline, task))
    assert ("no negative prompt" in notes) == (negative is None)
    assert "drawn at 1008x1008, for its sides are multiples of 16" in notes


def test_real_guidance_is_not_left_out_for_want_of_a_negative_prompt() -> None:
    given = arguments_for(loaded(QwenImagePipeline), [task_of(MODEL, guidance_scale=0.5)])
    assert (given["true_cfg_scale"], given["negative_prompt"]) == (1.0, " ")
