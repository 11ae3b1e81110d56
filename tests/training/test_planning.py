"""The text encoder's plan, and what its words begin with."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPTokenizer

from training.starter import train_text
from training.starter.art import DEFAULT_SETS, Art
from training.starter.captions import caption
from training.starter.codec import fit_codec
from training.starter.common import Clock
from training.starter.looks import codes, word_vectors
from training.starter.models import LATENT_CHANNELS, MAX_TOKENS, TINY
from training.starter.render import draw, training_scenes
from training.starter.tokens import train_tokenizer
from training.starter.train_text import REGIONS, emphasis, make_planner, plan_loss
from training.starter.world import WORLD, Scene

SIDE = TINY.size // 8


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    return train_tokenizer(tmp_path_factory.mktemp("tokenizer"), captions=1_000)


def ids(tokenizer: CLIPTokenizer, *texts: str) -> torch.Tensor:
    found = tokenizer(list(texts), padding="max_length", truncation=True, return_tensors="pt")
    tokens: torch.Tensor = found["input_ids"]
    return tokens


def test_a_region_of_the_plan_is_read_off_its_own_token(tokenizer: CLIPTokenizer) -> None:
    planner = make_planner(tokenizer, TINY).eval()
    states = torch.zeros(1, MAX_TOKENS, TINY.text_width)
    before = planner.read(states)
    assert before.shape == (1, LATENT_CHANNELS, SIDE, SIDE)
    states[0, -(REGIONS**2) + REGIONS + 1] = 1  # the second region of the second row
    changed = (planner.read(states) != before).any(dim=1)[0]
    cell = SIDE // REGIONS
    expected = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    expected[cell : 2 * cell, cell : 2 * cell] = True
    assert (changed == expected).all()


def test_captions_leave_the_plan_its_tokens(tokenizer: CLIPTokenizer) -> None:
    rng = random.Random(0)
    texts = [caption(scene, rng, empty=0) for scene in training_scenes(300)]
    lengths = [len(found) for found in tokenizer(texts)["input_ids"]]
    assert max(lengths) <= MAX_TOKENS - REGIONS**2


def test_a_text_encoder_learns_what_words_look_like(
    tokenizer: CLIPTokenizer, tmp_path: Path
) -> None:
    """Two scenes, two colours: after some steps the words tell which."""
    scenes = [Scene("beach", "day", "dog", 1), Scene("forest", "night", "cat", 2)] * 4
    latents = np.ones((8, LATENT_CHANNELS, SIDE, SIDE), np.float16)
    latents[1::2] = -1
    planner = train_text.train(
        latents, scenes, tokenizer, tmp_path / "text.pt", Clock(steps=60), batch=8, lr=3e-3,
        warmup=5, shape=TINY,
    )  # fmt: skip
    with torch.no_grad():
        asked = ids(tokenizer, "a dog on a beach by day", "a cat in a forest at night")
        beach, forest = planner(asked)
    assert beach.mean() > 0.5
    assert forest.mean() < -0.5


def test_the_lower_middle_counts_more_and_the_average_is_one() -> None:
    weights = emphasis(32)
    assert weights.mean() == pytest.approx(1)
    assert weights[20, 16] > weights[2, 16]
    assert plan_loss(torch.zeros(1, 8, 32, 32), torch.ones(1, 8, 32, 32)) == pytest.approx(1)


def test_words_of_like_objects_begin_alike(tokenizer: CLIPTokenizer, art_folder: Path) -> None:
    """The art of the tests has fifteen drawings for all objects, so some share one."""
    art = Art.load(DEFAULT_SETS, art_folder)
    codec = fit_codec(np.stack([draw(scene, art, 64) for scene in training_scenes(40)]))
    looks = codes(codec, art, 64, 32)
    things = list(WORLD.things)
    first, same, other = looks[0], looks[15], looks[1]
    assert (first - other).norm() > 20 * (first - same).norm()
    vectors = word_vectors(tokenizer, looks)
    (token,) = tokenizer(things[0], add_special_tokens=False)["input_ids"]
    torch.testing.assert_close(vectors[token], first)
    assert not vectors[tokenizer.bos_token_id].any()
