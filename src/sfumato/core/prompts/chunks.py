"""Tokens in chunks as long as a text encoder reads at once, so that nothing of a prompt is cut."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sfumato.core.prompts.emphasis import Break

#: A chunk that is full ends at its last comma, if that is among its last so many tokens.
COMMA_REACH = 20


@dataclass(frozen=True, slots=True)
class Chunk:
    """Token ids and their weights, at most as many as fit; start, end and padding not counted."""

    ids: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()


def split_into_chunks(
    runs: Iterable[tuple[Sequence[int], float] | Break],
    *,
    room: int,
    comma: int | None,
    lengths: Mapping[int, int] | None = None,
) -> list[Chunk]:
    """Fill chunks of ``room`` tokens, at least one chunk.

    What follows a comma near a full chunk's end moves to the next, so that a phrase stays whole.

    Args:
        runs: token ids with their weight, in the prompt's order.
        comma: the id of a comma that ends a word; None: the vocabulary has none.
        lengths: ids that begin a word of so many, which stays in one chunk if it fits into one.
    """
    chunks: list[Chunk] = []
    tokens: list[tuple[int, float]] = []
    last_comma = -1

    def close(end: int) -> None:
        nonlocal tokens, last_comma
        chunks.append(Chunk(*map(tuple, zip(*tokens[:end], strict=True))) if end else Chunk())
        tokens, last_comma = tokens[end:], -1

    for run in runs:
        if isinstance(run, Break):
            close(len(tokens))
            continue
        ids, weight = run
        for token in ids:
            if token == comma:
                last_comma = len(tokens)
            elif len(tokens) == room and last_comma >= 0 and room - last_comma <= COMMA_REACH:
                close(last_comma + 1)
            length = 1 if lengths is None else lengths.get(token, 1)
            if len(tokens) == room or len(tokens) + length > room >= length:
                close(len(tokens))
            tokens.append((token, weight))
    if tokens or not chunks:
        close(len(tokens))
    return chunks
