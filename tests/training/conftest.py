"""Art of no one's, so that training is tested without a download."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from training.starter.art import ALL_SETS
from training.starter.words import OBJECTS

COLOURS = ("#e02020", "#20a040", "#2040e0", "#e0c020", "#a020c0")
SHAPES = ("M2 2h12v12H2z", "M8 1l7 14H1z", "M8 1l7 7-7 7-7-7z")


@pytest.fixture(scope="session")
def art_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every set, with a coloured shape for each object."""
    folder = tmp_path_factory.mktemp("art")
    names = [thing.icon.rpartition(":")[2] for thing in OBJECTS.values()]
    icons = {
        name: {"body": f'<path fill="{COLOURS[i % 5]}" d="{SHAPES[i % 3]}"/>'}
        for i, name in enumerate(names)
    }
    text = json.dumps({"icons": icons, "width": 16, "height": 16})
    for name in (*ALL_SETS, "game-icons"):
        (folder / name).mkdir()
        (folder / name / "icons.json").write_text(text)
    return folder
