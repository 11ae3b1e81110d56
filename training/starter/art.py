"""Object pictures: Iconify icon sets, read from unpacked npm packages, drawn with resvg."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import resvg_py
from PIL import Image

from training.starter.words import OBJECTS, Thing

CACHE = Path(__file__).parent / ".cache"

#: What the released weights were trained on. The other sets add styles at a cost: each object
#: must then be learned several times over, which a CPU run can't afford.
DEFAULT_SETS = ("fluent-emoji-flat",)
ALL_SETS = ("fluent-emoji-flat", "noto", "twemoji", "noto-v1", "emojione")

#: game-icons are one-colour silhouettes; a fill makes them readable on any ground.
_SILHOUETTE_FILL = "#a04a1c"

#: Emoji names differ a little between the sets.
_ALIASES = {
    "man-mage": ("mage", "person-mage"),
    "deciduous-tree": ("tree",),
    **{f"person-{name}": (name,) for name in ("vampire", "zombie", "fairy", "elf", "genie")},
}


def svg_document(body: str, width: float, height: float) -> str:
    """A whole SVG document around an Iconify icon body."""
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {width:g} {height:g}">{body}</svg>'
    )


def rasterise(svg: str, width: int, height: int) -> Image.Image:
    """Draw an SVG document at ``width`` x ``height`` pixels, RGBA."""
    png = resvg_py.svg_to_bytes(svg_string=svg, width=width, height=height, skip_system_fonts=True)
    return Image.open(io.BytesIO(bytes(png))).convert("RGBA")


class IconSet:
    """One Iconify ``icons.json``: names (and aliases) to SVG documents."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._icons: Mapping[str, Any] = data["icons"]
        self._aliases: Mapping[str, Any] = data.get("aliases", {})
        self._size = (float(data.get("width", 16)), float(data.get("height", 16)))

    @classmethod
    def load(cls, name: str, cache: Path = CACHE) -> IconSet:
        """Read set ``name`` from the folder that ``download`` filled."""
        return cls(json.loads((cache / name / "icons.json").read_text(encoding="utf-8")))

    def get(self, name: str) -> str | None:
        """The SVG of ``name``, following aliases, or None where the set lacks it."""
        seen = 0
        while name in self._aliases and seen < 8:
            name, seen = self._aliases[name]["parent"], seen + 1
        icon = self._icons.get(name)
        if icon is None:
            return None
        width, height = self._size
        return svg_document(icon["body"], icon.get("width", width), icon.get("height", height))


class Art:
    """The objects' pictures: for each object word one SVG per art set that has it."""

    def __init__(self, pictures: Mapping[str, tuple[str, ...]]) -> None:
        missing = [name for name in OBJECTS if not pictures.get(name)]
        if missing:
            raise LookupError(f"no picture for {', '.join(missing)}")
        self._pictures = dict(pictures)

    @classmethod
    def from_sets(cls, sets: Mapping[str, IconSet]) -> Art:
        """Collect each object's pictures; ``sets`` maps set names to icon sets."""
        return cls({name: tuple(_find(thing, sets)) for name, thing in OBJECTS.items()})

    @classmethod
    def load(cls, names: tuple[str, ...] = DEFAULT_SETS, cache: Path = CACHE) -> Art:
        """Read the named art sets, and game-icons for the words emoji lack."""
        return cls.from_sets({n: IconSet.load(n, cache) for n in (*names, "game-icons")})

    def sprite(self, name: str, variant: int, size: int) -> Image.Image:
        """Object ``name`` at ``size`` px, cropped to what is drawn, RGBA."""
        pictures = self._pictures[name]
        return _sprite(pictures[variant % len(pictures)], size)


@lru_cache(maxsize=4096)
def _sprite(svg: str, size: int) -> Image.Image:
    image = rasterise(svg, size, size)
    return image.crop(image.getbbox())


def _find(thing: Thing, sets: Mapping[str, IconSet]) -> list[str]:
    owner, _, name = thing.icon.rpartition(":")
    found: list[str] = []
    for set_name, icons in sets.items():
        if set_name != owner and (owner or set_name == "game-icons"):
            continue
        for candidate in (name, *_ALIASES.get(name, ())):
            svg = icons.get(candidate)
            if svg is not None:
                found.append(re.sub("currentColor", _SILHOUETTE_FILL, svg))
                break
    return found
