"""A model's text encoders: from tokens to the hidden states that steer its network."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers.models.clip.modeling_clip import CLIPTextModel

Ids = tuple[int, ...]


class Framer(Protocol):
    """What a text encoder needs of its tokenizer."""

    def frame(self, ids: Sequence[int], length: int) -> list[int]:
        """Exactly ``length`` ids: start, the text's, end, padding."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """One chunk, read by one text encoder.

    Attributes:
        hidden: (length, width).
        pooled: (projected width,), the whole chunk; None from an encoder without a projection.
    """

    hidden: Tensor
    pooled: Tensor | None


@dataclass(frozen=True, slots=True, eq=False)
class TextEncoder:
    """One of the text encoders of a model.

    Attributes:
        tokenizer: frames the ids. Encoders of one model share a vocabulary and differ in what they
            pad with.
        network: a ``CLIPTextModel``.
        length: tokens of a chunk, start and end included.
        layer: the layer that the denoiser was trained on, counted from the last, which is 1.
        normed: whether it was trained on that layer after the network's final norm.
        projection: (projected width, width), of the last layer's state at a text's end.
    """

    tokenizer: Framer
    network: CLIPTextModel
    length: int
    layer: int = 1
    normed: bool = True
    projection: Tensor | None = None

    @property
    def layers(self) -> int:
        count: int = self.network.config.num_hidden_layers
        return count

    @property
    def width(self) -> int:
        width: int = self.network.config.hidden_size
        return width

    @property
    def device(self) -> torch.device:
        device: torch.device = self.network.device
        return device

    def read(
        self, chunks: Sequence[Ids], clip_skip: int, learned: Mapping[int, Tensor] | None = None
    ) -> list[Reading]:
        """The chunks, of at most ``length - 2`` ids each, in one batch.

        Args:
            learned: ids that stand for vectors (width,) in place of words of the vocabulary.
            clip_skip: which layer to take, counted from the last. None later than ``layer``: SDXL
                takes the last but one for 1 and 2 alike, as A1111 and ComfyUI do.
        """
        framed = [self.tokenizer.frame(ids, self.length) for ids in chunks]
        layer = max(self.layer, clip_skip)
        with self._with_vectors(framed, learned or {}) as batch:
            if layer == 1 and self.normed:
                last = hidden = self.network(input_ids=batch).last_hidden_state
            else:
                output = self.network(input_ids=batch, output_hidden_states=True)
                last, hidden = output.last_hidden_state, output.hidden_states[-layer]
                if self.normed:
                    # transformers 5 dropped a level.
                    network = getattr(self.network, "text_model", self.network)
                    hidden = network.final_layer_norm(hidden)
        pooled: list[Tensor | None] = [None] * len(chunks)
        if self.projection is not None:
            # After the start and the text. Not the greatest id, as CLIP finds it: words that were
            # learned later have greater ones.
            ends = [len(ids) + 1 for ids in chunks]
            pooled = list((last[range(len(chunks)), ends] @ self.projection.T).unbind())
        # Clones: a view would keep the whole batch in memory.
        return [
            Reading(row.clone(), None if whole is None else whole.clone())
            for row, whole in zip(hidden, pooled, strict=True)
        ]

    @contextlib.contextmanager
    def _with_vectors(
        self, framed: Sequence[Sequence[int]], learned: Mapping[int, Tensor]
    ) -> Iterator[Tensor]:
        """The ids as a batch, in which any id stands for a learned one; its vector takes the place
        of that id's for as long as this lasts."""
        ids = [[0 if each in learned else each for each in row] for row in framed]
        batch = torch.tensor(ids, device=self.device)
        rows = [n for n, row in enumerate(framed) for each in row if each in learned]
        if not rows:
            yield batch
            return
        places = [n for row in framed for n, each in enumerate(row) if each in learned]
        vectors = torch.stack([learned[each] for row in framed for each in row if each in learned])

        def put(_layer: torch.nn.Module, _given: object, words: Tensor) -> Tensor:
            words[rows, places] = vectors.to(words.dtype)
            return words

        handle = self.network.get_input_embeddings().register_forward_hook(put)
        try:
            yield batch
        finally:
            handle.remove()
