"""Names of the files that ``sfumato generate`` writes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sfumato.client import Image

_MAX_SLUG = 48


def slug(prompt: str) -> str:
    """The prompt's words as a file name: ``a castle, at night!`` is ``a-castle-at-night``."""
    plain = unicodedata.normalize("NFKD", prompt).encode("ascii", "ignore").decode().lower()
    joined = "-".join(re.findall(r"[a-z0-9]+", plain))
    if len(joined) > _MAX_SLUG:
        joined = joined[:_MAX_SLUG].rpartition("-")[0] or joined[:_MAX_SLUG]
    return joined or "picture"


def candidates(prompt: str, seed: int, extension: str) -> Iterator[str]:
    """``a-castle-7.png``, then ``a-castle-7-2.png``, ``a-castle-7-3.png`` and so on."""
    stem = f"{slug(prompt)}-{seed}"
    yield f"{stem}.{extension}"
    for number in count(2):
        yield f"{stem}-{number}.{extension}"


def save_beside(folder: Path, prompt: str, image: Image) -> Path:
    """Write a picture under the first of its names that is free.

    Raises:
        OSError: as the disk fails; then no half of a file is left.
    """
    for name in candidates(prompt, image.seed, image.extension):
        try:
            return image.save(folder / name)
        except FileExistsError:
            continue
    raise AssertionError  # pragma: no cover - there is always another name
