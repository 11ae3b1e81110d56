"""Telling what is wrong with a field of ours in the words of a client that never heard of it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping

from sfumato.core.errors import InvalidRequest, NotFound


@contextlib.contextmanager
def in_their_words(names: Mapping[str, str]) -> Iterator[None]:
    """Within it, what is wrong with a field of ours is told of the client's own.

    Args:
        names: what the client calls our fields, by our dotted names.
    """
    try:
        yield
    except (InvalidRequest, NotFound) as error:
        ours = error.field or ""
        theirs = names.get(ours)
        if theirs is None:
            raise
        # A field whose name is a plain word, as "model", is meant only where the sentence begins.
        plain = ours.isalpha() and not error.message.startswith(ours)
        message = error.message if plain else _replaced(error.message, ours, theirs)
        raise type(error)(message, field=theirs, accepted=error.accepted) from None


def _replaced(text: str, ours: str, theirs: str) -> str:
    return re.sub(rf"(?<![\w.]){re.escape(ours)}(?!\w)", lambda _: theirs, text)
