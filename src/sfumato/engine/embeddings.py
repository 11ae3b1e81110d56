"""Textual inversion: words that a text encoder was taught later, as vectors in a small file.

https://arxiv.org/abs/2208.01618. A word may stand for several vectors, each as a token of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from sfumato.core.errors import ModelRefused
from sfumato.core.models import ModelInfo
from sfumato.engine.weights import Placement, hash_of, read_tensors

#: SDXL's two encoders, in order, as the files name them.
_TWO = ("clip_l", "clip_g")
#: Ids of learned vectors begin here, beyond any vocabulary.
_FIRST_ID = 1 << 24


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """One file.

    Attributes:
        name: the word.
        vectors: (vectors, width) by the file's own names.
        digest: of its content, as :func:`sfumato.engine.weights.hash_of`.
    """

    name: str
    vectors: Mapping[str, Tensor]
    digest: str

    @property
    def size(self) -> int:
        return sum(tensor.nbytes for tensor in self.vectors.values())

    def for_widths(self, widths: Sequence[int]) -> tuple[Tensor, ...]:
        """The vectors for each text encoder, whose tokens are so wide. Of SDXL's two, its refiner
        has the second alone.

        Raises:
            ModelRefused: there are none of these widths.
        """
        names = _TWO if set(self.vectors) == {*_TWO} else tuple(self.vectors)
        found = tuple(self.vectors[name] for name in names[-len(widths) :])
        if tuple(tensor.shape[1] for tensor in found) != tuple(widths):
            has = " and ".join(str(tensor.shape[1]) for tensor in found)
            raise ModelRefused(
                f"The embedding {self.name!r} can't be used with this model: its vectors have "
                f"{has} numbers, and the model's text encoder reads "
                f"{' and '.join(map(str, widths))}. It was made for another family.",
                field="prompt",
            )
        return found


def read_embedding(info: ModelInfo, placement: Placement) -> Embedding:
    """The file, as A1111 (``emb_params``), diffusers (one tensor) or SDXL's trainers write it.

    Raises:
        ModelUnusable: the file is broken.
        ModelRefused: it is no embedding, or its two parts are of different lengths.
    """
    path = Path(info.path)
    tensors = {
        name: tensor.unsqueeze(0) if tensor.ndim == 1 else tensor
        for name, tensor in read_tensors([path]).items()
    }
    if "emb_params" in tensors:
        tensors = {"emb_params": tensors["emb_params"]}
    lengths = {tensor.shape[0] for tensor in tensors.values() if tensor.ndim == 2}
    known = len(tensors) == 1 or set(tensors) == {*_TWO}
    flat = all(tensor.ndim == 2 for tensor in tensors.values())
    if not known or not flat or len(lengths) != 1 or lengths == {0}:
        shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())
        raise ModelRefused(
            f"The file of the embedding {info.name!r} holds {shapes or 'nothing'}, where vectors "
            "of one text encoder, or as many of each of two, should be.",
            field="prompt",
        )
    # Copies: what is read of a file is the file itself, which others may write to.
    placed = {
        name: tensor.to(placement.device, placement.dtype, copy=True)
        for name, tensor in tensors.items()
    }
    return Embedding(info.name, placed, hash_of([path]))


class Encodes(Protocol):
    """A tokenizer."""

    def encode(self, text: str) -> list[int]: ...


class LearnedWords:
    """The words of some embeddings, for one model's text encoders.

    Attributes:
        vectors: by an id that no vocabulary has, a vector for each text encoder.
        lengths: by the id of a word's first vector, how many it has; they follow each other.

    Raises:
        ModelRefused: an embedding is of another width.
    """

    def __init__(self, embeddings: Sequence[Embedding] = (), widths: Sequence[int] = ()) -> None:
        self.vectors: dict[int, tuple[Tensor, ...]] = {}
        self.lengths: dict[int, int] = {}
        self._ids: dict[str, tuple[int, ...]] = {}
        self._digests = {each.name.casefold(): each.digest for each in embeddings}
        for each in embeddings:
            rows = list(zip(*each.for_widths(widths), strict=True))
            first = _FIRST_ID + len(self.vectors)
            self._ids[each.name.casefold()] = tuple(range(first, first + len(rows)))
            self.vectors |= dict(enumerate(rows, first))
            self.lengths[first] = len(rows)
        # Of two names that begin alike, the longer.
        names = sorted(map(re.escape, self._ids), key=len, reverse=True)
        self._pattern = re.compile(rf"(?<!\w)(?:{'|'.join(names)})(?!\w)", re.IGNORECASE)

    def encode(self, text: str, tokenizer: Encodes) -> list[int]:
        """The ids of a text, those of learned words in their places."""
        ids: list[int] = []
        for part in self._parts(text):
            learned = self._ids.get(part.casefold())
            ids += tokenizer.encode(part) if learned is None else learned
        return ids

    def used(self, text: str) -> tuple[str, ...]:
        """The digests of the embeddings whose words the text has."""
        parts = {part.casefold() for part in self._parts(text)}
        return tuple(digest for name, digest in self._digests.items() if name in parts)

    def _parts(self, text: str) -> Iterator[str]:
        """Learned words, and the texts between them."""
        if not self._ids:
            yield text
            return
        end = 0
        for match in self._pattern.finditer(text):
            yield text[end : match.start()]
            yield match.group()
            end = match.end()
        yield text[end:]
