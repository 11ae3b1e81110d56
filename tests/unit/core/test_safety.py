"""What becomes of unsafe pictures is settled with the job, and is never nothing in silence."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from sfumato.core.errors import InvalidRequest
from sfumato.core.job import Settings
from sfumato.core.layout import read_by_engine, weights_of
from sfumato.core.models import ModelFile, ModelInfo, ModelLayout
from sfumato.core.safety import Safety, SafetyRule, SettledSafety

OFF = SettledSafety(Safety.OFF)


@pytest.mark.parametrize(
    ("rule", "carries", "settled"),
    [
        (SafetyRule(), True, SettledSafety(Safety.FLAG)),
        (SafetyRule(), False, OFF),
        (SafetyRule(checker="c"), False, SettledSafety(Safety.FLAG, "c")),
        (SafetyRule(Safety.OFF, "c"), True, OFF),
        (SafetyRule(Safety.FLAG), True, SettledSafety(Safety.FLAG)),
        (SafetyRule(Safety.BLOCK), True, SettledSafety(Safety.BLOCK)),
        (SafetyRule(Safety.BLOCK, "c"), True, SettledSafety(Safety.BLOCK, "c")),
    ],
)
def test_the_rule_and_the_model_decide(
    rule: SafetyRule, settled: SettledSafety, *, carries: bool
) -> None:
    assert rule.settled("photo", carries_checker=carries) == settled


def test_a_checker_that_is_asked_for_and_missing_is_told_or_refused() -> None:
    told = SafetyRule(Safety.FLAG).settled("photo", carries_checker=False)
    assert told.mode is Safety.OFF
    assert told.notes == ("not checked: photo carries no safety checker",)
    with pytest.raises(InvalidRequest, match="'photo' carries no safety checker") as refused:
        SafetyRule(Safety.BLOCK).settled("photo", carries_checker=False)
    assert refused.value.field == "model"


def test_settings_are_read_back_also_those_of_older_jobs() -> None:
    settings = Settings("photo", 8, 8, 8, 8, 4, 1.0, "euler", 1, safety=Safety.BLOCK)
    assert Settings.from_dict(asdict(settings)) == settings
    older = {name: it for name, it in asdict(settings).items() if not name.startswith("safety")}
    assert Settings.from_dict(older).safety is Safety.OFF


def test_a_folder_s_checker_travels_with_it_but_no_pickle() -> None:
    files = {
        "safety_checker/config.json",
        "safety_checker/model.safetensors",
        "safety_checker/model.fp16.safetensors",
        "safety_checker/pytorch_model.bin",
        "feature_extractor/preprocessor_config.json",
        "image_encoder/model.safetensors",
    }
    weights = weights_of(files, lambda _name: {})
    assert {path for path in files if read_by_engine(path, weights)} == {
        "safety_checker/config.json",
        "safety_checker/model.safetensors",
        "feature_extractor/preprocessor_config.json",
    }


@pytest.mark.parametrize(
    ("path", "carries"),
    [
        ("safety_checker/model.safetensors", True),
        ("safety_checker/config.json", False),
        ("unet/diffusion_pytorch_model.safetensors", False),
    ],
)
def test_a_model_carries_a_checker_where_its_weights_are(path: str, *, carries: bool) -> None:
    model = ModelInfo("photo", "sd1", ModelLayout.DIFFUSERS, "", files=(ModelFile(path, 1),))
    assert model.carries_checker is carries
