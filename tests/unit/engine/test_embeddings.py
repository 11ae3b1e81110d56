"""Learned words are found in a text as words, and their vectors take the words' places."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from sfumato.core.errors import ModelRefused
from sfumato.core.models import ModelInfo, ModelKind, ModelLayout
from sfumato.engine.embeddings import Embedding, LearnedWords, read_embedding
from sfumato.engine.prompts import ClipTokenizer
from sfumato.engine.weights import Placement

CPU = Placement(torch.device("cpu"), torch.float32)
TOKENIZER = ClipTokenizer.bundled()


def embedding(name: str, *, vectors: int = 1, width: int = 4) -> Embedding:
    return Embedding(name, {"emb_params": torch.ones(vectors, width)}, f"digest of {name}")


def written(path: Path, tensors: dict[str, Tensor]) -> ModelInfo:
    save_file(tensors, path)
    return ModelInfo(path.stem, "", ModelLayout.CHECKPOINT, str(path), kind=ModelKind.EMBEDDING)


def test_a_word_is_as_many_ids_as_it_has_vectors_between_those_of_the_text() -> None:
    words = LearnedWords([embedding("Bad-Hands", vectors=3)], [4])
    ids = words.encode("a photo, bad-hands, no", TOKENIZER)
    first = next(iter(words.vectors))
    before, after = TOKENIZER.encode("a photo, "), TOKENIZER.encode(", no")
    assert ids == [*before, first, first + 1, first + 2, *after]
    assert words.lengths == {first: 3}


@pytest.mark.parametrize("text", ["", "a bad-handshake", "abad-hands", "bad hands", "bad-hand"])
def test_what_is_not_the_word_is_text(text: str) -> None:
    words = LearnedWords([embedding("bad-hands")], [4])
    assert words.encode(text, TOKENIZER) == TOKENIZER.encode(text)
    assert words.used(text) == ()


def test_of_two_names_that_begin_alike_the_longer_is_meant() -> None:
    words = LearnedWords([embedding("cat"), embedding("cat-2")], [4])
    assert words.used("a cat-2") == ("digest of cat-2",)
    assert words.used("a CAT, cat-2") == ("digest of cat", "digest of cat-2")


@given(
    st.lists(st.text(min_size=1, max_size=6).filter(str.strip), max_size=4, unique_by=str.casefold),
    st.text(max_size=30),
)
def test_any_text_is_read_with_any_words(names: list[str], text: str) -> None:
    words = LearnedWords([embedding(name, vectors=2) for name in names], [4])
    ids = words.encode(text, TOKENIZER)
    learned = [each for each in ids if each in words.vectors]
    assert len(learned) % 2 == 0
    assert bool(learned) == bool(words.used(text))


@pytest.mark.parametrize(
    "tensors",
    [
        {"emb_params": torch.ones(2, 4)},
        {"<cat-toy>": torch.ones(4)},
        {"emb_params": torch.ones(1, 4), "step": torch.ones(1)},
    ],
    ids=["a1111", "diffusers", "with its step"],
)
def test_every_program_that_writes_them_is_read(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    found = read_embedding(written(tmp_path / "cat.safetensors", tensors), CPU)
    (vectors,) = found.for_widths([4])
    assert vectors.shape[1] == 4
    assert found.size == vectors.nbytes


def test_sdxl_has_two_of_equal_length_and_its_refiner_reads_the_second(tmp_path: Path) -> None:
    both = {"clip_g": torch.ones(2, 6), "clip_l": torch.ones(2, 4)}
    found = read_embedding(written(tmp_path / "cat.safetensors", both), CPU)
    assert [each.shape[1] for each in found.for_widths([4, 6])] == [4, 6]
    assert [each.shape[1] for each in found.for_widths([6])] == [6]
    with pytest.raises(ModelRefused, match=r"4 and 6 numbers, .* reads 4 and 8"):
        LearnedWords([found], [4, 8])


@pytest.mark.parametrize(
    "tensors",
    [
        {"clip_g": torch.ones(2, 6), "clip_l": torch.ones(3, 4)},
        {"emb_params": torch.ones(0, 4)},
        {"emb_params": torch.ones(1, 1, 4)},
        {"one": torch.ones(4), "other": torch.ones(4)},
    ],
    ids=["unequal", "empty", "deep", "two"],
)
def test_what_is_no_embedding_is_refused_with_its_shapes(
    tmp_path: Path, tensors: dict[str, Tensor]
) -> None:
    with pytest.raises(ModelRefused, match=r"holds .*\("):
        read_embedding(written(tmp_path / "cat.safetensors", tensors), CPU)
