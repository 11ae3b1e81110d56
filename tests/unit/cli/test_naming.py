"""File names from prompts: readable, portable, and never one that is taken."""

from __future__ import annotations

import re
import tempfile
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.cli.naming import candidates, save_beside, slug
from sfumato.client import Image, ImageInfo


def picture(data: bytes, seed: int = 7) -> Image:
    info = ImageInfo(
        index=0,
        url="",
        media_type="image/png",
        width=8,
        height=8,
        size_bytes=1,
        sha256="",
        seed=seed,
    )
    return Image(info, data)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a castle, at night!", "a-castle-at-night"),
        ("Château à l'aube", "chateau-a-l-aube"),
        ("../../etc/passwd", "etc-passwd"),
        ("日本の城", "picture"),
        ("word " * 40, "word-word-word-word-word-word-word-word-word"),
        ("x" * 100, "x" * 48),
    ],
)
def test_a_prompt_becomes_a_name(prompt: str, expected: str) -> None:
    assert slug(prompt) == expected


@given(st.text())
def test_every_prompt_becomes_a_portable_name(prompt: str) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slug(prompt))
    assert len(slug(prompt)) <= 48


def test_taken_names_get_a_number() -> None:
    assert list(islice(candidates("a castle", 7, "png"), 3)) == [
        "a-castle-7.png",
        "a-castle-7-2.png",
        "a-castle-7-3.png",
    ]


@given(st.lists(st.tuples(st.sampled_from(["a", "a 7", "A!", "b"]), st.integers(0, 2)), max_size=8))
def test_no_picture_is_ever_written_over_another(pictures: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        written = {}
        for number, (prompt, seed) in enumerate(pictures):
            data = str(number).encode()
            written[save_beside(Path(folder), prompt, picture(data, seed))] = data
        assert len(written) == len(pictures)
        assert all(path.read_bytes() == data for path, data in written.items())
