"""Whose art a training set was drawn from, as a model's card and its ATTRIBUTION.md tell it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from training.starter.words import OBJECTS


class Credit(NamedTuple):
    """An art set: what it is, whose, and under which licence."""

    title: str
    home: str
    by: str
    licence: str
    terms: str
    package: str


CREDITS: dict[str, Credit] = {
    "fluent-emoji-flat": Credit(
        "Fluent Emoji, flat style",
        "https://github.com/microsoft/fluentui-emoji",
        "Microsoft Corporation",
        "MIT",
        "https://github.com/microsoft/fluentui-emoji/blob/main/LICENSE",
        "@iconify-json/fluent-emoji-flat 1.2.6",
    ),
    "noto": Credit(
        "Noto Emoji",
        "https://github.com/googlefonts/noto-emoji",
        "Google Inc.",
        "Apache-2.0",
        "https://github.com/googlefonts/noto-emoji/blob/main/svg/LICENSE",
        "@iconify-json/noto 1.2.9",
    ),
    "noto-v1": Credit(
        "Noto Emoji, version 1",
        "https://github.com/googlefonts/noto-emoji",
        "Google Inc.",
        "Apache-2.0",
        "https://github.com/googlefonts/noto-emoji/blob/main/svg/LICENSE",
        "@iconify-json/noto-v1 1.2.5",
    ),
    "twemoji": Credit(
        "Twemoji",
        "https://github.com/jdecked/twemoji",
        "Twitter, Inc. and other contributors",
        "CC BY 4.0",
        "https://creativecommons.org/licenses/by/4.0/",
        "@iconify-json/twemoji 1.2.5",
    ),
    "emojione": Credit(
        "EmojiOne 2",
        "https://github.com/EmojiTwo/emojitwo",
        "EmojiOne",
        "CC BY 4.0",
        "https://creativecommons.org/licenses/by/4.0/",
        "@iconify-json/emojione 1.2.3",
    ),
    "game-icons": Credit(
        "Game-icons.net",
        "https://game-icons.net",
        "the Game-icons.net contributors (Lorc, Delapouite and others)",
        "CC BY 3.0",
        "https://creativecommons.org/licenses/by/3.0/",
        "@iconify-json/game-icons 1.2.4",
    ),
}

_MIT = """MIT License

Copyright (c) Microsoft Corporation.

Permission is hereby granted, free of charge, to any person obtaining a copy of this software
and associated documentation files (the "Software"), to deal in the Software without
restriction, including without limitation the rights to use, copy, modify, merge, publish,
distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the
Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or
substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING
BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM,
DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def _uses(name: str) -> str:
    """What a set's art became in the pictures."""
    own = {thing.words[0]: thing.icon for thing in OBJECTS.values() if thing.icon.startswith(name)}
    if name != "game-icons":
        return "objects"
    icons = (f"{word} ({icon.partition(':')[2]})" for word, icon in own.items())
    return "filled with one colour: " + ", ".join(icons)


def lines(sets: Iterable[str]) -> list[str]:
    """``attribution`` of a model's card: a line for each set, and for game-icons."""
    found = []
    for name in dict.fromkeys((*sets, "game-icons")):
        credit = CREDITS[name]
        found.append(
            f"{credit.title} by {credit.by}, under {credit.licence}: {_uses(name)} ({credit.home})"
        )
    return found


def document(sets: Iterable[str]) -> str:
    """ATTRIBUTION.md of weights that were trained on these sets."""
    used = list(dict.fromkeys((*sets, "game-icons")))
    rows = "".join(
        f"| [{c.title}]({c.home}), in the npm package `{c.package}` | {c.by} "
        f"| [{c.licence}]({c.terms}) | {_uses(name)} |\n"
        for name, c in ((name, CREDITS[name]) for name in used)
    )
    text = f"""# Attribution

The starter model's weights were trained on pictures composed by this project from the art
below. None of the art itself is in this folder.

| art | by | licence | used for |
|---|---|---|---|
{rows}
Changes made: the pictures were scaled, tinted to the light of a scene, in part dyed in another
colour and redrawn in another style, and placed on backgrounds drawn by
`training/starter/scenery.py`, which is this project's own work.
"""
    if "fluent-emoji-flat" in used:
        text += f"\n## Fluent Emoji's licence\n\n{_MIT}"
    return text
