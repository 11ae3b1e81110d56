"""What the engine does where memory is short, and with models that are broken."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sfumato.core.errors import EngineFailure, ModelUnusable, OutOfMemory
from sfumato.core.models import ModelInfo
from sfumato.engine import memory
from sfumato.engine.engine import DiffusionEngine
from sfumato.engine.network import NetworkInput
from tests.support.rendering import task_of
from tests.support.tiny_models import TinyModel

CPU = torch.device("cpu")


def copies(sd1: TinyModel, *names: str) -> list[ModelInfo]:
    return [replace(sd1.info, name=name) for name in names]


def size_of(engine: DiffusionEngine, model: ModelInfo) -> int:
    return engine._models[model.name].size


def test_the_least_recently_used_model_makes_room(engine: DiffusionEngine, sd1: TinyModel) -> None:
    size = size_of(engine, sd1.info)
    small = DiffusionEngine("cpu", threads=1, model_memory=2 * size)
    first, second, third = copies(sd1, "first", "second", "third")
    for model in (first, second, first, third):
        small.load(model)
    assert small.loaded() == ["first", "third"]
    with pytest.raises(EngineFailure, match="'second' is not loaded"):
        small.admit(task_of(second))


def test_a_model_in_use_stays(engine: DiffusionEngine, sd1: TinyModel) -> None:
    size = size_of(engine, sd1.info)
    small = DiffusionEngine("cpu", threads=1, model_memory=2 * size)
    first, second, third = copies(sd1, "first", "second", "third")
    small.load(first)
    small.load(second)
    small.load(third, in_use={"first"})
    assert small.loaded() == ["first", "third"]
    with pytest.raises(OutOfMemory, match="no room for 'second'"):
        small.load(second, in_use={"first", "third"})
    assert small.loaded() == ["first", "third"]
    assert small.make_room(in_use={"third"})
    assert small.loaded() == ["third"]
    assert not small.make_room(in_use={"third"})


def test_a_model_larger_than_the_budget_is_tried_alone(sd1: TinyModel) -> None:
    tiny = DiffusionEngine("cpu", threads=1, model_memory=1)
    first, second = copies(sd1, "first", "second")
    tiny.load(first)
    tiny.load(second)
    assert tiny.loaded() == ["second"]


def test_free_memory_is_the_budget_where_none_is_given(
    engine: DiffusionEngine, sd1: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = size_of(engine, sd1.info)
    (other,) = copies(sd1, "other")
    monkeypatch.setattr("sfumato.engine.memory.available", lambda _device: size)
    engine.load(other)
    assert engine.loaded() == ["other"]


def test_broken_models_leave_the_loaded_one_untouched_however_often_they_are_tried(
    engine: DiffusionEngine, sd1: TinyModel, tmp_path: Path
) -> None:
    size = size_of(engine, sd1.info)
    small = DiffusionEngine("cpu", threads=1, model_memory=size)
    small.load(sd1.info)
    loaded = small._models[sd1.info.name].model
    cut, garbage = tmp_path / "cut", tmp_path / "garbage"
    for folder in (cut, garbage):
        shutil.copytree(sd1.path, folder)
    weights = Path("unet/diffusion_pytorch_model.safetensors")
    (cut / weights).write_bytes((sd1.path / weights).read_bytes()[:-1000])
    (garbage / weights).write_bytes(b"\x93garbage" * 999)
    for _ in range(3):
        for path in (cut, garbage, tmp_path / "nowhere"):
            with pytest.raises(ModelUnusable, match=path.name):
                small.load(replace(sd1.info, name="broken", path=str(path)))
    assert small._models[sd1.info.name].model is loaded
    slot = small.admit(task_of(sd1.info))
    small.step([slot])
    assert slot.step == 1


def test_a_step_that_runs_out_of_memory_says_what_would_help_and_can_be_retried(
    engine: DiffusionEngine, sd1: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots = [engine.admit(task_of(sd1.info, seed=seed)) for seed in range(4)]
    model = engine._models[sd1.info.name].model
    predict = model.predict

    def allocate_too_much(given: NetworkInput) -> torch.Tensor:
        if given.latents.shape[0] > 4:
            torch.empty(1 << 60)  # torch's own allocator says no
        return predict(given)

    monkeypatch.setattr(model, "predict", allocate_too_much)
    with pytest.raises(OutOfMemory, match="smaller picture"):
        engine.step(slots)
    assert [slot.step for slot in slots] == [0] * 4
    engine.step(slots[:2])
    engine.step(slots[2:])
    assert [slot.step for slot in slots] == [1] * 4


@pytest.mark.parametrize(("free", "rows"), [(1 << 40, 32), (1 << 28, 5), (1 << 20, 2)])
def test_rows_are_limited_by_the_memory_that_is_free(
    engine: DiffusionEngine,
    sd1: TinyModel,
    monkeypatch: pytest.MonkeyPatch,
    free: int,
    rows: int,
) -> None:
    monkeypatch.setattr(memory, "available", lambda _device: free)
    slot = engine.admit(task_of(sd1.info))
    assert engine.row_limit(slot.batch_key) == rows


def test_a_container_s_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable: 4096 kB\n")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert memory.available(CPU) == 4096 << 10
    for name, text in (
        ("memory.max", "3000000\n"),
        ("memory.current", "2500000\n"),
        ("memory.stat", "anon 1\ninactive_file 100000\n"),
    ):
        (tmp_path / name).write_text(text)
    assert memory.available(CPU) == 600_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available(CPU) == 4096 << 10
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "nowhere")
    assert memory.available(CPU) is None
