"""SDXL's LoRAs: two text encoders, and the layers' names in either program's way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from sfumato.core.extras import LoraUse
from sfumato.core.models import ModelInfo
from sfumato.engine.engine import DiffusionEngine
from sfumato.engine.slots import DiffusionSlot
from tests.support.lora_files import file_for
from tests.support.rendering import task_of
from tests.support.tiny_xl import WIDTHS, TinyXl, make_xl

_BLOCK = "transformer_blocks.1.attn2.to_k"
#: The same layers in diffusers' way and in that of the network's first code.
NAMES = {
    f"down_blocks.1.attentions.0.{_BLOCK}": f"input_blocks.4.1.{_BLOCK}",
    f"up_blocks.0.attentions.2.{_BLOCK}": f"output_blocks.2.1.{_BLOCK}",
    "up_blocks.0.upsamplers.0.conv": "output_blocks.2.2.conv",
    "down_blocks.0.resnets.1.time_emb_proj": "input_blocks.2.0.emb_layers.1",
    "add_embedding.linear_1": "label_emb.0.0",
}


@pytest.fixture(scope="session")
def xl(tmp_path_factory: pytest.TempPathFactory) -> TinyXl:
    return make_xl(tmp_path_factory.mktemp("models"))


@pytest.fixture
def engine(xl: TinyXl) -> DiffusionEngine:
    engine = DiffusionEngine("cpu", threads=1)
    engine.load(xl.info)
    return engine


def admitted(engine: DiffusionEngine, xl: TinyXl, *loras: ModelInfo) -> DiffusionSlot:
    uses = tuple(LoraUse(info.name) for info in loras)
    return engine.admit(replace(task_of(xl.info, loras=uses), extras=loras))


def test_either_way_of_naming_draws_the_same_bytes(
    engine: DiffusionEngine, xl: TinyXl, tmp_path: Path
) -> None:
    layers = {name: xl.unet.get_submodule(name) for name in NAMES}
    ours = {f"unet.{name}": layer for name, layer in layers.items()}
    theirs = {f"lora_unet_{NAMES[name].replace('.', '_')}": layer for name, layer in layers.items()}
    slots = [
        admitted(engine, xl, file_for(tmp_path / f"{n}.safetensors", names)[0])
        for n, names in enumerate((ours, theirs))
    ]
    slots.append(admitted(engine, xl))
    for slot in slots:
        assert slot.notes == ()
        while slot.step < slot.steps:
            engine.step([slot])
    assert torch.equal(slots[0].latents, slots[1].latents)
    assert not torch.allclose(slots[0].latents, slots[2].latents, atol=1e-2)


@pytest.mark.parametrize("first", [True, False])
def test_each_text_encoder_is_changed_by_its_own_part(
    engine: DiffusionEngine, xl: TinyXl, tmp_path: Path, first: bool
) -> None:
    network = xl.text if first else xl.text_2.text_model
    assert isinstance(network, nn.Module)
    inner = getattr(network, "text_model", network)
    name = "encoder.layers.0.self_attn.v_proj"
    prefix = f"lora_te{1 if first else 2}_text_model_"
    layers = {f"{prefix}{name.replace('.', '_')}": inner.get_submodule(name)}
    info, _ = file_for(tmp_path / "words.safetensors", layers)
    plain, changed = (
        slot.conditioning.prompts[0].at(0)
        for slot in (admitted(engine, xl), admitted(engine, xl, info))
    )
    halves = [
        torch.allclose(a, b, atol=1e-3)
        for a, b in zip(
            plain.tokens.split(WIDTHS, dim=1), changed.tokens.split(WIDTHS, dim=1), strict=True
        )
    ]
    assert halves == [not first, first]
    assert plain.pooled is not None
    assert changed.pooled is not None
    # The text as a whole comes from the second.
    assert torch.equal(plain.pooled, changed.pooled) == first
