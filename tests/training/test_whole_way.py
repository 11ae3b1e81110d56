"""From drawing to judging, both parts of the GPU run, with networks of a few thousand numbers."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from sfumato.adapters.models.folders import FolderModelCatalog
from sfumato.core.models import unknown_words
from training.starter.judge import Trial, parse
from training.starter.models import TINY
from training.starter.run import NotYet, Plan, Slice, part1, part2, scaled
from training.starter.world import WORLD

#: diffusers' schedulers read tensors as numpy did before its version 2.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
PLAN = Plan(
    pictures=24, held_out=6, vae=0.005, text=0.005, first=0.005, second=0.005,
    vae_batch=4, text_batch=4, batch=4,
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, art_folder: Path) -> Path:
    """Weights of both parts; the first is cut off at its beginning and goes on."""
    home = tmp_path_factory.mktemp("run")
    handover, target = home / "handover", home / "starter"

    def slice_of(part: str, seconds: float) -> Slice:
        (home / part).mkdir(exist_ok=True)
        return Slice(home / part, TINY, "cpu", time.monotonic() + seconds, 1, art_folder)

    with pytest.raises(NotYet, match="draw"):
        part1(slice_of("part1", 0), PLAN, handover)
    assert not handover.exists()
    part1(slice_of("part1", 1000), PLAN, handover)
    (home / "part1").rename(home / "elsewhere")  # the handover is all that part 2 gets
    part2(slice_of("part2", 1000), PLAN, handover, target)
    return target


def test_the_weights_are_a_model_of_the_catalogue_and_name_all_art(trained: Path) -> None:
    model = FolderModelCatalog([], builtin=trained).get(None)
    assert model.refusal is None
    assert (model.defaults.width, model.sizes) == (64, ((64, 64),))
    assert unknown_words(model, "a blue fox on a farm in the fog, pixel art") == []
    told = " ".join(model.attribution)
    for artist in ("Microsoft", "Google", "Twitter", "EmojiOne", "Game-icons.net"):
        assert artist in told
        assert artist in (trained / "ATTRIBUTION.md").read_text()
    assert "Permission is hereby granted" in (trained / "ATTRIBUTION.md").read_text()
    assert all(path.stat().st_size <= 15 << 20 for path in trained.rglob("*") if path.is_file())
    assert WORLD.known_to(json.loads((trained / "sfumato.json").read_text())).classes() == (
        WORLD.classes()
    )


def test_the_judge_prints_every_gate_with_its_controls(
    trained: Path, art_folder: Path, tmp_path: Path
) -> None:
    few = {"renders": 40, "fresh": 12, "count": 12, "vae-ceiling": 8, "copies": 8, "epochs": 1}
    few |= {"steps": 1, "workers": 1}
    numbers = [f"--{name}={count}" for name, count in few.items()]
    places = [f"--model={trained}", f"--art={art_folder}", f"--work={tmp_path}"]
    trial = Trial(parse([*numbers, *places]))
    trial.renders()
    scores = trial.judge_all(trial.ceiling())
    names = {"place", "time", "object", "retrieval", "paraphrases"}
    assert names <= set(scores)
    assert all(0 <= scores[name] <= 1 for name in names)
    report = trial.report
    for column in ("ceiling_renders", "control_shuffled", "chance"):
        assert {"place", "time", "object", "retrieval"} <= set(report[column])
    assert report["chance"]["object"] == pytest.approx(1 / len(WORLD.things), abs=1e-4)
    assert (report["n"], report["paraphrases"]["n"]) == (12, 50)
    assert report["copying"]["nearest"] > 0
    assert report["diversity"]["one_prompt"] > 0


def test_a_plan_is_scaled_to_the_machine_and_the_part() -> None:
    fast = {"drawn": 800.0}
    plan = scaled(PLAN, fast, 27.0)
    assert plan.pictures == 120_000
    drawing = plan.pictures / 800 / 60
    for training in (plan.vae + plan.text + plan.first, plan.second):
        assert 0.9 * 27 <= training + drawing <= 27
    slow = scaled(PLAN, {name: rate / 10 for name, rate in fast.items()}, 27.0)
    assert slow.pictures == pytest.approx(21_600, rel=0.01)
    kept = ("vae_batch", "text_batch", "batch", "lr", "ema")
    assert all(asdict(plan)[name] == asdict(PLAN)[name] for name in kept)
