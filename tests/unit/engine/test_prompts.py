from __future__ import annotations

from pathlib import Path

import pytest
from transformers.models.clip.tokenization_clip import CLIPTokenizer

from sfumato.core.errors import ModelUnusable
from sfumato.engine.prompts import ClipTokenizer
from tests.support.tiny_models import write_tokenizer

TEXTS = [
    "a photo of a cat",
    "",
    "  A  Dog's\n dinner, 1234 times...  ",
    "château fantôme, 城, 🏰 under the moon",
    "it's <|endoftext|> over",
    "supercalifragilisticexpialidocious" * 3,
]


def framed(tokenizer: ClipTokenizer, text: str, length: int) -> list[int]:
    return tokenizer.frame(tokenizer.encode(text), length)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tokenizer"
    write_tokenizer(folder, pad="!")
    return folder


def test_the_bundled_vocabulary_gives_clips_own_ids() -> None:
    """Ids that OpenAI's CLIP gives, start and end token included."""
    ids = framed(ClipTokenizer.bundled(), "a photo of a cat", 9)
    assert ids == [49406, 320, 1125, 539, 320, 2368, 49407, 49407, 49407]
    assert framed(ClipTokenizer.bundled(pad="!"), "cat", 5) == [49406, 2368, 49407, 0, 0]
    assert ClipTokenizer.bundled().comma == 267


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_those_of_transformers_tokenizer(folder: Path, text: str, tmp_path: Path) -> None:
    theirs = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    expected = theirs(text, padding="max_length", max_length=77, truncation=True).input_ids
    assert framed(ClipTokenizer.from_folder(folder), text, 77) == expected
    theirs.save_pretrained(tmp_path)  # as tokenizer.json, with a post-processor of its own
    assert framed(ClipTokenizer.from_folder(tmp_path), text, 77) == expected


def test_an_exclamation_mark_is_a_word_though_it_pads(folder: Path) -> None:
    """As in open_clip, which SD 2 was trained with; transformers takes it for padding."""
    assert framed(ClipTokenizer.from_folder(folder), "cat!", 6) == [49406, 2368, 256, 49407, 0, 0]


def test_a_broken_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelUnusable, match="no usable tokenizer"):
        ClipTokenizer.from_folder(tmp_path)
    write_tokenizer(tmp_path / "tokenizer", pad="<|nothing|>")
    with pytest.raises(ModelUnusable, match=r"pad_token '<\|nothing\|>'"):
        ClipTokenizer.from_folder(tmp_path / "tokenizer")
