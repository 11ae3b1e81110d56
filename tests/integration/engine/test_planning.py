"""A plan's weights are what the engine really holds, to the byte."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sfumato.adapters.models.weighing import weigh
from sfumato.core import planning
from sfumato.core.errors import InvalidRequest
from sfumato.core.models import ModelInfo, ModelLayout
from sfumato.engine import engine as engine_module
from sfumato.engine import memory
from sfumato.engine.devices import place
from sfumato.engine.loaded import LoadedModels
from tests.support import ldm
from tests.support.tiny_models import TinyModel, make_model, tiny_info
from tests.support.tiny_xl import make_xl

SINGLE = 4


def held(info: ModelInfo) -> int:
    """Bytes of the weights that the engine says it holds."""
    models = LoadedModels(place("cpu"))
    models.load(info, ())
    return models.budget.used


def planned(info: ModelInfo) -> planning.Plan:
    return planning.plan(
        info.name, info.family, weigh(info), width=64, height=64, bytes_per_number=SINGLE
    )


@pytest.mark.parametrize("family", ["sd1", "sd2"])
def test_each_network_s_weights_are_what_its_parameters_take(tmp_path: Path, family: str) -> None:
    tiny: TinyModel = make_model(tmp_path, family)
    found = planned(tiny.info)
    networks = {"unet": tiny.unet, "vae": tiny.vae, "text_encoder": tiny.text}
    assert found.weights == {
        name: sum(weight.nbytes for weight in network.parameters())
        for name, network in networks.items()
    }
    assert found.stored == {"F32": found.weights_total}
    assert held(tiny.info) == found.weights_total


def test_a_checkpoint_s_networks_are_told_by_its_tensors_names(tmp_path: Path) -> None:
    tiny = make_model(tmp_path, "sd1")
    path = tmp_path / "whole.safetensors"
    tensors = ldm.checkpoint(tiny.unet, tiny.vae, tiny.text.state_dict(), "sd1")
    # What training keeps beside the networks is not loaded.
    tensors["model_ema.decay"] = torch.zeros(1000)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    found = planned(tiny_info(path, "sd1", ModelLayout.CHECKPOINT))
    assert found.weights == planned(tiny.info).weights


def test_sdxl_has_both_its_text_encoders(tmp_path: Path) -> None:
    info = make_xl(tmp_path).info
    found = planned(info)
    assert set(found.weights) == {"unet", "vae", "text_encoder", "text_encoder_2"}
    assert held(info) == found.weights_total


def test_estimates_are_those_that_the_engine_begins_with() -> None:
    assert memory._BYTES_PER_CELL == planning.ROW_BYTES_PER_CELL
    assert memory._SHARE == planning.STEP_SHARE
    assert memory._WEIGHTS_SHARE == planning.WEIGHTS_SHARE
    assert engine_module._DECODED_TOGETHER == planning.DECODED_TOGETHER


def test_a_model_that_is_elsewhere_is_told_so(tmp_path: Path) -> None:
    info = ModelInfo("far", "sd1", ModelLayout.DIFFUSERS, str(tmp_path / "none"))
    with pytest.raises(InvalidRequest, match="far"):
        weigh(info)
