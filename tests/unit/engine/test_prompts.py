from __future__ import annotations

from pathlib import Path

import pytest
from transformers.models.clip.tokenization_clip import CLIPTokenizer

from sfumato.core.errors import ModelUnusable
from sfumato.engine.prompts import ClipTokenizer, EncodedPrompt
from tests.support.tiny_models import write_tokenizer

TEXTS = [
    "a photo of a cat",
    "",
    "  A  Dog's\n dinner, 1234 times...  ",
    "château fantôme, 城, 🏰 under the moon",
    "it's <|endoftext|> over",
    "supercalifragilisticexpialidocious" * 3,
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tokenizer"
    write_tokenizer(folder, pad="!")
    return folder


def test_the_bundled_vocabulary_gives_clips_own_ids() -> None:
    """Ids that OpenAI's CLIP gives, start and end token included."""
    ids, cut = ClipTokenizer.bundled().encode("a photo of a cat", 9)
    assert ids == [49406, 320, 1125, 539, 320, 2368, 49407, 49407, 49407]
    assert cut == ()
    padded, _ = ClipTokenizer.bundled(pad="!").encode("cat", 5)
    assert padded == [49406, 2368, 49407, 0, 0]


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_those_of_transformers_tokenizer(folder: Path, text: str, tmp_path: Path) -> None:
    theirs = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    expected = theirs(text, padding="max_length", max_length=77, truncation=True).input_ids
    assert ClipTokenizer.from_folder(folder).encode(text, 77)[0] == expected
    theirs.save_pretrained(tmp_path)  # as tokenizer.json, with a post-processor of its own
    assert ClipTokenizer.from_folder(tmp_path).encode(text, 77)[0] == expected


def test_an_exclamation_mark_is_a_word_though_it_pads(folder: Path) -> None:
    """As in open_clip, which SD 2 was trained with; transformers takes it for padding."""
    ids, _ = ClipTokenizer.from_folder(folder).encode("cat!", 6)
    assert ids == [49406, 2368, 256, 49407, 0, 0]


def test_a_long_prompt_is_cut_at_the_models_length_and_the_words_are_told() -> None:
    tokenizer = ClipTokenizer.bundled()
    ids, cut = tokenizer.encode("one two three, four five", 6)
    assert len(ids) == 6
    assert ids[-1] == 49407
    assert cut == ("four", "five")
    # A word of which a part fitted was not understood either.
    assert tokenizer.encode("cat supercalifragilistic", 4)[1] == ("supercalifragilistic",)


def test_a_long_cut_is_told_in_short() -> None:
    note = EncodedPrompt(None, tuple("abcdefghijklmnop")).note("prompt")  # type: ignore[arg-type]
    assert note == "the prompt's last 16 words were cut: a b c d e f g h i j k l …"


def test_a_broken_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelUnusable, match="no usable tokenizer"):
        ClipTokenizer.from_folder(tmp_path)
    write_tokenizer(tmp_path / "tokenizer", pad="<|nothing|>")
    with pytest.raises(ModelUnusable, match=r"pad_token '<\|nothing\|>'"):
        ClipTokenizer.from_folder(tmp_path / "tokenizer")
