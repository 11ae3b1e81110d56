"""A learned word is read as words of the vocabulary with its vectors would be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from sfumato.core.errors import ModelRefused
from sfumato.core.models import ModelInfo, ModelKind, ModelLayout
from sfumato.core.ports import ImageTask
from sfumato.engine.engine import DiffusionEngine
from sfumato.engine.prompts import ClipTokenizer
from tests.support.rendering import task_of
from tests.support.tiny_models import TinyModel, tiny_info

#: Words of one token each.
STANDS_FOR = ("zebra", "lion", "tiger")


def embedding(folder: Path, vectors: Tensor, name: str = "my-cat") -> ModelInfo:
    path = folder / f"{name}.safetensors"
    save_file({"emb_params": vectors}, path)
    return ModelInfo(name, "", ModelLayout.CHECKPOINT, str(path), kind=ModelKind.EMBEDDING)


def tokens(engine: DiffusionEngine, task: ImageTask, *extras: ModelInfo) -> Tensor:
    slot = engine.admit(replace(task, extras=extras))
    return slot.conditioning.prompts[0].at(0).tokens


def taught(model: TinyModel, folder: Path, vectors: Tensor) -> ModelInfo:
    """A copy in which words of the vocabulary have these vectors."""
    tokenizer = ClipTokenizer.bundled()
    ids = [each for word in STANDS_FOR for each in tokenizer.encode(word)]
    assert len(ids) == len(vectors)
    words = model.text.get_input_embeddings().weight
    before = words.detach().clone()
    for part in ("tokenizer", "scheduler", "unet", "vae"):
        (folder / part).mkdir(parents=True)
        for file in (model.path / part).iterdir():
            (folder / part / file.name).write_bytes(file.read_bytes())
    (folder / "model_index.json").write_bytes((model.path / "model_index.json").read_bytes())
    with torch.no_grad():
        words[ids] = vectors
        model.text.save_pretrained(folder / "text_encoder")
        words.copy_(before)
    return tiny_info(folder, model.info.family)


@pytest.mark.parametrize("prompt", ["a {} at night", "{}", "a (very {}:1.3), [sea]", "{} and {}"])
def test_it_is_read_as_its_vectors_in_the_vocabulary_would_be(
    engine: DiffusionEngine, sd1: TinyModel, tmp_path: Path, prompt: str
) -> None:
    vectors = torch.randn(3, 64, generator=torch.Generator().manual_seed(1))
    copy = taught(sd1, tmp_path / "taught", vectors)
    engine.load(copy)
    places = prompt.count("{}")
    wanted = tokens(engine, task_of(copy, prompt.format(*[" ".join(STANDS_FOR)] * places)))
    info = embedding(tmp_path, vectors)
    found = tokens(engine, task_of(sd1.info, prompt.format(*["My-Cat"] * places)), info)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_without_the_file_or_with_another_the_word_is_read_anew(
    engine: DiffusionEngine, sd1: TinyModel, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    task = task_of(sd1.info, "a my-cat")
    plain = tokens(engine, task)
    one = embedding(tmp_path, torch.full((2, 64), 0.5))
    other = embedding(tmp_path / "other", torch.full((2, 64), -0.5))
    read = [tokens(engine, task, *extras) for extras in ((one,), (other,), (), (one,))]
    assert not torch.equal(read[0], plain)
    assert not torch.equal(read[1], read[0])
    assert torch.equal(read[2], plain)
    assert torch.equal(read[3], read[0])


def test_vectors_count_as_tokens_and_stay_in_one_chunk(
    engine: DiffusionEngine, sd1: TinyModel, tmp_path: Path
) -> None:
    info = embedding(tmp_path, torch.ones(40, 64))
    length = tokens(engine, task_of(sd1.info)).shape[0]
    assert tokens(engine, task_of(sd1.info, "my-cat"), info).shape[0] == length
    assert tokens(engine, task_of(sd1.info, "my-cat my-cat"), info).shape[0] == 2 * length
    assert tokens(engine, task_of(sd1.info, "my-cat " * 3), info).shape[0] == 3 * length


def test_one_of_another_width_is_refused_with_both_widths(
    engine: DiffusionEngine, sd1: TinyModel, tmp_path: Path
) -> None:
    info = embedding(tmp_path, torch.ones(2, 96))
    with pytest.raises(ModelRefused, match=r"have 96 numbers, .* reads 64\."):
        tokens(engine, task_of(sd1.info, "my-cat"), info)
