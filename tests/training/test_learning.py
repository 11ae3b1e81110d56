"""Tokenizer and training loops, on toy sizes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from training.starter import train as train_module
from training.starter.common import Clock, learning_rate
from training.starter.models import LATENT_CHANNELS, Shape, make_scheduler
from training.starter.render import training_scenes
from training.starter.tokens import train_tokenizer
from training.starter.train_text import Planner


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    return train_tokenizer(tmp_path_factory.mktemp("tokenizer"), captions=1_000)


def test_known_words_are_single_tokens_that_read_back(tokenizer: CLIPTokenizer) -> None:
    text = "a castle in the hills at night"
    ids = tokenizer(text)["input_ids"]
    assert len(ids) == 7 + 2
    assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    assert tokenizer.decode(ids, skip_special_tokens=True).strip() == text


@pytest.mark.parametrize("text", ["zebra", "Äpfel", "城", "🙂"])
def test_unknown_text_becomes_bytes_not_nothing(tokenizer: CLIPTokenizer, text: str) -> None:
    ids = tokenizer(text)["input_ids"]
    assert len(ids) > 2
    assert tokenizer.decode(ids, skip_special_tokens=True).strip() == text.lower()


def test_the_same_corpus_gives_the_same_merges(tmp_path: Path) -> None:
    names = [str(number) for number in range(8)]  # words of equal counts are many
    for name in names:
        train_tokenizer(tmp_path / name, captions=200)
    for file in ("vocab.json", "merges.txt"):
        assert len({(tmp_path / name / file).read_text() for name in names}) == 1


def small_denoiser(tokenizer: CLIPTokenizer, _shape: Shape) -> train_module.Denoiser:
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=2,
        norm_num_groups=8,
    )
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=40,
    )
    return train_module.Denoiser(unet, Planner(CLIPTextModel(text), 8))


class Killed(Exception):
    """Stands in for a kill between two steps."""


def test_a_killed_run_resumes_to_the_same_weights(
    tokenizer: CLIPTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_module, "make_denoiser", small_denoiser)
    latents = (
        np.random.default_rng(0).standard_normal((8, LATENT_CHANNELS, 8, 8)).astype(np.float16)
    )
    scenes = training_scenes(8)

    def run(path: Path) -> dict[str, torch.Tensor]:
        settings: dict[str, Any] = {"batch": 4, "save_every": 0.0}
        ema = train_module.train(latents, scenes, tokenizer, path, Clock(steps=2), **settings)
        return ema.weights

    whole = run(tmp_path / "whole.pt")
    real, calls = train_module.velocity_loss, []

    def dies_on_the_second(*args: Any, **kwargs: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 2:
            raise Killed
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(train_module, "velocity_loss", dies_on_the_second)
        with pytest.raises(Killed):
            run(tmp_path / "cut.pt")
    resumed = run(tmp_path / "cut.pt")
    assert whole.keys() == resumed.keys()
    for name, weights in whole.items():
        torch.testing.assert_close(resumed[name], weights, rtol=0, atol=0)


def test_the_terminal_step_has_no_signal_and_still_counts() -> None:
    alphas = make_scheduler().alphas_cumprod
    assert alphas[-1] < 1e-6
    latents, ids = torch.ones(2, LATENT_CHANNELS, 8, 8), torch.zeros(2, 4, dtype=torch.long)

    def model(noisy: Tensor, steps: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(noisy), latents  # nothing of the velocity, all of the plan

    rng = torch.Generator().manual_seed(0)
    last = alphas[-1:].expand(1000)
    loss = train_module.velocity_loss(model, latents, ids, last, rng, half=False)
    assert loss == pytest.approx(1.0, abs=1e-3)


def test_the_rate_warms_up_and_ends_near_zero() -> None:
    rates = [learning_rate(Clock(100, step=s), 1.0, warmup=10) for s in (0, 9, 50, 100)]
    assert rates[0] < 0.11
    assert rates[1] > 0.9
    assert rates[3] == pytest.approx(0.02)
