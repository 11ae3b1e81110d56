"""How a terminal is told apart, and what it is given."""

from __future__ import annotations

import base64
import io
import re

import pytest
from PIL import Image

from sfumato.cli.previews import Preview, detected, placed, previews
from sfumato.cli.progress import Stage
from sfumato.settings import TerminalVariables
from tests.support.png import png


def variables(**said: str) -> TerminalVariables:
    nothing = dict.fromkeys(TerminalVariables.model_fields, "")
    return TerminalVariables(**{**nothing, **said})


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({"term": "xterm-kitty"}, Preview.KITTY),
        ({"term": "xterm-256color", "kitty_window_id": "1"}, Preview.KITTY),
        ({"term": "xterm-ghostty"}, Preview.KITTY),
        ({"term": "xterm-256color", "term_program": "iTerm.app"}, Preview.ITERM),
        ({"term": "xterm-256color", "lc_terminal": "iTerm2"}, Preview.ITERM),
        ({"term": "xterm-256color", "term_program": "WezTerm"}, Preview.ITERM),
        ({"term": "xterm-256color"}, Preview.NONE),
        ({"term": "xterm-256color", "term_program": "vscode"}, Preview.NONE),
        ({"term": "screen-256color", "term_program": "iTerm.app"}, Preview.NONE),
        ({"term": "xterm-kitty", "tmux": "default,1,0"}, Preview.NONE),
        ({}, Preview.NONE),
    ],
)
def test_a_terminal_is_known_by_what_it_says(said: dict[str, str], kind: Preview) -> None:
    assert detected(variables(**said)) is kind


def test_kitty_gets_a_picture_in_pieces_and_answers_nothing() -> None:
    picture = bytes(range(256)) * 40
    told = placed(Preview.KITTY, picture, 12)
    pieces = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", told)
    assert all("q=2" in keys and len(text) <= 4096 for keys, text in pieces)
    assert [keys[-3:] for keys, _ in pieces] == ["m=1", "m=1", "m=1", "m=0"]
    assert pieces[0][0].startswith("a=T,f=100,")
    assert base64.b64decode("".join(text for _, text in pieces)) == picture


def shown(kind: Preview, *pictures: bytes, media_type: str = "image/png") -> str:
    stream = io.StringIO()
    with previews(kind, stream) as display:
        for number, picture in enumerate(pictures, 1):
            url = f"data:{media_type};base64,{base64.b64encode(picture).decode()}"
            display.show(Stage("denoising", number, 9, preview=url))
    return stream.getvalue()


def test_a_webp_becomes_a_png_and_what_is_none_is_left_out() -> None:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "WEBP")
    told = shown(Preview.ITERM, file.getvalue(), media_type="image/webp")
    found = re.search(r"doNotMoveCursor=1:([^\x07]+)\x07", told)
    assert found is not None
    assert base64.b64decode(found[1]).startswith(b"\x89PNG")
    assert "1337" not in shown(Preview.ITERM, b"no picture")


def test_room_is_made_once_and_all_of_it_is_cleared() -> None:
    told = shown(Preview.KITTY, png(8, 8), png(16, 8))
    assert told.count("a=T") == 2
    assert told.count("\n" * 12) == 1
    assert "denoising 2/9" in told
    assert told.endswith("\r\x1b[J")
    assert "a=d,d=I" in told[told.rindex("denoising") :]
