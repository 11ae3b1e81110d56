"""Strict pictures are the same bytes in whatever company, and after every handover."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from sfumato.adapters.models import FolderModelCatalog
from sfumato.bootstrap.models import STARTER
from sfumato.core.errors import EngineFailure, OutOfMemory
from sfumato.core.models import ModelInfo
from sfumato.core.ports import ImageTask
from sfumato.core.request import Determinism
from sfumato.engine import memory
from sfumato.engine.engine import DiffusionEngine
from sfumato.engine.families.sd import StableDiffusion
from sfumato.engine.network import NetworkInput
from tests.support.batching import draw_together
from tests.support.rendering import task_of
from tests.support.tiny_models import TinyModel, make_model

#: What may share a strict batch: samplers of one evaluation and of two, with noise and without,
#: with guidance, without, and with more prompts than the usual number of rows holds.
KINDS: tuple[dict[str, object], ...] = (
    {"sampler": "euler"},
    {"sampler": "euler_a", "guidance_scale": 1},
    {"sampler": "dpmpp_sde", "num_inference_steps": 3},
    {"sampler": "dpmpp_3m_sde", "guidance_scale": 1, "num_inference_steps": 6},
    {"sampler": "dpmpp_2m", "schedule": "karras", "prompt": "a [castle|tower] at night"},
    {"sampler": "heun", "num_inference_steps": 2, "negative_prompt": "fog"},
    {"sampler": "unipc", "prompt": "a hill AND a moon :0.5"},
    {"sampler": "lcm", "guidance_scale": 0, "num_inference_steps": 5},
    {"sampler": "ddpm", "prompt": "a AND b AND c AND d"},
    {"sampler": "plms", "seed": 2**63},
)
#: The greatest difference, of 255, that ``fast`` allows.
CLOSE = 2


def strict(model: ModelInfo, kind: int, *, index: int = 0) -> ImageTask:
    fields = {"determinism": Determinism.STRICT, **KINDS[kind]}
    prompt = str(fields.pop("prompt", "a castle"))
    return task_of(model, prompt, index=index, **fields)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return make_model(tmp_path_factory.mktemp("models"), "sd1")


@pytest.fixture(scope="module")
def house(tiny: TinyModel) -> DiffusionEngine:
    """An engine for all tests here, on as many threads as there are."""
    engine = DiffusionEngine("cpu")
    engine.load(tiny.info)
    return engine


@pytest.fixture(scope="module")
def alone(house: DiffusionEngine, tiny: TinyModel) -> list[bytes]:
    """Each kind's picture, drawn alone."""
    return [draw_together(house, [strict(tiny.info, kind)])[0] for kind in range(len(KINDS))]


companies = st.lists(
    st.tuples(st.integers(0, len(KINDS) - 1), st.integers(0, 8)), min_size=2, max_size=6
)


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(companies)
def test_company_changes_no_byte(
    house: DiffusionEngine, tiny: TinyModel, alone: list[bytes], company: list[tuple[int, int]]
) -> None:
    kinds = [kind for kind, _ in company]
    drawn = draw_together(
        house, [strict(tiny.info, kind) for kind in kinds], [joins for _, joins in company]
    )
    assert [bytes_ == alone[kind] for bytes_, kind in zip(drawn, kinds, strict=True)] == [
        True
    ] * len(kinds)


def test_every_place_in_a_full_batch_changes_no_byte(
    house: DiffusionEngine, tiny: TinyModel, alone: list[bytes]
) -> None:
    others = [
        task_of(tiny.info, "a sea", seed=seed, guidance_scale=1, determinism=Determinism.STRICT)
        for seed in range(3)
    ]
    for place in range(4):
        tasks = [*others[:place], strict(tiny.info, 1), *others[place:]]
        slots = [house.admit(task) for task in tasks]
        assert house.row_limit(slots[0].batch_key) == sum(slot.rows for slot in slots) == 4
        assert draw_together(house, tasks)[place] == alone[1]


def test_the_number_of_rows_follows_from_the_key_alone(
    house: DiffusionEngine, tiny: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, many = (house.admit(strict(tiny.info, kind)) for kind in (0, 8))
    monkeypatch.setattr(memory, "available", lambda _device: 1)
    assert house.row_limit(usual.batch_key) == 4
    assert house.row_limit(many.batch_key) == many.rows == 5
    larger = house.admit(task_of(tiny.info, width=64, height=64, determinism=Determinism.STRICT))
    assert house.row_limit(larger.batch_key) == 2


def test_strict_and_fast_share_no_step(house: DiffusionEngine, tiny: TinyModel) -> None:
    slots = [house.admit(strict(tiny.info, 0)), house.admit(task_of(tiny.info))]
    with pytest.raises(EngineFailure, match="batch key"):
        house.step(slots)


def test_without_memory_for_its_rows_a_picture_fails_by_name(
    house: DiffusionEngine, tiny: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def predict(_: object, given: NetworkInput) -> torch.Tensor:
        raise torch.OutOfMemoryError(f"{given.latents.shape[0]} rows")

    slot = house.admit(strict(tiny.info, 0))
    monkeypatch.setattr(StableDiffusion, "predict", predict)
    with pytest.raises(OutOfMemory, match="4 rows, as strict determinism asks"):
        house.step([slot])


def test_where_a_rows_place_matters_pictures_are_drawn_one_by_one(
    tiny: TinyModel, alone: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = DiffusionEngine("cpu")
    engine.load(tiny.info)
    slots = [engine.admit(strict(tiny.info, 1)) for _ in range(2)]
    predict = StableDiffusion.predict

    def uneven(self: StableDiffusion, given: NetworkInput) -> torch.Tensor:
        answer = predict(self, given)
        answer[1:] += 1e-6
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(StableDiffusion, "predict", uneven)
        with pytest.raises(EngineFailure, match="one by one"):
            engine.step(slots)
    assert [slot.step for slot in slots] == [0, 0]
    assert engine.row_limit(slots[0].batch_key) == 1
    assert draw_together(engine, [strict(tiny.info, 1)] * 2) == [alone[1]] * 2


_RESUME = """
import sys
from pathlib import Path
from tests.integration.engine.test_exactness import KINDS, strict
from tests.support.batching import finish
from tests.support.tiny_models import tiny_info
from sfumato.engine.engine import DiffusionEngine
folder, model = Path(sys.argv[1]), tiny_info(Path(sys.argv[2]), "sd1")
engine = DiffusionEngine("cpu", threads=int(sys.argv[3]))
engine.load(model)
for blob in sorted(folder.glob("*.slot")):
    slot = engine.resume(strict(model, int(blob.stem.split("-")[0])), blob.read_bytes())
    blob.with_suffix(".png").write_bytes(finish(engine, slot))
"""


def test_resumed_at_any_step_in_another_process_it_is_the_same_file(
    house: DiffusionEngine, tiny: TinyModel, alone: list[bytes], tmp_path: Path
) -> None:
    for kind in range(len(KINDS)):
        slot = house.admit(strict(tiny.info, kind))
        while slot.step < slot.steps:
            house.step([slot])
            (tmp_path / f"{kind}-{slot.step:02}.slot").write_bytes(house.export(slot))
    threads = str(torch.get_num_threads())
    command = [sys.executable, "-c", _RESUME, str(tmp_path), tiny.info.path, threads]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[3])
    resumed = sorted(tmp_path.glob("*.png"))
    assert len(resumed) > 30
    for path in resumed:
        assert path.read_bytes() == alone[int(path.stem.split("-")[0])], path.stem


# -- the starter model, at its own size -------------------------------------------------------------


@pytest.fixture(scope="module")
def starter() -> tuple[DiffusionEngine, ModelInfo]:
    info = FolderModelCatalog([], builtin=STARTER).get("starter")
    engine = DiffusionEngine("cpu")
    engine.load(info)
    return engine, info


mixes = st.lists(
    st.tuples(
        st.sampled_from(("dpmpp_2m", "euler_a", "dpmpp_sde", "unipc", "lms")),
        st.sampled_from((1.0, 3.5, 7.0)),
        st.integers(2, 6),
        st.integers(0, 5),
    ),
    min_size=2,
    max_size=4,
)


@settings(max_examples=3, deadline=None)
@given(mixes)
def test_the_starters_strict_pictures_are_the_same_in_company(
    starter: tuple[DiffusionEngine, ModelInfo], mix: list[tuple[str, float, int, int]]
) -> None:
    engine, model = starter
    tasks = _tasks(model, mix, Determinism.STRICT)
    together = draw_together(engine, tasks, [joins for *_, joins in mix])
    for task, drawn in zip(tasks, together, strict=True):
        assert drawn == draw_together(engine, [task])[0], task.settings


@settings(max_examples=3, deadline=None)
@given(mixes)
def test_the_starters_fast_pictures_are_close_in_company(
    starter: tuple[DiffusionEngine, ModelInfo], mix: list[tuple[str, float, int, int]]
) -> None:
    engine, model = starter
    tasks = _tasks(model, mix, Determinism.FAST)
    together = draw_together(engine, tasks, [joins for *_, joins in mix])
    for task, drawn in zip(tasks, together, strict=True):
        lone = _pixels(draw_together(engine, [task])[0])
        assert np.abs(_pixels(drawn) - lone).max() <= CLOSE, task.settings


def _tasks(
    model: ModelInfo, mix: list[tuple[str, float, int, int]], determinism: Determinism
) -> list[ImageTask]:
    return [
        task_of(
            model,
            "a castle at night",
            sampler=sampler,
            guidance_scale=guidance,
            num_inference_steps=steps,
            seed=seed,
            determinism=determinism,
        )
        for seed, (sampler, guidance, steps, _) in enumerate(mix)
    ]


def _pixels(data: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
    with Image.open(io.BytesIO(data)) as opened:
        return np.asarray(opened, dtype=np.int16)
