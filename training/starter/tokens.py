"""The tokenizer: a CLIP BPE whose merges are learned from the caption grammar."""

from __future__ import annotations

import json
import random
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from training.starter.captions import caption, vocabulary
from training.starter.models import MAX_TOKENS
from training.starter.world import sample_scene

START, END = "<|startoftext|>", "<|endoftext|>"


def corpus(count: int, seed: int) -> list[str]:
    """Captions to learn merges from; the vocabulary rides along so plurals get their tokens."""
    rng = random.Random(seed)
    return [caption(sample_scene(rng), rng, empty=0) for _ in range(count)] + vocabulary() * 3


def train_tokenizer(folder: Path, *, captions: int = 20_000, seed: int = 0) -> CLIPTokenizer:
    """Learn merges and write ``vocab.json`` and ``merges.txt`` into ``folder``.

    All 256 bytes are in the vocabulary, bare and as the end of a word, so that any text
    becomes tokens, if not ones the model has seen.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=4096,
        min_frequency=3,
        initial_alphabet=alphabet,
        # Equal counts are decided by a token's number, and the trainer would number these in the
        # order of a hash map.
        special_tokens=[letter + "</w>" for letter in alphabet],
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    bpe.train_from_iterator(corpus(captions, seed), trainer)
    learned = json.loads(bpe.to_str())["model"]
    merges = [tuple(pair) for pair in learned["merges"]]
    words = [*alphabet, *(letter + "</w>" for letter in alphabet)]
    words += ["".join(pair) for pair in merges]
    vocab = {word: index for index, word in enumerate(dict.fromkeys([*words, START, END]))}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return load_tokenizer(folder)


def tokenizer_of(folder: Path, *, seed: int = 0) -> CLIPTokenizer:
    """The tokenizer kept in ``folder``, trained and kept there the first time."""
    if (folder / "merges.txt").exists():
        return load_tokenizer(folder)
    return train_tokenizer(folder, seed=seed)


def load_tokenizer(folder: Path) -> CLIPTokenizer:
    """The tokenizer whose two files are in ``folder``."""
    return CLIPTokenizer(
        vocab=str(folder / "vocab.json"),
        merges=str(folder / "merges.txt"),
        bos_token=START,
        eos_token=END,
        unk_token=END,
        pad_token=END,
        model_max_length=MAX_TOKENS,
    )
