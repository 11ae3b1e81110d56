"""Previews of a picture while it is drawn, in terminals that show pictures.

A picture stands in rows of its own above a line that tells the progress, and both are gone when the
job is. No mode of the terminal is changed, so there is nothing to restore but these rows.
"""

from __future__ import annotations

import base64
import binascii
import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from typing import TYPE_CHECKING, TextIO

from sfumato.cli.output import printable
from sfumato.cli.progress import Display, Stage

if TYPE_CHECKING:
    from sfumato.settings import TerminalVariables

_ROWS = 12
#: Our pictures' number among those of a terminal; each new one takes the place of the last.
_IMAGE = 83_707
#: Bytes of one of kitty's commands at most.
_CHUNK = 4096
_SAVE, _RESTORE, _CLEAR_LINE, _CLEAR_BELOW = "\x1b7", "\x1b8", "\x1b[2K", "\x1b[J"
_PNG = b"\x89PNG\r\n\x1a\n"


class Preview(StrEnum):
    """How a terminal is given a picture."""

    KITTY = "kitty"
    ITERM = "iterm"
    NONE = "none"


def detected(variables: TerminalVariables) -> Preview:
    """What a terminal can do that says which one it is; nothing where it is not sure.

    tmux and screen keep such pictures to themselves, so there is none inside them.
    """
    if variables.tmux or variables.term.startswith(("tmux", "screen")):
        return Preview.NONE
    if variables.kitty_window_id or variables.term in ("xterm-kitty", "xterm-ghostty"):
        return Preview.KITTY
    if variables.term_program in ("iTerm.app", "WezTerm") or variables.lc_terminal == "iTerm2":
        return Preview.ITERM
    return Preview.NONE


@contextmanager
def previews(kind: Preview, stream: TextIO) -> Iterator[Display]:
    """Pictures and a line below them, on a terminal that shows pictures of this kind."""
    area = _Area(kind, stream)
    try:
        yield area
    finally:
        area.clear()


class _Area:
    """Some rows of the terminal from the cursor on, which stays at their top."""

    def __init__(self, kind: Preview, stream: TextIO) -> None:
        self._kind = kind
        self._stream = stream
        self._rows = 0
        self._last: str | None = None

    def show(self, stage: Stage) -> None:
        if stage.preview is not None and stage.preview != self._last:
            self._last = stage.preview
            picture = _png_of(stage.preview)
            if picture is not None:
                self._reserve(max(1, min(_ROWS, shutil.get_terminal_size().lines - 2)))
                self._write(_SAVE + placed(self._kind, picture, self._rows) + _RESTORE)
        counted = f" {stage.step}/{stage.steps}" if stage.steps and not stage.percent else ""
        columns = shutil.get_terminal_size().columns - 1
        line = printable(stage.words + counted)[:columns]
        down = f"\x1b[{self._rows}B" if self._rows else ""
        self._write(f"{_SAVE}{down}\r{_CLEAR_LINE}{line}{_RESTORE}")

    def clear(self) -> None:
        forgotten = _kitty("", f"a=d,d=I,i={_IMAGE}") if self._kind is Preview.KITTY else ""
        # A signal in the middle of a picture left the terminal waiting for its end.
        self._write(f"\x1b\\{forgotten}\r{_CLEAR_BELOW}")

    def _reserve(self, rows: int) -> None:
        """Scroll once for all rows, so that nothing moves while they are drawn."""
        if self._rows:
            return
        self._rows = rows
        self._write("\r" + _CLEAR_BELOW + "\n" * rows + f"\x1b[{rows}A")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def placed(kind: Preview, picture: bytes, rows: int) -> str:
    """What draws a PNG at the cursor, so many rows high and as wide as it then is.

    Kitty: https://sw.kovidgoyal.net/kitty/graphics-protocol/; with ``q=2`` the terminal answers
    nothing that would become somebody's input. iTerm2: https://iterm2.com/documentation-images.html.
    """
    text = base64.b64encode(picture).decode()
    if kind is Preview.KITTY:
        return _kitty(text, f"a=T,f=100,i={_IMAGE},p=1,r={rows},C=1")
    if kind is Preview.ITERM:
        told = f"inline=1;size={len(picture)};height={rows};preserveAspectRatio=1"
        return f"\x1b]1337;File={told};doNotMoveCursor=1:{text}\x07"
    return ""


def _kitty(text: str, keys: str) -> str:
    """One command, in as many pieces as it takes."""
    pieces = [text[start : start + _CHUNK] for start in range(0, len(text), _CHUNK)] or [""]
    more = ["1"] * (len(pieces) - 1) + ["0"]
    heads = [f"{keys},q=2", *["q=2"] * (len(pieces) - 1)]
    return "".join(
        f"\x1b_G{head},m={rest};{piece}\x1b\\"
        for head, rest, piece in zip(heads, more, pieces, strict=True)
    )


def _png_of(url: str) -> bytes | None:
    """The picture of a data URL as a PNG, which every such terminal reads; None: it is none, or
    there is nothing here to convert it with."""
    try:
        data = base64.b64decode(url.partition(",")[2], validate=True)
    except binascii.Error:
        return None
    if data.startswith(_PNG):
        return data
    with suppress(ImportError, OSError):
        from PIL import Image  # noqa: PLC0415 - it comes with the engine, and help needs none

        target = io.BytesIO()
        with Image.open(io.BytesIO(data)) as picture:
            picture.save(target, "PNG")
        return target.getvalue()
    return None
