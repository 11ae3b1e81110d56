"""``sfumato reproduce`` as a person runs it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin
from typer.testing import CliRunner

from sfumato.cli.main import app
from sfumato.core.errors import InvalidRequest
from sfumato.core.inputs import read_input
from sfumato.core.recipe import Recipe
from tests.support.service import PATIENCE


def sfumato(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """A command with a private service that draws patterns."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SFUMATO_")}
    done = subprocess.run(
        [sys.executable, "-m", "sfumato", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        timeout=PATIENCE,
        env={
            **environment,
            "SFUMATO_DEVICE": "fake",
            "SFUMATO_GRACE": "0.2",
            "SFUMATO_DATA": str(folder / "data"),
            "PYTHONPATH": str(Path.cwd()),
        },
    )
    return done.returncode, done.stdout, done.stderr


def saved(path: Path, pixels: Image.Image, recipe: str | None) -> Path:
    text = PngImagePlugin.PngInfo()
    if recipe is not None:
        text.add_itxt("sfumato", recipe)
    pixels.save(path, "PNG", pnginfo=text)
    return path


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    status, _, err = sfumato(folder, "generate", "a castle", "--seed=7", "--sampler=heun")
    assert status == 0, err
    return folder / "a-castle-7.png"


def recipe_of(picture: Path) -> Recipe:
    with Image.open(picture) as image:
        return Recipe.from_json(image.text["sfumato"])  # type: ignore[attr-defined]


def test_a_picture_is_drawn_again_and_found_the_same(drawn: Path) -> None:
    out = drawn.with_name("again.png")
    status, said, err = sfumato(drawn.parent, "reproduce", drawn.name, "--out", out.name)
    assert (status, said) == (0, "the same pixels\n"), err
    assert out.read_bytes() == drawn.read_bytes()
    status, _, err = sfumato(drawn.parent, "reproduce", drawn.name, "--out", out.name)
    assert status == 1
    assert "again.png" in err


def test_other_pixels_are_told_with_what_may_explain_them(drawn: Path) -> None:
    recipe = replace(recipe_of(drawn), version="0.0.1", engine={"threads": 7})
    with Image.open(drawn) as image:
        image.putpixel((0, 0), tuple(255 - value for value in image.getpixel((0, 0))))  # type: ignore[union-attr]
        other = saved(drawn.with_name("other.png"), image, recipe.as_json())
    status, said, _ = sfumato(drawn.parent, "reproduce", other.name)
    assert status == 1
    lines = said.splitlines()
    assert lines[0].startswith("differs by at most ")
    assert "/255 in 0.00153 % of the pixels" in lines[0]
    assert lines[1].startswith("note: it was drawn by Sfumato 0.0.1, and this is ")
    assert lines[2] == "note: threads was 7, and is not told"
    status, said, _ = sfumato(drawn.parent, "reproduce", other.name, "--json")
    assert (status, json.loads(said)["same"]) == (1, False)


def test_other_weights_are_named(drawn: Path) -> None:
    with Image.open(drawn) as image:
        recipe = replace(recipe_of(drawn), model_hash="ab" * 32)
        other = saved(drawn.with_name("weights.png"), image, recipe.as_json())
    status, _, err = sfumato(drawn.parent, "reproduce", other.name)
    assert status == 1
    assert "the model 'starter' has other weights here: fake, and not ababababab" in err


def test_the_very_pictures_it_was_drawn_from_make_it_again(tmp_path: Path) -> None:
    for name, grey in (("photo", 90), ("mask", 255)):
        Image.new("RGB", (64, 48), (grey,) * 3).save(tmp_path / f"{name}.png")
    edits = ("--init-image=photo.png", "--mask=mask.png", "--variation=5:0.25", "--seed=7")
    status, _, err = sfumato(tmp_path, "generate", "a sea", *edits, "--determinism=strict")
    assert status == 0, err
    given = ("--mask=mask.png", "--init-image=photo.png")
    status, said, err = sfumato(tmp_path, "reproduce", "a-sea-7.png", *given)
    assert (status, said) == (0, "the same pixels\n"), err


# -- what is found out before anything is drawn ----------------------------------------------------


def refused(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, ["reproduce", *map(str, arguments)])
    assert isinstance(result.exception, InvalidRequest), result.output
    return f"{result.exception.message} {result.exception.accepted}"


def test_what_holds_no_recipe_is_refused(tmp_path: Path) -> None:
    pixels = Image.new("RGB", (8, 8))
    assert "no recipe: another program" in refused(saved(tmp_path / "a.png", pixels, None))
    assert "recipe can't be read" in refused(saved(tmp_path / "b.png", pixels, '{"prompt": 5}'))
    (tmp_path / "c.png").write_bytes(b"\x89PNG\r\n\x1a\nand no more")
    assert "c.png is no picture that can be read" in refused(tmp_path / "c.png")
    for suffix in ("jpeg", "webp"):
        pixels.save(tmp_path / f"d.{suffix}")
        assert "Only PNG keeps every pixel" in refused(tmp_path / f"d.{suffix}")


def test_the_pictures_it_was_drawn_from_are_asked_for_by_their_digest(
    drawn: Path, tmp_path: Path
) -> None:
    file = io.BytesIO()
    Image.new("RGB", (64, 48)).save(file, "PNG")
    image = read_input(file.getvalue(), field="init_image")
    recipe = replace(recipe_of(drawn), init_image=image, strength=0.5)
    picture = saved(tmp_path / "p.png", Image.new("RGB", (64, 48)), recipe.as_json())
    asked = refused(picture)
    assert "64x48 pixels" in asked
    assert "--init-image" in asked
    assert image.sha256 in asked
    assert image.sha256 in refused(picture, "--init-image", picture)
