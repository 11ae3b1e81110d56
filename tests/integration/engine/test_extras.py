"""Weights beside the models: kept by use, within the models' budget."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sfumato.core.errors import ModelRefused, ModelUnusable
from sfumato.core.models import ModelInfo, ModelKind, ModelLayout
from sfumato.engine.engine import DiffusionEngine
from sfumato.engine.extras import LoadedExtras
from sfumato.engine.memory import WeightBudget
from tests.support.tiny_models import TinyModel


@dataclass
class Weights:
    content: bytes
    size: int = 10


def load(info: ModelInfo) -> Weights:
    content = Path(info.path).read_bytes()
    if content == b"broken":
        raise ModelUnusable("broken")
    return Weights(content)


def info_of(path: Path, kind: ModelKind = ModelKind.LORA) -> ModelInfo:
    return ModelInfo(path.stem, "sd1", ModelLayout.CHECKPOINT, str(path), kind=kind)


@pytest.fixture
def budget() -> WeightBudget:
    return WeightBudget(torch.device("cpu"), 20)


@pytest.fixture
def files(tmp_path: Path) -> list[ModelInfo]:
    paths = [tmp_path / f"{name}.weights" for name in "abc"]
    for path in paths:
        path.write_bytes(path.stem.encode())
    return [info_of(path) for path in paths]


def test_the_least_recently_used_makes_room(budget: WeightBudget, files: list[ModelInfo]) -> None:
    extras = LoadedExtras(budget)
    a, b, c = files
    first = extras.get(a, load)
    extras.get(b, load)
    assert extras.get(a, load) is first
    extras.get(c, load)
    assert extras.names() == [(ModelKind.LORA, "a"), (ModelKind.LORA, "c")]
    assert budget.used == 20
    assert extras.get(a, load) is first


def test_one_that_is_larger_than_the_budget_is_kept_alone(
    budget: WeightBudget, files: list[ModelInfo]
) -> None:
    extras = LoadedExtras(budget)
    extras.get(files[0], load)
    extras.get(files[1], lambda info: Weights(load(info).content, 100))
    assert extras.names() == [(ModelKind.LORA, "b")]
    assert extras.evict()
    assert not extras.evict()
    assert budget.used == 0


def test_a_replaced_file_is_read_again_and_a_broken_one_leaves_the_others(
    budget: WeightBudget, files: list[ModelInfo]
) -> None:
    extras = LoadedExtras(budget)
    a, b, _ = files
    kept = extras.get(b, load)
    assert extras.get(a, load).content == b"a"
    Path(a.path).write_bytes(b"broken")
    with pytest.raises(ModelUnusable):
        extras.get(a, load)
    assert extras.get(b, load) is kept
    Path(a.path).write_bytes(b"newer!")
    os.utime(a.path, ns=(1, 1))
    assert extras.get(a, load).content == b"newer!"
    assert budget.used == 20


def test_kinds_and_variants_are_told_apart(budget: WeightBudget, files: list[ModelInfo]) -> None:
    extras = LoadedExtras(budget)
    lora = extras.get(files[0], load)
    assert extras.get(replace(files[0], kind=ModelKind.VAE), load) is not lora
    assert extras.get(files[0], load) is lora
    assert extras.get(files[0], load, torch.float32) is not lora


def test_what_is_missing_or_refused_is_told_by_name(
    budget: WeightBudget, files: list[ModelInfo], tmp_path: Path
) -> None:
    extras = LoadedExtras(budget)
    with pytest.raises(ModelUnusable, match="LoRA 'gone' can't be read"):
        extras.get(info_of(tmp_path / "gone.weights"), load)
    with pytest.raises(ModelRefused, match="a pickle"):
        extras.get(replace(files[0], refusal="a pickle"), load)


def test_extras_go_before_models(engine: DiffusionEngine, sd1: TinyModel, tmp_path: Path) -> None:
    size = engine._models[sd1.info.name].size
    small = DiffusionEngine("cpu", threads=1, model_memory=2 * size)
    path = tmp_path / "a.weights"
    path.write_bytes(b"a")
    small.load(replace(sd1.info, name="first"))
    extras = small._models.extras
    extras.get(info_of(path), lambda info: Weights(load(info).content, size))
    small.load(replace(sd1.info, name="second"), in_use={"first"})
    assert small.loaded() == ["first", "second"]
    assert extras.names() == []
    assert small.make_room()
    extras.get(info_of(path), load)
    assert small.make_room()
    assert not small.make_room()


def test_a_broken_file_makes_nobody_give_up_his_place(
    budget: WeightBudget, files: list[ModelInfo], tmp_path: Path
) -> None:
    extras = LoadedExtras(budget)
    for info in files[:2]:
        extras.get(info, load)
    path = tmp_path / "broken.safetensors"
    path.write_bytes(b"nothing at all")
    with pytest.raises(ModelUnusable, match="it has no header"):
        extras.get(info_of(path), load)
    assert [name for _, name in extras.names()] == ["a", "b"]


def test_room_is_made_before_a_file_is_read(
    budget: WeightBudget, files: list[ModelInfo], tmp_path: Path
) -> None:
    extras = LoadedExtras(budget)
    extras.get(files[0], load)
    path = tmp_path / "large.safetensors"
    save_file({"weight": torch.zeros(5)}, path)
    there: list[list[tuple[ModelKind, str]]] = []

    def watched(info: ModelInfo) -> Weights:
        there.append(extras.names())
        return load(info)

    extras.get(info_of(path), watched)
    assert there == [[]]
