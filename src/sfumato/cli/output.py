"""What the commands print: results to standard output, everything else to standard error."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict

import typer

from sfumato.core.errors import SfumatoError
from sfumato.core.job import Timings


def print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def printable(text: str) -> str:
    """Text from elsewhere, with nothing left in it that could steer a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns under headers; on a terminal the last column is cut to the width."""
    cells = [headers, *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headers))]
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for row in cells:
        padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        typer.echo("  ".join(padded).rstrip()[:room])


def describe_timings(timings: Timings) -> str:
    """As ``queued 0.00 s · starting 2.12 s · … · storing 0.03 s``."""
    return " · ".join(f"{phase} {spent:.2f} s" for phase, spent in asdict(timings).items())


def print_error(line: str) -> None:
    typer.secho(f"Error: {printable(line)}", fg=typer.colors.RED, err=True)


def as_error_line(error: Exception) -> str | None:
    """One line for an error that was raised on purpose, ending in its stable code; None for a
    defect, which deserves its traceback."""
    from sfumato.client.errors import ClientError  # noqa: PLC0415 - only when something failed

    if isinstance(error, SfumatoError | ClientError):
        return f"{error.message}{_accepted(error)} ({error.code})"
    if isinstance(error, OSError) and error.strerror:
        place = f" {error.filename}:" if error.filename else ""
        return f"{place} {error.strerror}".strip()
    return None


def _accepted(error: object) -> str:
    accepted: str | list[str] | None = getattr(error, "accepted", None)
    if not accepted:
        return ""
    return f" Accepted: {accepted if isinstance(accepted, str) else ', '.join(accepted)}."
