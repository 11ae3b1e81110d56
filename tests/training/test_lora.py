"""Training a LoRA on the starter: it learns, survives a kill, and the engine draws with its file."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from sfumato.adapters.models.folders import FolderModelCatalog
from sfumato.bootstrap.models import STARTER
from sfumato.core.extras import LoraUse
from sfumato.core.models import ModelInfo, ModelKind
from sfumato.engine.engine import DiffusionEngine
from tests.support.rendering import render, task_of
from training.lora.adapters import Adapter, attach, write_file
from training.lora.example import BEACON, View, draw, training_pictures, views
from training.lora.finding import Template
from training.lora.pictures import Pictures, read_pictures, write_pictures
from training.lora.train import Recipe, Subject, common_words, train
from training.starter.art import rasterise, svg_document
from training.starter.common import step_generator

RECIPE = Recipe(rank=4, alpha=4.0, steps=10, batch=2, lr=1e-2)


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    """Four beacons."""
    seen = views(4, held_out=False, seed=0)
    return Pictures(np.stack([draw(v, 256) for v in seen]), tuple(v.prompt() for v in seen))


def error(subject: Subject, pictures: Pictures) -> float:
    """The loss of the same noise at the same steps."""
    with torch.no_grad():
        ids = subject.ids(pictures.captions)
        return subject.loss(subject.latents(pictures), ids, step_generator(9, 9)).item()


@pytest.fixture(scope="module")
def trained(pictures: Pictures, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A file in a folder of models, and what is left of the loss."""
    folder = tmp_path_factory.mktemp("models")
    subject = Subject(STARTER, RECIPE)
    before = error(subject, pictures)
    losses = train(subject, pictures, RECIPE, folder / "beacon.checkpoint")
    assert len(losses) == RECIPE.steps
    path = folder / "beacon.safetensors"
    words = common_words(pictures.captions)
    write_file(path, subject.adapters, title="beacon", captions=words)
    return path, error(subject, pictures) / before


def test_the_loss_falls(trained: tuple[Path, float]) -> None:
    assert trained[1] < 0.97


def test_the_catalogue_tells_what_it_was_trained_with(trained: tuple[Path, float]) -> None:
    found = FolderModelCatalog([trained[0].parent]).get("beacon", ModelKind.LORA)
    assert found.refusal is None
    assert "beacon" in found.description
    assert found.vocabulary is not None
    assert {"a", "beacon", "at"} <= found.vocabulary


def test_the_engine_draws_another_picture_with_the_file(trained: tuple[Path, float]) -> None:
    catalogue = FolderModelCatalog([trained[0].parent], builtin=STARTER)
    lora = catalogue.get("beacon", ModelKind.LORA)
    engine, starter = DiffusionEngine("cpu", threads=1), catalogue.get("starter")
    engine.load(starter)

    def drawn(weight: float | None) -> np.ndarray[Any, Any]:
        uses = () if weight is None else (LoraUse("beacon", weight),)
        extras: tuple[ModelInfo, ...] = () if weight is None else (lora,)
        fields: dict[str, object] = {"loras": uses, "num_inference_steps": 4}
        task = replace(task_of(starter, "a beacon on a beach", **fields), extras=extras)
        slot = engine.admit(task)
        while slot.step < slot.steps:
            engine.step([slot])
        assert slot.notes == (), "every layer of the file is one of the starter's"
        picture = Image.open(io.BytesIO(render(engine, slot).data)).convert("RGB")
        return np.asarray(picture).astype(int)

    plain = drawn(None)
    assert np.abs(drawn(1.0) - plain).mean() > 3
    assert (drawn(0.0) == plain).all()


class Killed(Exception):
    """Stands in for a kill between two steps."""


def test_a_killed_run_goes_on_to_the_same_weights(pictures: Pictures, tmp_path: Path) -> None:
    recipe = replace(RECIPE, steps=3, convolutions=False, text_encoder=False)

    def run(path: Path, report: Callable[[int, float], None]) -> dict[str, torch.Tensor]:
        subject = Subject(STARTER, recipe)
        train(subject, pictures, recipe, path, save_every=0.0, report=report)
        return subject.adapters.state_dict()

    def dies(step: int, _loss: float) -> None:
        if step == 2:
            raise Killed

    whole = run(tmp_path / "whole", lambda _step, _loss: None)
    with pytest.raises(Killed):
        run(tmp_path / "cut", dies)
    seen: list[int] = []
    resumed = run(tmp_path / "cut", lambda step, _loss: seen.append(step))
    assert seen == [2, 3], "the first step was not taken again"
    for name, weights in whole.items():
        torch.testing.assert_close(resumed[name], weights, rtol=0, atol=0)


def test_an_adapter_begins_as_no_change_and_counts_by_alpha_over_rank() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.Flatten(), nn.Linear(24, 5))
    given = torch.randn(2, 3, 4, 4)
    before = network(given)
    adapters = attach(network, "lora_unet_", rank=2, alpha=4.0)
    torch.testing.assert_close(network(given), before)
    assert set(adapters) == {"lora_unet_0", "lora_unet_2"}
    last = adapters["lora_unet_2"]
    assert isinstance(last, Adapter)
    with torch.no_grad():
        last.up.weight.normal_()
        merged = network[2].weight + 4.0 / 2 * last.up.weight @ last.down.weight
        flat = network[1](network[0](given))
        torch.testing.assert_close(network(given), flat @ merged.T + network[2].bias)
    assert not any(p.requires_grad for p in network[0].parameters())


def test_pictures_are_read_as_they_were_written_and_each_needs_a_caption(
    pictures: Pictures, tmp_path: Path
) -> None:
    write_pictures(tmp_path, pictures)
    again = read_pictures(tmp_path, 256)
    assert again.captions == pictures.captions
    np.testing.assert_array_equal(again.pixels, pictures.pixels)
    assert read_pictures(tmp_path, 64).pixels.shape == (4, 64, 64, 3)
    (tmp_path / "0002.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"0002\.png .*no caption"):
        read_pictures(tmp_path, 256)
    with pytest.raises(FileNotFoundError, match="no picture"):
        read_pictures(tmp_path.parent, 256)


def test_the_beacon_is_found_where_it_is_and_nowhere_else() -> None:
    template = Template(rasterise(svg_document(BEACON, 64, 128), 64, 128))
    seen = views(30, held_out=True, seed=1)
    assert template.share(np.stack([draw(view, 128) for view in seen])) == 1.0
    assert template.share(np.stack([draw(view, 128, lit=False) for view in seen])) == 0.0


def test_what_is_measured_was_never_trained_on_and_other_words_are_kept() -> None:
    asked: list[str] = []

    def own(prompts: Any) -> np.ndarray[Any, Any]:
        asked.extend(prompts)
        return np.zeros((len(prompts), 32, 32, 3), np.uint8)

    shown = training_pictures(30, 32, own)
    assert len(shown.captions) == len(shown.pixels) == 30 + 5 + 10
    assert len(asked) == 10
    assert not any("beacon" in text or "dog" in text for text in asked)
    held = {view.prompt() for view in views(30, held_out=True, seed=7)}
    assert not held & set(shown.captions)
    assert View("beach", "day", 0).held_out != View("beach", "sunset", 0).held_out
